package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/poller"
)

// FanoutOptions are the settings of [Fanout]. Zero means the default.
type FanoutOptions struct {
	Options
	Subscribers int           // 1,000
	Publishers  int           // connections that publish in turn; 1
	PublishURL  string        // publish by POST to this URL instead of over WebSocket; none
	Rate        float64       // messages per second in total, with FindMax the first rate tried; 10
	Burst       int           // this many messages as fast as possible, instead of Rate; none
	FindMax     bool          // search for the highest rate that the server holds for Duration
	Size        int           // payload bytes; 64, at least SizeMin
	Duration    time.Duration // that is measured; 20 s
	Warmup      time.Duration // before that, not measured; 2 s, negative: none
	CatchUp     time.Duration // without any delivery, after which missing messages are lost; 2 s
}

func (o *FanoutOptions) setDefaults() {
	o.Options.setDefaults()
	setDefault(&o.Subscribers, 1000)
	setDefault(&o.Publishers, 1)
	setDefault(&o.Rate, 10)
	setDefault(&o.Size, 64)
	setDefault(&o.Duration, DefaultDuration)
	setDefault(&o.Warmup, DefaultWarmup)
	setDefault(&o.CatchUp, DefaultCatchUp)
}

// publicationsMax bounds a phase: each loop keeps 24 bytes for each of them.
const publicationsMax = 10_000_000

func (o *FanoutOptions) check(f *faults) {
	f.atLeast("--subscribers", o.Subscribers, 1)
	f.atLeast("--size", o.Size, o.Protocol.sizeMin())
	if o.Channels > 1 {
		o.checkChannels(f)
	}
	if o.Publishers < 1 || o.Publishers > 256 {
		f.add("--publishers is %d: use 1 to 256", o.Publishers)
	}
	if o.Burst < 0 {
		f.add("--burst is %d: use a number above zero", o.Burst)
	}
	if o.Burst > 0 && o.FindMax {
		f.add("--burst and --find-max cannot be combined")
	}
	if o.Rate < 0 || o.Duration <= 0 || o.CatchUp <= 0 {
		f.add("--rate, --duration and --catch-up must be above zero")
	} else if n := o.Rate * o.Duration.Seconds(); n > publicationsMax || o.Burst > publicationsMax {
		f.add("a run can have at most %d messages: lower --rate, --duration or --burst", publicationsMax)
	}
}

// checkChannels checks what concerns many channels: each publication goes to one of them,
// in turn, and to the same number of subscribers.
func (o *FanoutOptions) checkChannels(f *faults) {
	if o.Subscribers%o.Channels != 0 {
		f.add("--subscribers is %d: use a multiple of --channels (%d)", o.Subscribers, o.Channels)
	}
	if o.Publishers > 0 && o.Channels%o.Publishers != 0 {
		f.add("--channels is %d: use a multiple of --publishers (%d), because each channel has one publisher whose order is checked", o.Channels, o.Publishers)
	}
	if !strings.Contains(o.PublishURL, inURL) {
		f.add("--channels needs a --publish-url with %s in it, such as http://127.0.0.1:9000/publish/%s", inURL, inURL)
	}
}

// fanout is a run under way.
type fanout struct {
	FanoutOptions
	target     target
	result     *Result
	server     *process
	fleet      *fleet
	publishers []publisher
	mark       mark
	phases     int // begun so far; the next one's mark
	progress   *progress

	failedTries, lateTries int // of findMax: all, and those that only the generator's lateness failed
}

// Fanout measures a broadcast: each message goes to all subscribers, at a rate, as fast as
// possible, or at the highest rate that the server holds. It counts lost, repeated and
// reordered messages exactly, on every connection, and reports latency from the time each
// message was due. When ctx ends early, the result covers the time until then.
//
// The error is a [UsageError] when the options are invalid; the result is then nil.
// Otherwise it says why the result's verdict is failed.
func Fanout(ctx context.Context, o FanoutOptions) (*Result, error) {
	o.setDefaults()
	var f faults
	t := o.target(&f)
	o.check(&f)
	if err := f.err(); err != nil {
		return nil, err
	}
	server, err := watch(o.PID)
	if err != nil {
		return nil, err
	}
	r := &fanout{FanoutOptions: o, target: t, result: newResult("fanout"), server: server, mark: newMark()}
	r.progress = newProgress(o.Progress)
	defer r.disconnect()
	defer r.progress.stop()
	defer withThreads(o.Loops + o.Publishers)()
	if err := r.connect(ctx); err != nil {
		return r.result.end(ctx, err)
	}
	if err = r.run(ctx); err == nil && ctx.Err() == nil && r.result.Metrics["published"] > 0 && r.result.Metrics["delivered"] == 0 {
		err = errors.New("no message arrived: do publishers and subscribers use the same channel (--path, --publish-url)?")
	}
	return r.result.end(ctx, errors.Join(err, r.fleet.err()))
}

// withThreads lets n goroutines run beside the Go runtime's own, so that a
// publisher whose time has come does not wait for a loop's turn to end. It
// returns the function that undoes it.
func withThreads(n int) func() {
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(max(before, n+2))
	return func() { runtime.GOMAXPROCS(before) }
}

func (r *fanout) connect(ctx context.Context) (err error) {
	if r.fleet, err = newFleet(r.target, r.Loops); err != nil {
		return err
	}
	d := dialing{connections: r.Subscribers, outstanding: r.Dialing}
	r.progress.show(func() string { return fmt.Sprintf("connected %d of %d", d.done.Load(), d.connections) })
	if err := r.fleet.dial(ctx, &d); err != nil || ctx.Err() != nil {
		return err
	}
	for range r.Publishers {
		p, err := newPublisher(ctx, r.target, r.PublishURL)
		if err != nil {
			return err
		}
		r.publishers = append(r.publishers, p)
	}
	return nil
}

// disconnect ends all connections.
func (r *fanout) disconnect() {
	for _, p := range r.publishers {
		p.close()
	}
	r.publishers = nil
	if r.fleet != nil {
		r.fleet.close() // ignored: the figures have been taken
		r.fleet = nil
	}
}

func (r *fanout) run(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	if r.FindMax {
		return r.findMax(ctx)
	}
	rate, n := r.Rate, max(int(r.Rate*r.Duration.Seconds()), 1)
	if r.Burst > 0 {
		rate, n = 0, r.Burst
	}
	if r.Warmup > 0 {
		warm := n
		if rate > 0 {
			warm = int(rate * r.Warmup.Seconds())
		}
		if _, err := r.phase(ctx, "warming up", rate, max(warm, 1), 0); err != nil || ctx.Err() != nil {
			return err
		}
	}
	a, err := r.phase(ctx, "publishing", rate, n, 0)
	r.report(a)
	return err
}

// phase publishes n messages and waits for their delivery: until all are there,
// until nothing has come for CatchUp, or, when bound is not zero, until that
// long after the last was due.
func (r *fanout) phase(ctx context.Context, what string, rate float64, n int, bound time.Duration) (*account, error) {
	r.phases = r.phases%255 + 1
	s := schedule{
		phase: phase{mark: r.mark.inPhase(uint8(r.phases)), streams: r.Publishers, count: n},
		clock: r.fleet.clock, rate: rate, size: r.Size, publishers: r.Publishers, object: r.target.audience != nil,
	}
	if r.Channels > 1 {
		s.streams, s.apart = r.Channels, true
	}
	r.fleet.begin(s.phase, 0)
	serverBefore := r.server.cpu()
	ownBefore, _ := poller.ProcessCPU(0) // ignored: a process may always ask for its own time
	s.start = s.clock.now() + int64(time.Millisecond)
	begin := s.clock.now()
	fl := r.fleet // the line is shown by another goroutine, and a search replaces the fleet
	r.progress.show(func() string {
		return fmt.Sprintf("%s %s: %s, %s delivered", what, rateText(rate),
			time.Duration(fl.clock.now()-begin).Round(time.Second), thousands(float64(fl.delivered()), 0))
	})

	a := &account{schedule: s, rate: rate, sendings: make([]sending, r.Publishers)}
	var wg sync.WaitGroup
	for i, p := range r.publishers {
		wg.Go(func() { a.sendings[i] = s.publish(ctx, p, i) })
	}
	wg.Wait()
	var err error
	for _, out := range a.sendings {
		a.published += int(out.published)
		if err == nil {
			err = out.err
		}
	}
	r.await(ctx, a, bound)
	a.serverCPU = r.server.cpu() - serverBefore
	ownAfter, _ := poller.ProcessCPU(0) // ignored: as above
	a.generatorCPU = ownAfter - ownBefore
	a.elapsed = time.Duration(s.clock.now() - begin)
	r.settle(a)
	return a, err
}

func rateText(rate float64) string {
	if rate == 0 {
		return "as fast as possible"
	}
	return fmt.Sprintf("at %s/s", strconv.FormatFloat(rate, 'f', -1, 64))
}

// await waits for the end of delivery.
func (r *fanout) await(ctx context.Context, a *account, bound time.Duration) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	progressAt, before := a.clock.now(), int64(-1)
	for {
		want := int64(a.published) * r.fleet.live() // before delivered: see loop.live
		switch {
		case a.apart && r.fleet.live() < int64(r.Subscribers):
			want = math.MaxInt64 // it depends on who was cut: CatchUp ends it
		case a.apart:
			want /= int64(a.streams)
		}
		got := r.fleet.delivered()
		now := a.clock.now()
		if got >= want {
			return
		}
		if got != before {
			progressAt, before = now, got
		}
		if bound > 0 && now > a.end(a.count)+int64(bound) || now-progressAt > int64(r.CatchUp) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
