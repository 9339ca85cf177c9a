package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"sluice/bench/trial"
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

// Options are the settings of rows.
type Options struct {
	Seed   uint64 // of the random choices; a random one when 0
	Policy string // the gateway's --slow-policy in rows with slow clients: close (also "") or skip

	slow bool // the gateway is slow by design, as one with -race
}

// Run is one row under way.
type Run struct {
	*trial.Run
	Options
	ctx    context.Context
	result *trial.Result
	random *rand.Rand // of the caller's goroutine only
	began  time.Time  // what stamps count from
	filler string     // printable, of random text, for payloads

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

// trial returns the row as a trial with these options, when it is run.
func (row Row) trial(o *Options) trial.Trial {
	return trial.Trial{Number: row.Number, Name: row.Name, What: row.What, Run: func(t *trial.Run) error {
		return row.Run(newRun(t, row, *o))
	}}
}

func newRun(t *trial.Run, row Row, o Options) *Run {
	if o.Seed == 0 {
		o.Seed = rand.Uint64() >> 1
	}
	t.Result.Seed = o.Seed
	r := &Run{Run: t, Options: o, ctx: t.Context, result: t.Result, random: rand.New(rand.NewPCG(o.Seed, uint64(row.Number))), began: t.Began,
		witnesses: map[string]*witness{}, returns: newReturns()}
	r.filler = randomText(r.random, 4<<20)
	r.Say("seed %d", o.Seed)
	t.AtEnd(func() {
		l := r.ledger() // no goroutine is left
		if r.result.Verdict == trial.Fail {
			r.WriteFile("ledger.json", must(json.Marshal(l))) // of plain values: it cannot fail
		}
	})
	return r
}

// must and noError are those of package trial, and so is Param.
func must[T any](v T, err error) T { return trial.Must(v, err) }
func noError(err error)            { trial.NoError(err) }

// Param notes a parameter and returns it.
func Param[T any](r *Run, name string, short, long T) T { return trial.Param(r.Run, name, short, long) }

// judgesSpeed reports whether times and memory are judged: not in the short form, which
// runs beside other tests.
func (r *Run) judgesSpeed() bool { return !r.Short }

// Check notes whether something holds in the phase, with what was seen.
func (r *Run) Check(name string, holds bool, format string, args ...any) {
	r.Run.Check(r.phase+name, holds, format, args...)
}

// note notes a check of the phase.
func (r *Run) note(c trial.Check) {
	c.Name = r.phase + c.Name
	r.Note(c)
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
	return r.judge(g, func(trial.Check) bool { return true })
}

// JudgeClients is Judge without the counters, for clients of which others than this
// gateway had a part.
func (r *Run) JudgeClients(g *Gateway) error {
	return r.judge(g, func(c trial.Check) bool { return !strings.HasPrefix(c.Name, "C6") })
}

// Phase begins a part of a row, whose checks bear its name: of what was judged nothing
// is judged again.
func (r *Run) Phase(name string) {
	r.clients, r.orders, r.phase = nil, nil, name+": "
	r.authors, r.witnesses, r.returns = nil, map[string]*witness{}, newReturns()
}

func (r *Run) judge(g *Gateway, matters func(trial.Check) bool) error {
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

// randomText returns n printable bytes that need no escape in JSON.
func randomText(random *rand.Rand, n int) string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
	p := make([]byte, n)
	for i := range p {
		p[i] = letters[random.IntN(len(letters))]
	}
	return string(p)
}
