package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FanoutOptions are the settings of [Fanout]. Zero means the default.
type FanoutOptions struct {
	Options
	Subscribers int           // 1,000
	Publishers  int           // connections that publish in turn; 1
	Nodes       []string      // further servers that share the channels of URL; subscribers and publishers are spread over all of them; none
	PublishURLs []string      // publish by POST to these URLs instead of over WebSocket: one, or one for each node in the same order; none
	Rate        float64       // messages per second in total, with FindMax the first rate tried; 10
	Burst       int           // this many messages as fast as possible, instead of Rate; none
	FindMax     bool          // search for the highest rate that the server holds for Duration
	Size        int           // payload bytes; 64, at least SizeMin
	Duration    time.Duration // that is measured; 20 s
	Warmup      time.Duration // before that, not measured; 2 s, negative: none
	Compression bool          // ask for compression, and check all that comes
	Content     Content       // of payloads, behind their stamps; Dots
	CatchUp     time.Duration // without any delivery, after which missing messages are lost; 2 s
}

func (o *FanoutOptions) setDefaults() {
	setDefault(&o.Subscribers, 1000)
	setDefault(&o.Publishers, 1)
	setDefault(&o.Rate, 10)
	setDefault(&o.Size, 64)
	setDefault(&o.Content, Dots)
	setDefault(&o.Duration, DefaultDuration)
	setDefault(&o.Warmup, DefaultWarmup)
	setDefault(&o.CatchUp, DefaultCatchUp)
}

// sizeMax bounds a payload, in bytes: the largest message that the gateway can be set to accept.
const sizeMax = 64 << 20

// nodesMost bounds the nodes of a run.
const nodesMost = 64

// publicationsMax bounds a phase: each loop keeps 24 bytes for each of them.
const publicationsMax = 10_000_000

func (o *FanoutOptions) check(f *Faults) {
	f.AtLeast("--subscribers", o.Subscribers, 1)
	for _, u := range o.PublishURLs {
		f.HTTP("--publish-url", u)
	}
	if n, nodes := len(o.PublishURLs), 1+len(o.Nodes); n > 1 && n != nodes {
		f.Add("--publish-url was given %d times: use it once, or once for each --url (%d), in the same order", n, nodes)
	}
	if nodes := 1 + len(o.Nodes); nodes > nodesMost || o.Subscribers < nodes {
		f.Add("--url was given %d times: use it at most %d times, and not more often than there are --subscribers (%d)", nodes, nodesMost, o.Subscribers)
	}
	f.Between("--size", o.Size, o.Protocol.sizeMin(), sizeMax)
	switch {
	case !slices.Contains(Contents, o.Content):
		f.Add("--content is %q: use dots, json or json-ids", string(o.Content))
	case o.Content != Dots && o.Size < contentMin:
		f.Add("--content %s needs a --size of at least %d", o.Content, contentMin)
	}
	if o.Channels > 1 {
		o.checkChannels(f)
	}
	f.Between("--publishers", o.Publishers, 1, 256)
	if o.Burst < 0 {
		f.Add("--burst is %d: use a number above zero", o.Burst)
	}
	if o.Burst > 0 && o.FindMax {
		f.Add("--burst and --find-max cannot be combined")
	}
	if o.Rate < 0 || o.Duration <= 0 || o.CatchUp <= 0 {
		f.Add("--rate, --duration and --catch-up must be above zero")
	} else if n := o.Rate * o.Duration.Seconds(); n > publicationsMax || o.Burst > publicationsMax {
		f.Add("a run can have at most %d messages: lower --rate, --duration or --burst", publicationsMax)
	}
}

// checkChannels checks what concerns many channels: each publication goes to one of them,
// in turn, and to the same number of subscribers.
func (o *FanoutOptions) checkChannels(f *Faults) {
	if o.Subscribers%o.Channels != 0 {
		f.Add("--subscribers is %d: use a multiple of --channels (%d)", o.Subscribers, o.Channels)
	}
	if o.Publishers > 0 && o.Channels%o.Publishers != 0 {
		f.Add("--channels is %d: use a multiple of --publishers (%d), because each channel has one publisher whose order is checked", o.Channels, o.Publishers)
	}
	if len(o.PublishURLs) == 0 || slices.ContainsFunc(o.PublishURLs, func(u string) bool { return !strings.Contains(u, inURL) }) {
		f.Add("--channels needs a --publish-url with %s in it, such as http://127.0.0.1:9000/publish/%s", inURL, inURL)
	}
}

// fanout is a run under way.
type fanout struct {
	FanoutOptions
	*Run
	nodes      []target
	fleet      *fleet
	publishers []publisher
	mark       mark
	phases     int // begun so far; the next one's mark

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
	var others []target
	run, err := o.Begin("fanout", 0, func(f *Faults) {
		o.check(f)
		others = o.others(f)
	})
	if err != nil {
		return nil, err
	}
	r := &fanout{FanoutOptions: o, Run: run, nodes: run.with(others), mark: newMark()}
	for i := range r.nodes {
		r.nodes[i].compress = o.Compression
	}
	defer r.disconnect()
	defer withThreads(o.Loops + o.Publishers)()
	if err := r.connect(ctx); err != nil {
		return r.End(ctx, err)
	}
	if err = r.run(ctx); err == nil && ctx.Err() == nil && r.Result.Metrics["published"] > 0 && r.Result.Metrics["delivered"] == 0 {
		err = errors.New("no message arrived: do publishers and subscribers use the same channel (--path, --publish-url)?")
	}
	return r.End(ctx, errors.Join(err, r.fleet.err()))
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
	if r.fleet, err = newFleetOf(r.nodes, r.Loops); err != nil {
		return err
	}
	if err := r.dial(ctx, r.fleet, "connected", &dialing{connections: r.Subscribers, outstanding: r.Dialing}); err != nil || ctx.Err() != nil {
		return err
	}
	for i := range r.Publishers {
		home := i % r.homes()
		var post string
		if len(r.PublishURLs) > 0 {
			post = r.PublishURLs[home]
		}
		p, err := newPublisher(ctx, r.nodes[home], post)
		if err != nil {
			return err
		}
		r.publishers = append(r.publishers, p)
	}
	return nil
}

// homes returns how many nodes are published to.
func (r *fanout) homes() int {
	if len(r.PublishURLs) > 0 {
		return len(r.PublishURLs)
	}
	return len(r.nodes)
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

// phase publishes n messages and waits for their delivery: see fleet.await.
func (r *fanout) phase(ctx context.Context, what string, rate float64, n int, bound time.Duration) (*account, error) {
	r.phases = r.phases%255 + 1
	s := schedule{
		phase: phase{mark: r.mark.inPhase(uint8(r.phases)), streams: r.Publishers, count: n},
		clock: r.fleet.clock, rate: rate, size: r.Size, publishers: r.Publishers, object: r.target.audience != nil, content: r.Content,
	}
	if r.Channels > 1 {
		s.streams, s.apart = r.Channels, true
	}
	if len(r.nodes) > 1 {
		s.nodes, s.positions = len(r.nodes), r.Protocol.positions()
		for stream := range s.streams {
			s.home = append(s.home, uint8(stream%r.Publishers%r.homes()))
		}
	}
	r.fleet.begin(s.phase, 0)
	before := r.Usage()
	s.start = s.clock.now() + int64(time.Millisecond)
	begin := s.clock.now()
	fl := r.fleet // the line is shown by another goroutine, and a search replaces the fleet
	r.Show(func() string {
		return fmt.Sprintf("%s %s: %s, %s delivered", what, rateText(rate),
			time.Duration(fl.clock.now()-begin).Round(time.Second), thousands(float64(fl.delivered()), 0))
	})

	a := &account{schedule: s, rate: rate, subscribers: r.Subscribers, sendings: make([]sending, r.Publishers)}
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
	r.fleet.await(ctx, a, r.CatchUp, bound)
	a.used = r.Since(before)
	a.elapsed = time.Duration(s.clock.now() - begin)
	r.fleet.settle(a)
	return a, err
}

func rateText(rate float64) string {
	if rate == 0 {
		return "as fast as possible"
	}
	return fmt.Sprintf("at %s/s", strconv.FormatFloat(rate, 'f', -1, 64))
}
