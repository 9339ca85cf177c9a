package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
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
	setDefault(&o.Joins, 100_000)
	setDefault(&o.Concurrency, 64)
	setDefault(&o.Behind, 200)
	setDefault(&o.Live, 20)
	setDefault(&o.Rate, 2000)
	setDefault(&o.Size, 64)
	o.Concurrency = min(o.Concurrency, max(o.Joins, 1))
}

func (o *RecoverOptions) check(f *Faults) {
	f.HTTP("--publish-url", o.PublishURL)
	if o.Protocol == Raw {
		f.Add("--protocol is raw, which has no positions to recover from: use json, sse or centrifugo")
	}
	f.AtLeast("--joins", o.Joins, 1)
	f.AtLeast("--behind", o.Behind, 1)
	f.AtLeast("--live", o.Live, 1)
	f.Between("--size", o.Size, o.Protocol.sizeMin(), sizeMax)
	if o.Channels > 1 {
		f.Add("--channels is %d: this scenario uses one channel", o.Channels)
	}
	f.Between("--concurrency", o.Concurrency, 1, 10_000)
	if !(o.Rate > 0) {
		f.Add("--rate must be above zero")
	}
}

// ledger is what a run knows of its channel: the offset of each of its publications, as the
// first client that got it was told.
type ledger struct {
	epoch string // set before the joins begin

	mu      sync.RWMutex
	offsets []uint64 // guarded by mu: by sequence number; 0 for what nobody has got
}

// got notes the offset of a publication, and reports whether it is the one that others got it with,
// or can be: publications that were published later have higher ones.
func (l *ledger) got(seq uint32, offset uint64) bool {
	if known := l.offset(seq); known > 0 {
		return known == offset
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.offsets) <= int(seq) {
		l.offsets = append(l.offsets, 0)
	}
	if l.offsets[seq] == 0 && l.fits(int(seq), offset) {
		l.offsets[seq] = offset
	}
	return l.offsets[seq] == offset
}

// fits reports whether an offset is between those of the publications before and after one.
func (l *ledger) fits(seq int, offset uint64) bool {
	before, after := seq-1, seq+1
	for before >= 0 && l.offsets[before] == 0 {
		before--
	}
	for after < len(l.offsets) && l.offsets[after] == 0 {
		after++
	}
	return (before < 0 || l.offsets[before] < offset) && (after == len(l.offsets) || offset < l.offsets[after])
}

// offset returns the offset of a publication, 0 if nobody has got it.
func (l *ledger) offset(seq uint32) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if int(seq) < len(l.offsets) {
		return l.offsets[seq]
	}
	return 0
}

// head returns the number of the publication after the newest that a client has got.
func (l *ledger) head() uint32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return uint32(len(l.offsets))
}

// recovery is a run under way.
type recovery struct {
	RecoverOptions
	*Run
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
	run, err := o.Begin("recover", o.Concurrency, o.check)
	if err != nil {
		return nil, err
	}
	r := &recovery{
		RecoverOptions: o, Run: run,
		phase: phase{mark: newMark().inPhase(1), streams: 1, count: publicationsMax},
		clock: newClock(), latency: newLatency(),
	}
	r.Show(func() string {
		return fmt.Sprintf("joined %s of %s", thousands(float64(min(r.begun.Load(), int64(r.Joins))), 0), thousands(float64(r.Joins), 0))
	})
	defer withThreads(o.Loops + 1)()
	return r.End(ctx, r.run(ctx))
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
	before := r.Usage()
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
	a.used = r.Since(before)
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
	res := r.Result
	var sum counts
	var recovered, live, lost, wrong int64
	for _, j := range clients {
		recovered += j.recovered
		live += j.live
		lost += j.lost
		wrong += j.wrong
		sum.add(j.counts)
		res.addCloses(j.closes)
	}
	res.SetCounts(map[string]int64{
		"joins": r.joins, "failed": r.failed, "published": int64(a.published), "recovered": recovered, "live": live, "lost": lost,
		"holes": sum.holes, "repeats": sum.repeats, "wrong": wrong, "gaps": sum.gaps, "foreign": sum.foreign + sum.stale,
	})
	res.setLatency("", r.latency)
	res.Set("elapsed", a.elapsed.Seconds())
	res.Set("joins_per_second", float64(r.joins)/a.elapsed.Seconds())
	r.SetUsage(a.used, a.elapsed, "server_cpu_per_join", r.joins)
	res.setGenerator(a)
	rate := float64(a.published) / a.elapsed.Seconds()
	res.Set("published_per_second", rate)
	if rate < publishedShareMin*r.Rate-1/a.elapsed.Seconds() { // one may be due as the run ends
		res.invalidate("only %.0f of %.0f messages per second were published: give the tester more CPU, or lower --rate or --concurrency", rate, r.Rate)
	}
	if sum.gaps > 0 {
		res.Notes = append(res.Notes, "gaps: the server keeps fewer messages than the clients missed. Raise its history (sluice serve --history), or lower --behind; the size of one recovery may also be limited")
	}
	if sum.foreign+sum.stale > 0 {
		res.Notes = append(res.Notes, "others publish on this channel, so payloads cannot be checked against offsets: use a separate channel (--path)")
	}
	res.noteFailure(r.firstErr)
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
