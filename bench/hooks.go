package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
)

// HooksOptions are the settings of [Hooks]. Zero means the default.
type HooksOptions struct {
	Options
	Measures    []string      // of HookMeasures, in this order; connect
	Backend     string        // the address at which the tester is the application; 127.0.0.1:3000
	Takes       time.Duration // by the backend, for a call, except where it is to take none; 20 ms
	Connections int           // that connect at once; 5,000
	Publishes   int           // one after the other; 500
	Refusals    int           // that are measured; 2,000
	Rate        float64       // connects per second while the backend hangs; 1,000
	Hang        time.Duration // how long it hangs; 30 s
	Subscribers int           // that get messages meanwhile; 1,000
	MessageRate float64       // messages per second to all of them; 20
	PublishURL  string        // where these are published; over WebSocket
}

// HookMeasures are what [Hooks] can measure.
var HookMeasures = []string{"connect", "publish", "hang", "breaker"}

func (o *HooksOptions) setDefaults() {
	if len(o.Measures) == 0 {
		o.Measures = HookMeasures[:1]
	}
	setDefault(&o.Backend, "127.0.0.1:3000")
	setDefault(&o.Takes, 20*time.Millisecond)
	setDefault(&o.Connections, 5000)
	setDefault(&o.Publishes, 500)
	setDefault(&o.Refusals, 2000)
	setDefault(&o.Rate, 1000)
	setDefault(&o.Hang, 30*time.Second)
	setDefault(&o.Subscribers, 1000)
	setDefault(&o.MessageRate, 20)
}

func (o *HooksOptions) check(f *Faults) {
	for _, m := range o.Measures {
		if !slices.Contains(HookMeasures, m) {
			f.Add("--measure %q: use %s", m, strings.Join(HookMeasures, ", "))
		}
	}
	f.HTTP("--publish-url", o.PublishURL)
	f.AtLeast("--connections", o.Connections, 1)
	f.AtLeast("--publishes", o.Publishes, 1)
	f.AtLeast("--refusals", o.Refusals, 1)
	f.AtLeast("--subscribers", o.Subscribers, 1)
	if o.Takes < 0 || o.Hang <= 0 || o.Rate <= 0 || o.Rate > 100_000 || o.MessageRate <= 0 {
		f.Add("--takes, --hang, --rate and --message-rate must be above zero, and --rate at most 100,000")
	}
	if slices.Contains(o.Measures, "publish") && o.Protocol != Raw {
		f.Add("--measure publish needs --protocol raw")
	}
	if slices.Contains(o.Measures, "hang") && o.Protocol == CentrifugoProtobuf {
		f.Add("--measure hang does not work with --protocol centrifugo-protobuf")
	}
}

// hooks is a run under way.
type hooks struct {
	HooksOptions
	*Run
	backend *backend
}

// Hooks measures a server that asks the application about its clients: the tester is the application. The error is as of [Fanout].
func Hooks(ctx context.Context, o HooksOptions) (*Result, error) {
	o.setDefaults()
	run, err := o.Begin("hooks", 0, o.check)
	if err != nil {
		return nil, err
	}
	h := &hooks{HooksOptions: o, Run: run}
	if h.backend, err = newBackend(o.Backend); err != nil {
		return h.End(ctx, err)
	}
	defer h.backend.close()
	defer withThreads(o.Loops + 1)()
	for _, m := range o.Measures {
		if err == nil && ctx.Err() == nil {
			err = map[string]func(context.Context) error{"connect": h.connect, "publish": h.publish, "hang": h.hang, "breaker": h.breaker}[m](ctx)
		}
	}
	return h.End(ctx, err)
}

// connect has all clients connect at once.
func (h *hooks) connect(ctx context.Context) error {
	fl, err := newFleet(h.target, h.Loops)
	if err != nil {
		return err
	}
	defer fl.close() // ignored: the figures have been taken
	h.backend.takes.Store(int64(h.Takes))
	h.backend.account()
	calls, before := h.backend.calls.Load(), h.Usage()
	d := &dialing{connections: h.Connections, outstanding: h.Connections, keepGoing: true}
	if err := h.dial(ctx, fl, "connected", d); err != nil {
		return err
	}
	used, res := h.Since(before), h.Result
	most, _ := h.backend.account()
	res.Set("connections", float64(d.connections))
	res.setUpgrades(d)
	res.setLatency("", d.latency)
	res.Set("elapsed", d.elapsed.Seconds())
	res.SetCounts(map[string]int64{"calls": h.backend.calls.Load() - calls, "calls_in_flight": most})
	h.SetUsage(used, d.elapsed, "server_cpu_per_connect", d.done.Load())
	res.setConnections(fl)
	res.noteFailure(d.firstErr)
	if d.done.Load() == 0 && d.firstErr != nil {
		return fmt.Errorf("no client has connected: %w", d.firstErr)
	}
	return fl.err()
}

// publish has one client publish, and wait until its publication is back, again and again.
func (h *hooks) publish(ctx context.Context) error {
	h.backend.takes.Store(int64(h.Takes))
	c, _, err := h.target.open(ctx, 0)
	if err != nil {
		return err
	}
	defer c.Close()                                                // ignored: the figures have been taken
	defer context.AfterFunc(ctx, func() { c.SetDeadline(past) })() // ignored: then it takes longer
	calls, latency, payload := h.backend.calls.Load(), newLatency(), make([]byte, 4096)
	h.backend.account()
	h.Show(func() string { return fmt.Sprintf("published %d of %d", latency.TotalCount(), h.Publishes) })
	for i := range h.Publishes {
		began := time.Now()
		c.SetReadDeadline(began.Add(h.target.timeout)) // ignored: then reading fails
		want := fmt.Sprintf(`{"number":%d}`, i)
		if _, err := c.Write(maskedFrame(ws.OpText, []byte(want))); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		for {
			f, err := ws.ReadHeader(c)
			if err == nil && f.Length > int64(len(payload)) {
				err = fmt.Errorf("a frame of %d bytes", f.Length)
			}
			if err == nil {
				_, err = io.ReadFull(c, payload[:f.Length])
			}
			if err != nil {
				return fmt.Errorf("a publication did not come back: %w", err)
			}
			if f.OpCode == ws.OpClose {
				code, reason := ws.ParseCloseFrameData(payload[:f.Length])
				return fmt.Errorf("a publication was answered with a Close frame: %d %s", code, reason)
			}
			if string(payload[:f.Length]) == want {
				break
			}
		}
		latency.RecordValue(min(time.Since(began), latencyMax).Microseconds()) // ignored: within the bounds
	}
	_, durations := h.backend.account()
	if got := h.backend.calls.Load() - calls; got < int64(h.Publishes) {
		return fmt.Errorf("the backend was asked about %d of %d publications: does the server have a publish hook?", got, h.Publishes)
	}
	h.Result.setLatency("publish_", latency)
	h.Result.Set("publish_backend_p50", float64(durations.ValueAtPercentile(50))/1e6)
	h.Result.Set("publish_beyond", float64(latency.ValueAtPercentile(50)-durations.ValueAtPercentile(50))/1e6)
	return nil
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// hang measures what clients get that are connected, with a backend that answers and with one that does not while others connect.
func (h *hooks) hang(ctx context.Context) error {
	o := FanoutOptions{Options: h.Options, Subscribers: h.Subscribers, Rate: h.MessageRate, Duration: h.Hang}
	if h.PublishURL != "" {
		o.PublishURLs = []string{h.PublishURL}
	}
	o.setDefaults()
	if err := checkDescriptors(h.Subscribers + pendingMost); err != nil {
		return err
	}
	r := &fanout{FanoutOptions: o, Run: h.Run, nodes: []target{h.target}, mark: newMark()}
	defer r.disconnect()
	h.backend.takes.Store(0)
	if err := r.connect(ctx); err != nil {
		return err
	}
	n := max(int(h.MessageRate*h.Hang.Seconds()), 1)
	if _, err := r.phase(ctx, "warming up", h.MessageRate, max(n/10, 1), 0); err != nil {
		return err
	}
	quiet, err := r.phase(ctx, "publishing", h.MessageRate, n, 0)
	if err != nil {
		return err
	}
	p, err := h.newPending(ctx)
	if err != nil {
		return err
	}
	h.backend.hang(true)
	p.begin(h.Rate)
	hung, err := r.phase(ctx, "the backend hangs, publishing", h.MessageRate, n, 0)
	p.cancel()
	h.backend.hang(false) // what waits is answered, and ends
	p.all.Wait()
	res := h.Result
	res.setLatency("quiet_", quiet.latency)
	res.setLatency("hung_", hung.latency)
	if q := quiet.latency.ValueAtPercentile(99); q > 0 {
		res.Set("hung_by_quiet", float64(hung.latency.ValueAtPercentile(99))/float64(q))
	}
	res.SetCounts(map[string]int64{"attempts": p.attempts.Load(), "refused": p.refused.Load(), "pending": p.most, "lost": quiet.lost + hung.lost, "cut": hung.cut})
	if p.most > 0 && h.server != nil {
		res.Set("rss_per_pending", float64(p.rss)/float64(p.most))
	}
	res.judgeGenerator(hung)
	if err != nil {
		return err
	}
	return errors.Join(h.recover(ctx), r.fleet.err())
}

// breaker measures how fast clients are refused while the backend is known to be away.
func (h *hooks) breaker(ctx context.Context) error {
	h.backend.away.Store(true)
	defer h.backend.away.Store(false)
	latency, calls := newLatency(), int64(0)
	var mu sync.Mutex // guards latency
	try := func(ctx context.Context, i int) error {
		began := time.Now()
		c, _, err := h.target.open(ctx, i)
		took := time.Since(began)
		var status ws.StatusError
		switch {
		case err == nil:
			c.Close() // ignored: it should not be there
			return errors.New("a client has connected although the backend is away: does the server have a connect hook?")
		case !errors.As(err, &status) && !strings.Contains(err.Error(), strconv.Itoa(http.StatusServiceUnavailable)):
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		latency.RecordValue(min(took, latencyMax).Microseconds()) // ignored: within the bounds
		return nil
	}
	h.Show(func() string { return "connecting while the breaker is open" })
	err := parallel(ctx, 64, max(h.Refusals/4, 1), try) // after which it must be known
	if err == nil {
		latency, calls = newLatency(), h.backend.calls.Load()
		err = parallel(ctx, 8, h.Refusals, try)
	}
	if err != nil {
		return err
	}
	h.Result.setLatency("breaker_", latency)
	h.Result.SetCounts(map[string]int64{"breaker_refused": latency.TotalCount(), "breaker_calls": h.backend.calls.Load() - calls})
	h.backend.away.Store(false)
	return h.recover(ctx)
}

// recoverMost bounds how long a server may refuse clients after its backend is back.
const recoverMost = time.Minute

// recover waits until clients can connect again.
func (h *hooks) recover(ctx context.Context) error {
	began := time.Now()
	for i := 0; ; i++ {
		c, _, err := h.target.open(ctx, i)
		took := time.Since(began)
		if err == nil {
			c.Close() // ignored: that it is open is all
			h.Result.Set("recovered_after", took.Seconds())
			return nil
		}
		if ctx.Err() != nil || took > recoverMost {
			return fmt.Errorf("the backend is back, and clients cannot connect: %w", err)
		}
		wait(ctx, 50*time.Millisecond)
	}
}

// pendingMost bounds the clients that wait at a time.
const pendingMost = 12_000

// pending is clients that connect at a rate, and wait for what the backend says.
type pending struct {
	hooks  *hooks
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup

	// Atomic.
	now, attempts, refused atomic.Int64

	// Owned by the goroutine that looks, until all have ended.
	before int64 // memory of the server before the first
	most   int64 // that waited at a time
	rss    int64 // by how much the server had grown then
}

func (h *hooks) newPending(ctx context.Context) (p *pending, err error) {
	p = &pending{hooks: h}
	p.ctx, p.cancel = context.WithCancel(ctx)
	p.before, err = h.rss()
	return p, err
}

// begin has clients connect until cancel.
func (p *pending) begin(rate float64) {
	p.all.Go(func() {
		const step = 5 * time.Millisecond
		tick := time.NewTicker(step)
		defer tick.Stop()
		began, n, ticks := time.Now(), 0, 0
		for {
			select {
			case <-p.ctx.Done():
				return
			case <-tick.C:
			}
			for due := int(time.Since(began).Seconds() * rate); n < due; n++ {
				if i := n; p.now.Load() < pendingMost {
					p.all.Go(func() { p.connect(i) })
				}
			}
			if ticks++; ticks%10 == 0 {
				p.look()
			}
		}
	})
}

// look notes the server's memory where more clients wait than ever.
func (p *pending) look() {
	now := p.now.Load()
	if now <= p.most {
		return
	}
	if rss, err := p.hooks.rss(); err == nil {
		p.most, p.rss = now, rss-p.before
	}
}

// connect is one client.
func (p *pending) connect(n int) {
	p.attempts.Add(1)
	p.now.Add(1)
	defer p.now.Add(-1)
	c, _, err := p.hooks.target.open(p.ctx, n)
	if err != nil {
		if p.ctx.Err() == nil {
			p.refused.Add(1)
		}
		return
	}
	defer c.Close() // ignored: it is over
	if p.hooks.target.audience == nil {
		return
	}
	defer context.AfterFunc(p.ctx, func() { c.SetDeadline(past) })() // ignored: then it takes longer
	c.Write(maskedFrame(ws.OpText, []byte(`{"id":1,"connect":{}}`))) // ignored: then reading fails
	if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
		p.refused.Add(1) // it hangs, so nobody is allowed
	}
}
