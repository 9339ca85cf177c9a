package bench

import (
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

	"sluice/poller"
)

// HostileHandshakes, HostileFrames and HostileResets attack a server. Each case is a
// connection of its own. Its bytes follow from the run's seed and the case's number alone,
// and the right answer is known before they are sent. A wrong answer is a fault of the
// server or of the checkers here; both are worth knowing. The checkers are written from
// the RFCs, with net/http and gobwas/ws, and know the server's limits from the options.

// HostileOptions are the settings of [HostileHandshakes], [HostileFrames] and
// [HostileResets]. Zero means the default. All cases follow from Seed: the same seed and
// number is the same case again.
type HostileOptions struct {
	Options
	Count       int    // cases; 1,000,000
	Concurrency int    // cases at a time; 64
	Seed        uint64 // of the cases; a random one
	First       int    // number of the first case; with a Count of 1, only that case is sent
	MessageMax  int    // of HostileFrames: the longest message in bytes that the server accepts; 64 KiB
	Speak       string // of HostileResets: one of Tongues, or all; all
}

func (o *HostileOptions) setDefaults() {
	o.Options.setDefaults()
	setDefault(&o.Count, 1_000_000)
	setDefault(&o.Concurrency, 64)
	setDefault(&o.MessageMax, 64<<10)
	for o.Seed == 0 {
		o.Seed = rand.Uint64() >> 11 // so that every reader of JSON gets all its digits
	}
	o.Concurrency = min(o.Concurrency, max(o.Count, 1))
}

func (o *HostileOptions) check(f *faults) {
	f.atLeast("--count", o.Count, 1)
	f.atLeast("--first", o.First, 0)
	f.atLeast("--max-message", o.MessageMax, 125)
	if o.Speak != "" && o.Speak != "all" && !slices.ContainsFunc(tongues, func(t tongue) bool { return t.name == o.Speak }) {
		f.add("--speak is %q: use all or one of %s", o.Speak, strings.Join(Tongues(), ", "))
	}
	if o.Concurrency < 1 || o.Concurrency > 10_000 {
		f.add("--concurrency is %d: use 1 to 10000", o.Concurrency)
	}
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
	HostileOptions
	// Set before the cases begin.
	target target
	play   func(a *attacker, r *rand.Rand, n int) error

	// Atomic.
	begun, done, wrong atomic.Int64

	mu     sync.Mutex
	shown  []string         // guarded by mu
	err    error            // guarded by mu
	counts map[string]int64 // guarded by mu; of all attackers, when they have ended
	codes  map[string]int64 // guarded by mu; likewise
}

// attacker plays one case after the other, on a goroutine of its own.
type attacker struct {
	*attack
	counts map[string]int64 // by metric
	codes  map[string]int64 // Close frames
}

// wrongAnswer says what was wrong with an answer.
type wrongAnswer struct{ text string }

func (w wrongAnswer) Error() string { return w.text }

func wrongf(format string, args ...any) error { return wrongAnswer{fmt.Sprintf(format, args...)} }

// hostile runs a scenario of which play is one case.
func hostile(ctx context.Context, scenario string, o HostileOptions, play func(*attacker, *rand.Rand, int) error) (*Result, error) {
	var f faults
	t := o.target(&f)
	o.check(&f)
	if err := f.err(); err != nil {
		return nil, err
	}
	server, err := watch(o.PID)
	if err == nil {
		err = checkDescriptors(o.Concurrency)
	}
	if err != nil {
		return nil, err
	}
	k := &attack{HostileOptions: o, target: t, play: play, counts: map[string]int64{}, codes: map[string]int64{}}
	progress := newProgress(o.Progress)
	defer progress.stop()
	progress.show(func() string {
		return fmt.Sprintf("%s of %s cases, %d wrong responses (--seed %d)", thousands(float64(k.done.Load()), 0), thousands(float64(k.Count), 0), k.wrong.Load(), k.Seed)
	})
	res := newResult(scenario)
	begin, serverBefore := time.Now(), server.cpu()
	own, _ := poller.ProcessCPU(0) // ignored: a process may always ask for its own time
	k.run(ctx)
	elapsed := time.Since(begin).Seconds()
	ownAfter, _ := poller.ProcessCPU(0) // ignored: as above
	res.set("cases", float64(k.done.Load()))
	res.set("wrong", float64(k.wrong.Load()))
	res.set("cases_per_second", float64(k.done.Load())/elapsed)
	res.set("elapsed", elapsed)
	res.set("generator_cpu_percent", 100*(ownAfter-own).Seconds()/elapsed)
	if server != nil {
		cpu := (server.cpu() - serverBefore).Seconds()
		res.set("server_cpu", cpu)
		res.set("server_cpu_percent", 100*cpu/elapsed)
		if rss, err := server.rss(); err == nil { // else it has died, which shows in everything else
			res.set("server_rss", float64(rss))
		}
	}
	res.setHandshakes(k.target)
	for name, n := range k.counts {
		res.set(name, float64(n))
	}
	for code, n := range k.codes {
		res.Closes[code] = n
	}
	res.Notes = append(res.Notes, fmt.Sprintf("--seed %d --first N --count 1 repeats case N", k.Seed))
	res.Notes = append(res.Notes, k.shown...)
	return res.end(ctx, k.verdict())
}

func (k *attack) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range k.Concurrency {
		wg.Go(func() {
			a := &attacker{attack: k, counts: map[string]int64{}, codes: map[string]int64{}}
			for ctx.Err() == nil {
				i := k.begun.Add(1) - 1
				if i >= int64(k.Count) {
					break
				}
				if !a.one(k.First + int(i)) {
					cancel()
				}
			}
			k.add(a)
		})
	}
	wg.Wait()
	if k.err != nil || ctx.Err() != nil {
		return
	}
	c, err := (&attacker{attack: k}).dial(0)
	if err != nil { // the last case was too much for it
		k.err = fmt.Errorf("%w: %w", errGone, err)
		return
	}
	c.Close() // ignored: nothing was sent
}

// one plays a case and reports whether there is a point in going on.
func (a *attacker) one(n int) bool {
	err := a.play(a, rand.New(rand.NewPCG(a.Seed, uint64(n))), n)
	if err == nil {
		a.done.Add(1)
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !errors.As(err, new(wrongAnswer)) {
		a.err = fmt.Errorf("case %d: %w: %w", n, errGone, err)
		return false
	}
	a.done.Add(1)
	if len(a.shown) < wrongShown {
		a.shown = append(a.shown, fmt.Sprintf("case %d: %v", n, err))
	}
	return a.wrong.Add(1) < wrongMost
}

func (k *attack) add(a *attacker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, n := range a.counts {
		k.counts[name] += n
	}
	for code, n := range a.codes {
		k.codes[code] += n
	}
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
func (a *attacker) dial(n int) (victim, error) {
	c, err := a.connect(n)
	if err != nil || a.target.url.Scheme != "wss" {
		return c, err
	}
	secure, err := a.target.secured(c)
	if err != nil {
		c.Close() // ignored: the error that matters is err
		return nil, err
	}
	return secure.(victim), nil
}

// connect opens a TCP connection for case n. It will be closed with a reset, so that
// neither side keeps the pair of addresses for a minute.
func (a *attacker) connect(n int) (*net.TCPConn, error) {
	d := net.Dialer{KeepAlive: -1, Timeout: a.Timeout}
	if a.target.sources > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n%a.target.sources))}
	}
	c, err := d.Dial("tcp", a.target.addr)
	if err != nil {
		return nil, err
	}
	c.(*net.TCPConn).SetLinger(0)            // ignored: it then costs a port for a minute
	c.SetDeadline(time.Now().Add(a.Timeout)) // ignored: a new socket can have one
	return c.(*net.TCPConn), nil
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
