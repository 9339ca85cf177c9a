package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Row is one fault program.
type Row struct {
	Number int
	Name   string
	What   string // one line: the fault and what must hold
	Run    func(*Run) error
	Slow   bool // has slow clients, whose fate depends on the slow policy
}

// rows are all rows, in the order of their numbers.
var rows = []Row{
	{1, "churn", "connections open and close, half with a closing handshake and half with a reset; none fails, and nothing leaks", churn, false},
	{2, "hostile handshakes", "nearly all upgrade requests are malformed; each gets the correct response and is counted under it", hostileHandshakes, false},
	{3, "hostile frames", "each session commits one protocol violation, gets the right close code and is counted by its reason", hostileFrames, false},
	{8, "stalled readers", "a fifth of the readers stop reading; they are disconnected or skipped within 25 s, and the others lose nothing", stalledReaders, true},
	{9, "trickling readers", "each reader is about as fast as the channel; it either keeps up or is notified of the messages it missed", tricklingReaders, true},
	{10, "killed node", "one of three gateways is killed repeatedly; its clients come back to the others, recover what they missed, and miss nothing silently", killedNode, false},
	{12, "killed NATS server", "one of three NATS servers is killed repeatedly; publishers get errors and no false receipts, clients miss nothing silently and soon have all", killedServer, false},
	{13, "stopped gateway", "a gateway is stopped repeatedly with SIGSTOP, alone and as one of several, and a NATS server; no client is disconnected because of a gateway's own pause, and nothing is lost or out of order", stoppedGateway, false},
	{14, "partition", "the link between a gateway and its NATS servers is cut in both directions and in either one; clients miss nothing silently", partition, false},
	{15, "proxy chaos", "a proxy adds one-byte segments, delays, resets and half closes; clients that were cut off reconnect and miss nothing silently", proxyChaos, false},
	{16, "no descriptors", "more clients connect than there are file descriptors; the gateway refuses clients quickly, does not spin, and accepts again when clients leave", noDescriptors, false},
	{17, "memory limit", "readers of large messages stall in many channels; the gateway stays within its memory limit, and other readers lose nothing", memoryLimit, false},
	{18, "reconnect storm", "all clients reconnect at once, after a kill -9 and after their connections were cut; all are back soon, and each recovers the messages it missed or is notified of a gap", reconnectStorm, false},
	{19, "join race", "clients join from a position in the past while messages are published; none sees a missing, repeated or wrong message", joinRace, false},
	{20, "lost histories", "histories are lost repeatedly, with a data directory and with the NATS servers' streams; every client is notified, and none recovers wrongly", lostHistories, false},
	{21, "half-open", "peers vanish as if a cable had been pulled; their connections are soon closed, and their file descriptors are freed", halfOpen, false},
	{24, "soak", "three gateways and three NATS servers under load; gateways and servers are killed one by one, then there is no quorum; no gap is silent, and channels without history go on", soak, false},
	{26, "held back", "a slow reader with its own wire format, then new connections that never read, do not slow down the channel for healthy readers", heldBack, false},
	{27, "large messages", "many readers receive large messages, and for a moment none of them reads; no client is disconnected, and buffers stay within --max-buffered", largeMessages, false},
}

// Options are the settings of a run.
type Options struct {
	Short    bool              // seconds and hundreds of clients instead of minutes and thousands
	Seed     uint64            // of the random choices; a random one when 0
	Bin      string            // the gateway's binary
	Dir      string            // for logs and ledgers; a temporary one when empty, which is kept only after a failure
	Policy   string            // the gateway's --slow-policy in rows with slow clients: close (also "") or skip
	Set      map[string]string // parameters of rows that differ
	Deadline time.Duration     // for one row; 40 minutes, with Short 90 s
	Progress io.Writer         // gets a line for each step; none when nil

	slow bool // the gateway is slow by design, as one with -race
}

// Run is one row under way.
type Run struct {
	Options
	ctx    context.Context
	result *Result
	random *rand.Rand // of the caller's goroutine only
	began  time.Time  // what stamps count from
	filler string     // printable, of random text, for payloads

	gateways []*Gateway
	clients  []*Client
	orders   []*Order
	counters map[string]float64 // of the gateway that was judged
	phase    string             // before the names of checks
	working  sync.WaitGroup     // goroutines of clients

	authors  []*author // all of all crews
	clusters []*Cluster
	newNATS  bool // only the module's nats-server, where there is one

	measuring sync.Mutex
	// Guarded by measuring.
	meters    []*Meter
	witnesses map[string]*witness // by channel
	returns   *hdr.Histogram      // milliseconds in which clients came back
}

// Do runs one row. The error says that the row could not be started; a gateway that
// misbehaves is a result with the verdict FAIL.
func Do(ctx context.Context, row Row, o Options) (*Result, error) {
	if o.Seed == 0 {
		o.Seed = rand.Uint64() >> 1
	}
	if o.Deadline == 0 {
		o.Deadline = 40 * time.Minute
		if o.Short {
			o.Deadline = 90 * time.Second
		}
	}
	kept := o.Dir != ""
	if err := o.place(row); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Deadline, fmt.Errorf("the row took longer than %v", o.Deadline))
	defer cancel()
	r := &Run{Options: o, ctx: ctx, result: newResult(row, o), random: rand.New(rand.NewPCG(o.Seed, uint64(row.Number))), began: time.Now(),
		witnesses: map[string]*witness{}, returns: newReturns()}
	r.filler = randomText(r.random, 4<<20)
	r.Say("row %d, %s: seed %d, files in %s", row.Number, row.Name, o.Seed, o.Dir)
	err := r.run(row)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	r.result.settle(err)
	if r.result.Verdict == Fail {
		r.leave()
		kept = true
	}
	r.end()
	if !kept {
		r.result.Dir = ""
		os.RemoveAll(o.Dir) // ignored: a temporary directory
	}
	return r.result, nil
}

// stop is what must and noError panic with, on the row's own goroutine.
type stop struct{ error }

// must returns v, and ends the row if there is an error.
func must[T any](v T, err error) T {
	noError(err)
	return v
}

// noError ends the row if there is an error.
func noError(err error) {
	if err != nil {
		panic(stop{err})
	}
}

// run runs the row and returns the error that has ended it.
func (r *Run) run(row Row) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stop:
			err = p.error
		default:
			panic(p)
		}
	}()
	return row.Run(r)
}

// place settles the directory.
func (o *Options) place(row Row) (err error) {
	if o.Dir == "" {
		o.Dir, err = os.MkdirTemp("", fmt.Sprintf("sluice-chaos-%d-", row.Number))
	} else {
		o.Dir = filepath.Join(o.Dir, fmt.Sprintf("row-%d", row.Number))
		err = os.MkdirAll(o.Dir, 0o755)
	}
	if err != nil {
		return fmt.Errorf("create the directory for logs and ledgers: %w; specify --dir", err)
	}
	return nil
}

// Say writes a line of progress.
func (r *Run) Say(format string, args ...any) {
	if r.Progress != nil {
		fmt.Fprintf(r.Progress, "%7.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// Param notes a parameter and returns it back: the first in the short form, else the
// second, unless the options set another one.
func Param[T any](r *Run, name string, short, long T) T {
	v := long
	if r.Short {
		v = short
	}
	if text, ok := r.Set[name]; ok {
		noError(setParam(&v, name, text))
	}
	r.result.Parameters[name] = fmt.Sprint(v)
	return v
}

// setParam reads a number or a time.
func setParam(v any, name, text string) (err error) {
	if d, ok := v.(*time.Duration); ok {
		*d, err = time.ParseDuration(text)
	} else {
		_, err = fmt.Sscan(text, v)
	}
	if err != nil {
		return fmt.Errorf("--set %s=%s: %w", name, text, err)
	}
	return nil
}

// judgesSpeed reports whether times and memory are judged: not in the short form, which
// runs beside other tests.
func (r *Run) judgesSpeed() bool { return !r.Short }

// Count notes a figure.
func (r *Run) Count(name string, v float64) { r.result.Counts[name] = v }

// Check notes whether something holds, with what was seen.
func (r *Run) Check(name string, holds bool, format string, args ...any) {
	c := Check{name, Pass, fmt.Sprintf(format, args...)}
	if !holds {
		c.Verdict = Fail
	}
	r.note(c)
}

func (r *Run) note(c Check) {
	c.Name = r.phase + c.Name
	r.result.Checks = append(r.result.Checks, c)
	r.Say("%s %s: %s", c.Verdict, c.Name, c.Detail)
}

// Await waits until a condition holds: false when it did not in that time. It is
// looked at every 20 ms, because what is waited for is in another process.
func (r *Run) Await(within time.Duration, condition func() bool) bool {
	end := time.Now().Add(within)
	for !condition() {
		if time.Now().After(end) || r.Pause(20*time.Millisecond) != nil {
			return false
		}
	}
	return true
}

// Pause is time that belongs to the row: a load that lasts, a fault that lasts.
func (r *Run) Pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// Settle waits until every client that is connected has the last publication, at
// most so long. Clients that do not are the concern of Judge.
func (r *Run) Settle(within time.Duration) {
	last := map[string]uint64{}
	for _, o := range r.orders {
		last[o.Channel] = o.Last()
	}
	r.Await(within, func() bool {
		return !slices.ContainsFunc(r.clients, func(c *Client) bool {
			return c.connected.Load() && c.last.Load() < last[c.account.Channel]
		})
	})
}

// letGoWithin is how long the gateway may hold a connection that its client has ended.
const letGoWithin = 10 * time.Second

// Judge ends the clients and has the ledgers judged against the gateway's
// counters, which are read when it has let go of all of them.
func (r *Run) Judge(g *Gateway) error {
	return r.judge(g, func(Check) bool { return true })
}

// JudgeClients is Judge without the counters, for clients of which others than this
// gateway had a part.
func (r *Run) JudgeClients(g *Gateway) error {
	return r.judge(g, func(c Check) bool { return !strings.HasPrefix(c.Name, "C6") })
}

// Phase begins a part of a row, whose checks bear its name: of what was judged nothing
// is judged again.
func (r *Run) Phase(name string) {
	r.clients, r.orders, r.phase = nil, nil, name+": "
	r.authors, r.witnesses, r.returns = nil, map[string]*witness{}, newReturns()
}

func (r *Run) judge(g *Gateway, matters func(Check) bool) error {
	l := r.ledger()
	var err error
	left := !r.Await(letGoWithin, func() bool {
		r.counters, err = g.Counters()
		return err != nil || r.counters["connections"] == 0
	})
	if err != nil {
		return err
	}
	r.Check("connections", !left, "%v left in the gateway after all clients have gone", r.counters["connections"])
	l.Counters = r.counters
	for _, c := range Judge(l) {
		if matters(c) {
			r.note(c)
		}
	}
	r.tell(l)
	return nil
}

// ledger ends all clients and returns what they and the publishers wrote down.
func (r *Run) ledger() *Ledger {
	for _, c := range r.clients {
		c.finish()
	}
	r.working.Wait()
	l := &Ledger{Orders: r.orders, Counters: r.counters}
	for _, c := range r.clients {
		l.Clients = append(l.Clients, c.account)
	}
	return l
}

// tell notes the counts that every row has.
func (r *Run) tell(l *Ledger) {
	var published, received, told, broken, resumed, gaps int
	for _, o := range l.Orders {
		published += len(o.Hashes)
	}
	for i := range l.Clients {
		a := &l.Clients[i]
		received += int(a.received())
		told += a.ends(Closed, 1013)
		broken += a.ends(Broken, -1)
		resumed += a.ends(Resumed, -1)
		gaps += a.ends(Gap, -1)
	}
	for name, v := range map[string]int{"clients": len(l.Clients), "published": published, "received": received,
		"closed_1013": told, "cut_off": broken, "resumed": resumed, "gap_records": gaps} {
		r.Count(name, float64(v))
	}
}

// leave writes down what helps to understand a failure, while the gateways live.
func (r *Run) leave() {
	for _, g := range r.gateways {
		g.dump()
	}
	if err := errors.Join(writeJSON(filepath.Join(r.Dir, "ledger.json"), r.ledger()), writeJSON(filepath.Join(r.Dir, "result.json"), r.result)); err != nil {
		r.Say("the files about the failure are incomplete: %v", err)
	}
	r.Say("kept in %s: logs, ledger, and the gateways' goroutines", r.Dir)
}

// end leaves no process and no goroutine.
func (r *Run) end() {
	r.ledger()
	for _, c := range r.clusters {
		c.end()
	}
	for _, g := range r.gateways {
		g.Kill()
		if err := os.WriteFile(filepath.Join(r.Dir, g.name+".log"), []byte(g.Log.String()), 0o644); err != nil {
			r.Say("no log of %s: %v", g.name, err)
		}
	}
}

// randomText returns n printable bytes that need no escape in JSON.
func randomText(random *rand.Rand, n int) string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
	p := make([]byte, n)
	for i := range p {
		p[i] = letters[random.IntN(len(letters))]
	}
	return string(p)
}
