package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"sluice/gateway/hook"
	"sluice/gateway/hook/queue"
)

// Hook is the hook of an event at an endpoint.
type Hook[Q hook.Request, A any] struct {
	Event string // as Centrifugo names it in metrics
	Name  string // of the endpoint

	caller *hook.Caller[Q, A]
	asked  hook.Hook[Q, A] // the caller, perhaps behind what shares its calls
	cache  *cache[Q, A]    // nil for none
	hits   atomic.Uint64
}

// Ask implements hook.Hook.
func (h *Hook[Q, A]) Ask(q Q, answer func(*A, error)) (cancel func()) {
	if h.cache != nil {
		if a, err, ok := h.cache.get(q); ok {
			h.hits.Add(1)
			answer(a, err)
			return func() {}
		}
	}
	return h.asked.Ask(q, answer)
}

// AskLater implements hook.Later.
func (h *Hook[Q, A]) AskLater(peer netip.Addr, request func() Q, answer func(*A, error)) (cancel func()) {
	if h.cache != nil {
		return h.Ask(request(), answer)
	}
	return hook.AskLater(h.asked, peer, request, answer)
}

// Stats returns the figures of the calls, and how many answers came from the cache.
func (h *Hook[Q, A]) Stats() (calls queue.Stats, hits uint64) { return h.caller.Stats(), h.hits.Load() }

// Timeout returns how long a call takes at most.
func (h *Hook[Q, A]) Timeout() time.Duration { return h.caller.Timeout() }

// Close ends all calls. The endpoint is not closed.
func (h *Hook[Q, A]) Close() { h.caller.Close() }

// Connect returns an endpoint's hook for connections.
func (e *Endpoint) Connect() *Hook[*hook.ConnectRequest, hook.ConnectResult] {
	return newHook(e, connectEvent, nil)
}

// Refresh returns an endpoint's hook for connections that expire.
func (e *Endpoint) Refresh() *Hook[*hook.RefreshRequest, hook.RefreshResult] {
	return newHook(e, refreshEvent, nil)
}

// Subscribe returns an endpoint's hook for subscriptions.
func (e *Endpoint) Subscribe() *Hook[*hook.SubscribeRequest, hook.SubscribeResult] {
	if e.cfg.Cache <= 0 {
		return newHook(e, subscribeEvent, nil)
	}
	c := newCache(cacheableSubscription, func(q *hook.SubscribeRequest) key { return cacheKey(e, q) })
	return newHook(e, subscribeEvent, c)
}

// SubRefresh returns an endpoint's hook for subscriptions that expire.
func (e *Endpoint) SubRefresh() *Hook[*hook.SubRefreshRequest, hook.SubRefreshResult] {
	return newHook(e, subRefreshEvent, nil)
}

// Publish returns an endpoint's hook for publications.
func (e *Endpoint) Publish() *Hook[*hook.PublishRequest, hook.PublishResult] {
	return newHook(e, publishEvent, nil)
}

// RPC returns an endpoint's hook for RPC.
func (e *Endpoint) RPC() *Hook[*hook.RPCRequest, hook.RPCResult] { return newHook(e, rpcEvent, nil) }

func newHook[Q hook.Request, A any](e *Endpoint, ev event[Q, A], c *cache[Q, A]) *Hook[Q, A] {
	// As many connections as calls: that of a call which is taken back while it connects goes on without it.
	e.transport.MaxConnsPerHost += e.cfg.InFlight
	e.transport.MaxIdleConnsPerHost = e.transport.MaxConnsPerHost
	h := &Hook[Q, A]{Event: ev.name, Name: e.cfg.Name, cache: c}
	name := ev.name + " hook"
	if e.cfg.Name != "" && e.cfg.Name != hook.Default {
		name += " " + e.cfg.Name
	}
	call := func(ctx context.Context, q Q) (*A, error) {
		a, fresh, err := ask(ctx, e, &ev, q)
		if f, ok := err.(*hook.Failure); ok {
			f.Err = fmt.Errorf("%s: %w", name, f.Err)
		}
		if c != nil && fresh > 0 {
			c.put(q, a, err, fresh)
		}
		return a, err
	}
	budget := e.cfg.Budget
	if budget == nil {
		budget = queue.NewBudget(0, 0)
	}
	h.caller = hook.Func(call, hook.Options{
		Name: name + ": " + e.name, Timeout: e.cfg.Timeout,
		Queue: queue.Config{InFlight: e.cfg.InFlight, Wait: e.cfg.Wait, Budget: budget},
	})
	h.asked = h.caller
	if len(e.sharedBy) > 0 && ev.repeats {
		h.asked = hook.Share(h.asked, budget, func(q Q) (string, bool) { return shareKey(e, &ev, q) })
	}
	return h
}

// bodyBytes are enough for most requests.
const bodyBytes = 384

// ask makes a call. fresh is for how long its answer may be used again.
func ask[Q hook.Request, A any](ctx context.Context, e *Endpoint, ev *event[Q, A], q Q) (a *A, fresh time.Duration, err error) {
	header, err := e.header(q.From(), ev.repeats)
	if err != nil {
		return nil, 0, err
	}
	// The body's buffer is never used again: http.Transport may read it after its call is over.
	body, err := appendRequest(make([]byte, 0, bodyBytes), e, ev, q, q.From().ID)
	if err != nil {
		return nil, 0, err
	}
	answer, fresh, err := e.post(ctx, ev.name, header, body)
	if err != nil {
		return nil, 0, err
	}
	defer release(answer)
	if a, err = ev.decode(*answer); err != nil && !isDecision(err) {
		return nil, 0, e.failure(queue.Decode, false, "the answer cannot be used: %w", err)
	}
	return a, fresh, err
}

func isDecision(err error) bool {
	switch err.(type) {
	case *hook.Error, *hook.Disconnect:
		return true
	}
	return false
}

// appendRequest appends the body of a request.
func appendRequest[Q hook.Request, A any](dst []byte, e *Endpoint, ev *event[Q, A], q Q, id string) ([]byte, error) {
	w := writer{buf: dst}
	w.begin(e, id, q.From())
	ev.write(&w, e, q)
	if w.err != nil {
		return dst, &hook.Failure{Outcome: queue.Request, Err: fmt.Errorf("what the client has sent is not JSON, and cannot be passed on without binary_encoding: %w", w.err)}
	}
	return append(w.buf, '}'), nil
}

// shareKey returns the key of requests that are the same for the backend, except for the
// client's ID; false if no header says whose they are.
func shareKey[Q hook.Request, A any](e *Endpoint, ev *event[Q, A], q Q) (string, bool) {
	header, err := e.header(q.From(), ev.repeats)
	if err != nil || !slices.ContainsFunc(e.sharedBy, func(name string) bool {
		return slices.ContainsFunc(header[name], func(v string) bool { return v != "" })
	}) {
		return "", false
	}
	b, err := appendRequest(nil, e, ev, q, "")
	if err != nil {
		return "", false
	}
	d := e.digest(q.From())
	d.bytes(b)
	sum := d.sum()
	return string(sum[:]), true
}

// cacheKey returns the key of decisions that are the same.
func cacheKey(e *Endpoint, q *hook.SubscribeRequest) key {
	d := e.digest(q.Client)
	d.bytes([]byte(q.Client.User))
	d.bytes([]byte(q.Channel))
	d.bytes([]byte(q.Token))
	d.bytes(q.Data)
	if e.cfg.Meta {
		d.bytes(q.Client.Meta)
	}
	return d.sum()
}

// key stands for what it was computed of.
type key [sha256.Size]byte

// digest computes a key. Each part goes in with its length, so that no two lists of parts are the
// same bytes.
type digest struct{ buf []byte }

func (d *digest) bytes(p []byte) {
	d.buf = binary.AppendUvarint(d.buf, uint64(len(p)))
	d.buf = append(d.buf, p...)
}

func (d *digest) sum() key { return sha256.Sum256(d.buf) }

// digest returns a digest of the headers that are passed on.
func (e *Endpoint) digest(who *hook.Identity) *digest {
	d := new(digest)
	for _, list := range []struct {
		names []string
		of    hook.Header
	}{{e.headers, who.Headers}, {e.emulated, who.Emulated}} {
		for _, name := range list.names {
			values := slices.Collect(list.of.Values(name))
			d.buf = binary.AppendUvarint(d.buf, uint64(len(values)))
			for _, v := range values {
				d.bytes([]byte(v))
			}
		}
	}
	return d
}
