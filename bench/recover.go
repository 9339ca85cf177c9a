package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"sluice/poller"
)

// RecoverOptions are the settings of [Recover]. Zero means the default.
type RecoverOptions struct {
	Options
	Joins       int     // in total; 100,000
	Concurrency int     // clients at a time; 64
	Behind      int     // messages that a client has missed at most; 200
	Live        int     // new messages that it stays for after recovering; 20
	Rate        float64 // messages per second; 2,000
	PublishURL  string  // publish by POST to this URL instead of over WebSocket; none
	Size        int     // payload bytes; 64, at least SizeMin
}

func (o *RecoverOptions) setDefaults() {
	setDefault(&o.Protocol, JSON)
	o.Options.setDefaults()
	setDefault(&o.Joins, 100_000)
	setDefault(&o.Concurrency, 64)
	setDefault(&o.Behind, 200)
	setDefault(&o.Live, 20)
	setDefault(&o.Rate, 2000)
	setDefault(&o.Size, 64)
	o.Concurrency = min(o.Concurrency, max(o.Joins, 1))
}

func (o *RecoverOptions) check(f *faults) {
	if o.Protocol == Raw {
		f.add("--protocol is raw, which has no positions to recover from: use json, sse or centrifugo")
	}
	f.atLeast("--joins", o.Joins, 1)
	f.atLeast("--behind", o.Behind, 1)
	f.atLeast("--live", o.Live, 1)
	f.atLeast("--size", o.Size, o.Protocol.sizeMin())
	if o.Channels > 1 {
		f.add("--channels is %d: this scenario uses one channel", o.Channels)
	}
	if o.Concurrency < 1 || o.Concurrency > 10_000 {
		f.add("--concurrency is %d: use 1 to 10000", o.Concurrency)
	}
	if !(o.Rate > 0) {
		f.add("--rate must be above zero")
	}
}

// ledger is what a run knows of its channel: publication n of the run has the offset
// base+n. That one number says which payload belongs to an offset, for all of
// them, because there is one publisher.
type ledger struct {
	// Set before the joins begin.
	epoch string
	base  uint64

	// Atomic: the highest offset that a client has got.
	head atomic.Uint64
}

func (l *ledger) got(offset uint64) {
	for {
		head := l.head.Load()
		if offset <= head || l.head.CompareAndSwap(head, offset) {
			return
		}
	}
}

// recovery is a run under way.
type recovery struct {
	RecoverOptions
	target target
	result *Result
	server *process
	ledger ledger
	phase  phase
	clock  clock
	begun  atomic.Int64 // joins
	cancel context.CancelFunc

	mu       sync.Mutex
	latency  *hdr.Histogram // microseconds
	joins    int64          // complete
	failed   int64
	firstErr error
}

// publishedShareMin is the part of Rate below which a run is INVALID. Single messages
// may be late: no figure is measured from when they were due.
const publishedShareMin = 0.99

// failuresMost ends a run of which nothing good can come any more.
const failuresMost = 1000

// Recover measures recovery while messages go on being published: a client joins from a
// position in the past, gets what was published since then, stays for a while and leaves,
// over and over. Every offset and payload is checked. The error is as of [Fanout].
func Recover(ctx context.Context, o RecoverOptions) (*Result, error) {
	o.setDefaults()
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
	r := &recovery{
		RecoverOptions: o, target: t, result: newResult("recover"), server: server,
		phase: phase{mark: newMark().inPhase(1), streams: 1, count: publicationsMax},
		clock: newClock(), latency: newLatency(),
	}
	progress := newProgress(o.Progress)
	defer progress.stop()
	progress.show(func() string {
		return fmt.Sprintf("joined %s of %s", thousands(float64(min(r.begun.Load(), int64(r.Joins))), 0), thousands(float64(r.Joins), 0))
	})
	defer withThreads(o.Loops + 1)()
	err = r.run(ctx)
	return r.result.end(ctx, err)
}

// run publishes for as long as clients join.
func (r *recovery) run(outer context.Context) error {
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(outer)
	defer r.cancel()
	p, err := newPublisher(ctx, r.target, r.PublishURL)
	if err != nil {
		return err
	}
	defer p.close()
	scout, err := r.newScout(ctx)
	if err != nil {
		return err
	}
	a := &account{schedule: schedule{phase: r.phase, clock: r.clock, rate: r.Rate, size: r.Size, publishers: 1, object: r.target.audience != nil}, rate: r.Rate, sendings: make([]sending, 1)}
	a.start = r.clock.now()
	serverBefore := r.server.cpu()
	ownBefore, _ := poller.ProcessCPU(0) // ignored: a process may always ask for its own time
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.sendings[0] = a.publish(publishing, p, 0)
		if publishing.Err() == nil {
			r.cancel() // the clients would wait for what does not come
		}
	}()
	err = scout.find()
	clients := []*joiner{scout}
	if err == nil {
		clients = append(clients, r.joinAll(ctx)...)
	}
	stop()
	<-done
	a.elapsed = time.Duration(r.clock.now() - a.start)
	a.serverCPU = r.server.cpu() - serverBefore
	ownAfter, _ := poller.ProcessCPU(0) // ignored: as above
	a.generatorCPU = ownAfter - ownBefore
	a.published = int(a.sendings[0].published)
	r.report(a, clients)
	if e := a.sendings[0].err; e != nil {
		return e // what else failed then failed for that
	}
	return errors.Join(err, r.verdict())
}

// joinAll runs all clients to their end.
func (r *recovery) joinAll(ctx context.Context) []*joiner {
	var (
		clients []*joiner
		wg      sync.WaitGroup
	)
	for i := range r.Concurrency {
		j := r.newJoiner(i)
		clients = append(clients, j)
		wg.Go(func() { j.run(ctx) })
	}
	wg.Wait()
	return clients
}

// outcome takes what became of a join.
func (r *recovery) outcome(took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.joins++
		r.latency.RecordValue(min(took, latencyMax).Microseconds()) // ignored: within the bounds
		return
	}
	if r.failed++; r.firstErr == nil {
		r.firstErr = err
	}
	if r.failed == failuresMost {
		r.cancel()
	}
}

func (r *recovery) report(a *account, clients []*joiner) {
	res := r.result
	res.set("joins", float64(r.joins))
	res.set("failed", float64(r.failed))
	res.set("published", float64(a.published))
	var sum tally
	var recovered, live, wrong int64
	for _, j := range clients {
		recovered += j.recovered
		live += j.live
		wrong += j.wrong
		sum.holes += j.holes
		sum.repeats += j.repeats
		sum.gaps += j.gaps
		sum.foreign += j.foreign + j.stale
		for code, n := range j.closes {
			res.Closes[strconv.Itoa(int(code))] += n
		}
	}
	res.set("recovered", float64(recovered))
	res.set("live", float64(live))
	res.set("holes", float64(sum.holes))
	res.set("repeats", float64(sum.repeats))
	res.set("wrong", float64(wrong))
	res.set("gaps", float64(sum.gaps))
	res.set("foreign", float64(sum.foreign))
	res.setLatency("", r.latency)
	res.setHandshakes(r.target)
	res.set("elapsed", a.elapsed.Seconds())
	res.set("joins_per_second", float64(r.joins)/a.elapsed.Seconds())
	if r.server != nil {
		res.set("server_cpu", a.serverCPU.Seconds())
		res.set("server_cpu_percent", 100*a.serverCPU.Seconds()/a.elapsed.Seconds())
		if r.joins > 0 {
			res.set("server_cpu_per_join", a.serverCPU.Seconds()/float64(r.joins))
		}
		if rss, err := r.server.rss(); err == nil { // else it has died, and the figure is absent
			res.set("server_rss", float64(rss))
		}
	}
	res.setGenerator(a)
	rate := float64(a.published) / a.elapsed.Seconds()
	res.set("published_per_second", rate)
	if rate < publishedShareMin*r.Rate-1/a.elapsed.Seconds() { // one may be due as the run ends
		res.invalidate("only %.0f of %.0f messages per second were published: give the tester more CPU, or lower --rate or --concurrency", rate, r.Rate)
	}
	if sum.gaps > 0 {
		res.Notes = append(res.Notes, "gaps: the server keeps fewer messages than the clients missed. Raise its history (sluice serve --history), or lower --behind; the size of one recovery may also be limited")
	}
	if sum.foreign > 0 {
		res.Notes = append(res.Notes, "others publish on this channel, so payloads cannot be checked against offsets: use a separate channel (--path)")
	}
	if r.firstErr != nil {
		res.Notes = append(res.Notes, "first failure: "+r.firstErr.Error())
	}
}

// verdict tells of a run that shows nothing.
func (r *recovery) verdict() error {
	switch {
	case r.failed >= failuresMost:
		return fmt.Errorf("stopped after %d failed joins; the first: %w", r.failed, r.firstErr)
	case r.joins == 0 && r.firstErr != nil:
		return fmt.Errorf("no join was completed: %w", r.firstErr)
	}
	return nil
}
