// Package hostile attacks a server with malformed input and checks every response: it is the
// attack generator behind `go run ./bench/chaos hostile`. Each case is a connection of its own. Its
// bytes follow from the run's seed and the case's number alone, and the right answer is known before
// they are sent. A wrong answer is a fault of the server or of the checkers here; both are worth
// knowing. The checkers are written from the RFCs, with net/http and gobwas/ws, and know the
// server's limits from the options.
//
// request.go and session.go make the input, oracle.go and judge.go know the right answers, and
// handshakes.go, frames.go and resets.go are the attacks. It is not in package bench because that is
// part of sluice's binary, and shares its runs, reports and TLS.
package hostile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/bench"
)

// Options are the settings of an attack. Zero means the default. All cases follow from Seed: the
// same seed and number is the same case again.
type Options struct {
	bench.Options
	Count       int    // cases; 1,000,000
	Concurrency int    // cases at a time; 64
	Seed        uint64 // of the cases; a random one
	First       int    // number of the first case; with a Count of 1, only that case is sent
	MessageMax  int    // of Frames: the longest message in bytes that the server accepts; 64 KiB
	Speak       string // of Resets: one of Tongues, or all; all
}

func (o *Options) setDefaults() {
	o.Count = cmp.Or(o.Count, 1_000_000)
	o.Concurrency = min(cmp.Or(o.Concurrency, 64), max(o.Count, 1))
	o.MessageMax = cmp.Or(o.MessageMax, 64<<10)
	for o.Seed == 0 {
		o.Seed = rand.Uint64() >> 11 // so that every reader of JSON gets all its digits
	}
}

func (o *Options) check(f *bench.Faults) {
	f.AtLeast("--count", o.Count, 1)
	f.AtLeast("--first", o.First, 0)
	f.AtLeast("--max-message", o.MessageMax, 125)
	if o.Speak != "" && o.Speak != "all" && !slices.ContainsFunc(tongues, func(t tongue) bool { return t.name == o.Speak }) {
		f.Add("--speak is %q: use all or one of %s", o.Speak, strings.Join(Tongues(), ", "))
	}
	f.Between("--concurrency", o.Concurrency, 1, 10_000)
}

const (
	// wrongShown is how many wrong responses a result describes.
	wrongShown = 20
	// wrongMost ends a run that has nothing more to show.
	wrongMost = 1000
)

// errGone ends a run: the server does not take connections.
var errGone = errors.New("the server stopped responding")

// attack is a run under way.
type attack struct {
	Options
	// Set before the cases begin.
	run  *bench.Run
	play func(k *attack, r *rand.Rand, n int) error

	// Atomic.
	begun, done, wrong atomic.Int64

	mu     sync.Mutex
	shown  []string         // guarded by mu
	err    error            // guarded by mu
	counts map[string]int64 // guarded by mu; by metric
	codes  map[string]int64 // guarded by mu; Close frames
}

// wrongAnswer says what was wrong with an answer.
type wrongAnswer struct{ text string }

func (w wrongAnswer) Error() string { return w.text }

func wrongf(format string, args ...any) error { return wrongAnswer{fmt.Sprintf(format, args...)} }

// measure runs a scenario of which play is one case.
func measure(ctx context.Context, scenario string, o Options, play func(*attack, *rand.Rand, int) error) (*bench.Result, error) {
	o.setDefaults()
	run, err := o.Begin(scenario, o.Concurrency, o.check)
	if err != nil {
		return nil, err
	}
	res := run.Result
	k := &attack{Options: o, run: run, play: play, counts: map[string]int64{}, codes: res.Closes}
	run.Show(func() string {
		return fmt.Sprintf("%d of %d cases, %d wrong responses (--seed %d)", k.done.Load(), k.Count, k.wrong.Load(), k.Seed)
	})
	begin, before := time.Now(), run.Usage()
	k.playAll(ctx)
	took := time.Since(begin)
	run.SetUsage(run.Since(before), took, "", 0)
	k.counts["cases"], k.counts["wrong"] = k.done.Load(), k.wrong.Load()
	res.SetCounts(k.counts)
	res.Set("cases_per_second", float64(k.done.Load())/took.Seconds())
	res.Set("elapsed", took.Seconds())
	res.Notes = append(res.Notes, fmt.Sprintf("--seed %d --first N --count 1 repeats case N", k.Seed))
	res.Notes = append(res.Notes, k.shown...)
	return run.End(ctx, k.verdict())
}

func (k *attack) playAll(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range k.Concurrency {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := k.begun.Add(1) - 1
				if i >= int64(k.Count) {
					return
				}
				if !k.one(k.First + int(i)) {
					cancel()
				}
			}
		})
	}
	wg.Wait()
	if k.err != nil || ctx.Err() != nil {
		return
	}
	c, err := k.dial(0)
	if err != nil { // the last case was too much for it
		k.err = fmt.Errorf("%w: %w", errGone, err)
		return
	}
	c.Close() // ignored: nothing was sent
}

// one plays a case and reports whether there is a point in going on.
func (k *attack) one(n int) bool {
	err := k.play(k, rand.New(rand.NewPCG(k.Seed, uint64(n))), n)
	if err == nil {
		k.done.Add(1)
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !errors.As(err, new(wrongAnswer)) {
		k.err = fmt.Errorf("case %d: %w: %w", n, errGone, err)
		return false
	}
	k.done.Add(1)
	if len(k.shown) < wrongShown {
		k.shown = append(k.shown, fmt.Sprintf("case %d: %v", n, err))
	}
	return k.wrong.Add(1) < wrongMost
}

// count counts a case under a metric.
func (k *attack) count(metric string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts[metric]++
}

// verdict is an error unless every answer was right.
func (k *attack) verdict() error {
	if n := k.wrong.Load(); n > 0 {
		return errors.Join(fmt.Errorf("%d wrong responses in %d cases (--seed %d)", n, k.done.Load(), k.Seed), k.err)
	}
	return k.err
}

// victim is a connection to the server.
type victim interface {
	net.Conn
	CloseWrite() error
}

// dial opens the connection of case n.
func (k *attack) dial(n int) (victim, error) {
	c, err := k.connect(n)
	if err != nil || k.run.URL().Scheme != "wss" {
		return c, err
	}
	secure, err := k.run.Secure(c)
	if err != nil {
		c.Close() // ignored: the error that matters is err
		return nil, err
	}
	return secure.(victim), nil
}

// connect opens a TCP connection for case n. It will be closed with a reset, so that
// neither side keeps the pair of addresses for a minute.
func (k *attack) connect(n int) (*net.TCPConn, error) {
	c, err := k.run.Dial(n)
	if err != nil {
		return nil, err
	}
	c.SetLinger(0)                           // ignored: it then costs a port for a minute
	c.SetDeadline(time.Now().Add(k.Timeout)) // ignored: a new socket can have one
	return c, nil
}

// writeCut writes b in pieces. Its failure is not looked at: a server that has seen
// enough need not read the rest, and what it answered shows.
func writeCut(c net.Conn, r *rand.Rand, b []byte) {
	pieces := 1
	if r.IntN(2) == 0 {
		pieces += r.IntN(6)
	}
	for ; pieces > 1 && len(b) > 1; pieces-- {
		at := 1 + r.IntN(len(b)-1)
		if _, err := c.Write(b[:at]); err != nil {
			return
		}
		b = b[at:]
	}
	c.Write(b) // ignored: see above
}

// quoted shows bytes in a report, cut where they are many.
func quoted(b []byte) string {
	const most = 800
	if len(b) > most {
		return fmt.Sprintf("%q... (%d bytes)", b[:most], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// upgradeHead is the head of a plain upgrade request, with more fields.
func upgradeHead(target, host, fields string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + fields + "\r\n"
}

// register adds the figures of an attack to the tester's.
func register(scenario, title, cases string, more [][2]string, tables ...bench.Table) {
	first := bench.Table{Title: title, Rows: append([][2]string{{"cases", cases}, {"wrong", "wrong responses"}}, more...)}
	what, _, _ := strings.Cut(cases, ",")
	bench.Register(scenario, what, append([]bench.Table{first}, tables...)...)
}
