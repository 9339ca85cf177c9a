package chaos

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
	"sync/atomic"
	"time"
)

// Row is one fault program.
type Row struct {
	Number int
	Name   string
	What   string // one line: the fault and what must hold
	Slow   bool   // has slow clients, whose fate depends on the slow policy
	Builds bool   // runs the go command, which may have to compile first
	Run    func(*Run) error
}

var rows []Row

// register adds a row. It is called once in each row's file.
func register(r Row) {
	rows = append(rows, r)
	slices.SortFunc(rows, func(a, b Row) int { return a.Number - b.Number })
}

// Rows returns all rows in the order of their numbers.
func Rows() []Row { return slices.Clone(rows) }

// Options are the settings of a run.
type Options struct {
	Short    bool          // seconds and hundreds of clients instead of minutes and thousands
	Seed     uint64        // of the random choices; a random one when 0
	Bin      string        // the gateway's binary; this program when empty
	Dir      string        // for logs and ledgers; a temporary one when empty, which is kept only after a failure
	Policy   string        // the gateway's --slow-policy in rows with slow clients: close (also "") or skip
	Deadline time.Duration // for one row; 15 minutes, with Short 45 s (5 minutes for rows that compile)
	Progress io.Writer     // gets a line for each step; none when nil

	part int // of the long form's sizes only one in so many, and no judgement of speed and memory; 0 and 1: all
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

	measuring atomic.Pointer[[]*Meter] // replaced as a whole
}

// Do runs one row. The error says that the row could not be started; a gateway that
// misbehaves is a result with the verdict FAIL.
func Do(ctx context.Context, row Row, o Options) (*Result, error) {
	if o.Seed == 0 {
		o.Seed = rand.Uint64() >> 1
	}
	if o.Deadline == 0 {
		o.Deadline = 15 * time.Minute
		if o.Short {
			o.Deadline = 45 * time.Second
		}
		if o.Short && row.Builds {
			o.Deadline = 5 * time.Minute
		}
	}
	kept := o.Dir != ""
	if err := o.place(row); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Deadline, fmt.Errorf("the row took longer than %v", o.Deadline))
	defer cancel()
	r := &Run{Options: o, ctx: ctx, result: newResult(row, o), random: rand.New(rand.NewPCG(o.Seed, uint64(row.Number))), began: time.Now()}
	r.measuring.Store(new([]*Meter))
	r.filler = randomText(r.random, 4<<20)
	r.Say("row %d, %s: seed %d, files in %s", row.Number, row.Name, o.Seed, o.Dir)
	err := row.Run(r)
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

// place settles the directory and the binary.
func (o *Options) place(row Row) (err error) {
	if o.Bin == "" {
		if o.Bin, err = os.Executable(); err != nil {
			return fmt.Errorf("cannot find this program to start gateways: %w; specify --bin", err)
		}
	}
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
// second.
func Param[T any](r *Run, name string, short, long T) T {
	v := long
	if r.Short {
		v = short
	}
	r.result.Parameters[name] = fmt.Sprint(v)
	return v
}

// Size is Param for how many of something there are: a row that is run in part has
// only a part of the long form's.
func Size(r *Run, name string, short, long int) int {
	return Param(r, name, short, long/max(r.part, 1))
}

// judgesSpeed reports whether times and memory are judged: not in the short form, which
// runs beside other tests, nor with a binary that is slow by design.
func (r *Run) judgesSpeed() bool { return !r.Short && r.part <= 1 }

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
func (r *Run) Phase(name string) { r.clients, r.orders, r.phase = nil, nil, name+": " }

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
	for _, g := range r.gateways {
		g.Stop()
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
