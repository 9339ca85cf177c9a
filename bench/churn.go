package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/gobwas/ws"
)

// ChurnOptions are the settings of [Churn]. Zero means the default.
type ChurnOptions struct {
	Options                   // the default of Path is /echo here
	Cycles      int           // of connect, send, receive back, close; 1,000,000
	Concurrency int           // connections at a time; 64
	Warmup      int           // cycles before the first count, not measured; 10,000, negative: none
	Size        int           // payload bytes; 64, at least SizeMin
	Metrics     string        // URL of the server's Prometheus metrics, for its goroutines; not counted
	Settle      time.Duration // to wait at most until the server is at rest; 30 s
}

func (o *ChurnOptions) setDefaults() {
	setDefault(&o.Path, "/echo")
	setDefault(&o.Cycles, 1_000_000)
	setDefault(&o.Concurrency, 64)
	setDefault(&o.Warmup, 10_000)
	setDefault(&o.Size, 64)
	setDefault(&o.Settle, DefaultSettle)
	o.Concurrency = min(o.Concurrency, max(o.Cycles, 1))
}

func (o *ChurnOptions) check(f *Faults) {
	if o.Protocol == SSE {
		f.Add("--protocol sse cannot be used, because SSE clients cannot send: use raw or json")
	}
	if o.Protocol.dialect() != nil {
		f.Add("--protocol is %s, which does not return a client's own message unchanged: use raw or json", o.Protocol)
	}
	f.AtLeast("--cycles", o.Cycles, 1)
	f.Between("--size", o.Size, SizeMin, sizeMax)
	f.Between("--concurrency", o.Concurrency, 1, 10_000)
	if o.Settle <= 0 {
		f.Add("--settle must be above zero")
	}
	f.HTTP("--metrics", o.Metrics)
	if o.Metrics != "" && o.PID == 0 {
		f.Add("--metrics needs --pid: specify the ID of the server's process, or leave --metrics out")
	}
}

// churn is a run under way.
type churn struct {
	ChurnOptions
	*Run
	counter *counter // nil without a PID
	callers []*churner
	cancel  context.CancelFunc
	begun   atomic.Int64 // cycles of the present part
	latest  atomic.Int64 // numbers the messages of all parts

	mu       sync.Mutex
	latency  *hdr.Histogram // connect to the message's return, microseconds
	clean    int64
	reset    int64
	failed   map[cause]int64
	firstErr map[cause]error
}

// churner is one client of it.
type churner struct {
	*caller
	payload []byte
	wanted  uint32 // the number of the message that is to come back
	back    bool   // it has
	closing bool   // it has sent its Close frame
}

// Churn opens and closes connections, half with a closing handshake and half with a reset,
// and checks what the server process PID has left of them: file descriptors, goroutines,
// epoll entries and memory. It is a test: its verdict is PASS, FAIL (with an error that
// says why), or OK when PID or Metrics is missing. Otherwise the error is as of [Fanout].
func Churn(ctx context.Context, o ChurnOptions) (*Result, error) {
	o.setDefaults()
	run, err := o.Begin("churn", o.Concurrency, o.check)
	if err != nil {
		return nil, err
	}
	r := &churn{ChurnOptions: o, Run: run}
	if r.server != nil {
		r.counter = &counter{r.server[0], o.Metrics, &http.Client{Timeout: o.Timeout, Transport: &http.Transport{}}, o.Settle}
		defer r.counter.client.CloseIdleConnections()
	}
	faults, err := r.run(ctx)
	res, err := r.End(ctx, err)
	if res.Verdict == VerdictOK {
		return res, res.judge(faults, r.counter != nil && r.Metrics != "")
	}
	return res, err
}

// judge settles the verdict of a run that was to show that nothing goes wrong.
func (r *Result) judge(faults []string, all bool) error {
	switch {
	case len(faults) > 0:
		err := errors.New(strings.Join(faults, "; "))
		r.Verdict, r.Reasons = VerdictFail, append(r.Reasons, err.Error())
		return err
	case all:
		r.Verdict = VerdictPass
	default:
		r.Notes = append(r.Notes, "leaks were not checked: use both --pid and --metrics to check for them")
	}
	return nil
}

func (r *churn) run(outer context.Context) (faults []string, err error) {
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(outer)
	defer r.cancel()
	mark, c := newMark().inPhase(1), newClock()
	for i := range r.Concurrency {
		r.callers = append(r.callers, newChurner(r.Protocol, mark, c, i, r.Size))
	}
	if r.Warmup > 0 {
		r.cycles(ctx, "warming up", r.Warmup)
		if err := r.hopeless(); err != nil {
			return nil, fmt.Errorf("warming up: %w", err)
		}
	}
	var before census
	if r.counter != nil {
		r.Show(func() string { return "waiting until the server is at rest" })
		if before, err = r.counter.steady(ctx); err != nil {
			return nil, err
		}
		before.tell(r.Result, "before")
	}
	for _, c := range r.callers {
		clear(c.closes) // of the warm-up, as what follows
	}
	r.target.handshakes.done.Store(0)
	r.target.handshakes.resumed.Store(0)
	usage := r.Usage()
	took := r.cycles(ctx, "cycles", r.Cycles)
	r.report(took, r.Since(usage))
	if err := r.hopeless(); err != nil {
		return nil, err
	}
	if n := sum(r.failed); n > 0 {
		faults = append(faults, fmt.Sprintf("%d cycles failed", n))
	}
	if r.counter != nil {
		r.Show(func() string { return "waiting until the server is at rest" })
		after, err := r.counter.settled(outer, before)
		if err != nil {
			return nil, fmt.Errorf("the server has exited: %w", err)
		}
		after.tell(r.Result, "after")
		after.compare(r.Result, before)
		faults = append(faults, after.faults(before)...)
	}
	return faults, nil
}

// hopeless tells of cycles that show nothing but that they fail.
func (r *churn) hopeless() error {
	n := sum(r.failed)
	if r.clean+r.reset > 0 && n < failuresMost || n == 0 {
		return nil
	}
	return fmt.Errorf("%d cycles failed and %d succeeded: %w", n, r.clean+r.reset, r.first())
}

// cycles runs n of them. What they gave replaces what the part before gave.
func (r *churn) cycles(ctx context.Context, what string, n int) time.Duration {
	r.latency, r.clean, r.reset = newLatency(), 0, 0
	r.failed, r.firstErr = map[cause]int64{}, map[cause]error{}
	r.begun.Store(0)
	begin := time.Now()
	r.Show(func() string {
		done := min(r.begun.Load(), int64(n))
		return fmt.Sprintf("%s: %s of %s, %s", what, thousands(float64(done), 0), thousands(float64(n), 0),
			perSecond.format(float64(done)/time.Since(begin).Seconds()))
	})
	var wg sync.WaitGroup
	for _, c := range r.callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := r.begun.Add(1)
				if i > int64(n) {
					return
				}
				c.wanted = uint32(r.latest.Add(1))
				took, err := c.cycle(ctx, r.target, r.Timeout, i%2 == 0)
				if err == nil || ctx.Err() == nil { // else interrupted: neither complete nor failed
					r.outcome(took, i%2 == 0, err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

func newChurner(p Protocol, m mark, c clock, index, size int) *churner {
	h := &churner{caller: newCaller(p, phase{mark: m, streams: 1}, c, index, envelopeMax+ws.MaxHeaderSize+4096)}
	h.payload = bytes.Repeat([]byte{'.'}, size)
	h.joined = func(_ *conn, s stamp, _ int64) { h.back = h.back || s.seq == h.wanted } // on a channel, those of others come too
	answer := h.reply
	h.reply = func(c *conn, frame []byte) error {
		if h.closing {
			return nil // nothing may follow a Close frame
		}
		return answer(c, frame)
	}
	return h
}

// cycle is one connection's life. It returns the time from connecting to the message's
// return.
func (h *churner) cycle(ctx context.Context, t target, patience time.Duration, clean bool) (time.Duration, error) {
	h.back, h.closing = false, false
	begin := h.clock.now()
	early, err := h.connect(ctx, t, patience)
	if err != nil {
		return 0, err
	}
	if err := h.exchange(early); err != nil {
		h.reset()
		return 0, failure{causeMessage, err}
	}
	took := time.Duration(h.clock.now() - begin)
	if !clean {
		h.reset()
		return took, nil
	}
	defer h.end()
	if err := h.close(); err != nil {
		return 0, failure{causeClose, err}
	}
	return took, nil
}

// exchange sends a message and waits until it is back.
func (h *churner) exchange(early []byte) error {
	stamp{seq: h.wanted}.put(h.payload, h.mark)
	_, err := h.socket.Write(maskedFrame(ws.OpText, h.payload))
	if err == nil {
		err = h.feed(&h.conn, early, 0)
	}
	for err == nil && !h.back {
		err = h.read()
	}
	return err
}

// close is a closing handshake, and the server's end of the connection: it closes
// first, so that it has the ports that must wait (RFC 6455, section 7.1.1).
func (h *churner) close() error {
	if _, err := h.socket.Write(goodbye); err != nil {
		return err
	}
	h.closing = true
	normal := h.closes[ws.StatusNormalClosure]
	var err error
	for err == nil {
		err = h.read()
	}
	if !errors.Is(err, errClosed) {
		return fmt.Errorf("no Close frame was received: %w", err)
	}
	if h.closes[ws.StatusNormalClosure] == normal {
		return errors.New("the Close frame received does not have code 1000")
	}
	for err = nil; err == nil; {
		_, err = socket(h.socket).Read(h.scratch)
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("the server did not close the connection after the closing handshake: %w", err)
	}
	return nil
}

// outcome takes what became of a cycle.
func (r *churn) outcome(took time.Duration, clean bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		if clean {
			r.clean++
		} else {
			r.reset++
		}
		r.latency.RecordValue(min(took, latencyMax).Microseconds()) // ignored: within the bounds
		return
	}
	f := failure{cause: causeConnect}
	errors.As(err, &f)
	if r.failed[f.cause]++; r.failed[f.cause] == 1 {
		r.firstErr[f.cause] = err
	}
	if sum(r.failed) == failuresMost {
		r.cancel()
	}
}

// causes are the steps of a cycle, in their order.
var causes = []cause{causeConnect, causeTLS, causeUpgrade, causeMessage, causeClose}

// first returns the first failure of the earliest step that failed.
func (r *churn) first() error {
	for _, c := range causes {
		if r.failed[c] > 0 {
			return r.firstErr[c]
		}
	}
	return nil
}

func sum(m map[cause]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

func (r *churn) report(took time.Duration, used Usage) {
	res, done := r.Result, r.clean+r.reset
	res.SetCounts(map[string]int64{"cycles": done, "clean": r.clean, "reset": r.reset, "failed": sum(r.failed)})
	res.Set("cycles_per_second", float64(done)/took.Seconds())
	for _, c := range causes {
		res.Set("failed_"+string(c), float64(r.failed[c]))
		if r.failed[c] > 0 && done > 0 { // else the verdict tells it
			res.Notes = append(res.Notes, fmt.Sprintf("first failure (%s): %v", c, r.firstErr[c]))
		}
	}
	res.setLatency("", r.latency)
	res.Set("elapsed", took.Seconds())
	r.SetUsage(used, took, "server_cpu_per_cycle", done)
	for _, c := range r.callers {
		res.addCloses(c.closes)
	}
}
