package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/gateway/hook"
	"sluice/gateway/hook/proxy"
	"sluice/gateway/hook/queue"
)

// Bounds are those of all hooks. Zero means the default.
type Bounds struct {
	InFlight int           // calls of a hook at a time, unless it has its own bound
	Wait     time.Duration // for which a call waits at most, unless the hook has its own bound
	Budget   *queue.Budget // of all calls that wait
}

// Set is hooks with what is behind them. Close ends all calls.
type Set struct {
	// Set at construction.
	Hooks     *hook.Set
	made      []made
	endpoints map[*Hook]*proxy.Endpoint
}

// made is a hook of an event.
type made struct {
	event, name string
	hook        interface {
		Stats() (calls queue.Stats, hits uint64)
		Timeout() time.Duration
		Close()
	}
}

// Build makes the hooks that Check has accepted, with the same namespaces. Each event of a hook
// has a queue and a circuit breaker of its own; its connections are those of the hook.
func (c *Config) Build(namespaces []Namespace, b Bounds) (*Set, error) {
	if b.Budget == nil {
		b.Budget = queue.NewBudget(0, 0)
	}
	if namespaces == nil {
		namespaces = []Namespace{{Selection: c.Everywhere()}}
	}
	h := &hook.Set{
		Subscribe:  make(map[string]hook.Hook[*hook.SubscribeRequest, hook.SubscribeResult]),
		Publish:    make(map[string]hook.Hook[*hook.PublishRequest, hook.PublishResult]),
		SubRefresh: make(map[string]hook.Hook[*hook.SubRefreshRequest, hook.SubRefreshResult]),
	}
	h.HeaderNames, h.EmulatedNames = c.Headers()
	h.AllowAnonymous = c.AllowAnonymous
	m := maker{set: &Set{Hooks: h, endpoints: make(map[*Hook]*proxy.Endpoint)}, bounds: b}
	if c.Connect != nil {
		h.Connect = one(&m, c.Connect, (*proxy.Endpoint).Connect)
	}
	if c.Refresh != nil {
		h.Refresh = one(&m, c.Refresh, (*proxy.Endpoint).Refresh)
	}
	for _, n := range namespaces {
		add(&m, h.Subscribe, n.SubscribeProxyEnabled, n.SubscribeProxyName, c.named(n.SubscribeProxyName, c.Subscribe), (*proxy.Endpoint).Subscribe)
		add(&m, h.Publish, n.PublishProxyEnabled, n.PublishProxyName, c.named(n.PublishProxyName, c.Publish), (*proxy.Endpoint).Publish)
		add(&m, h.SubRefresh, n.SubRefreshProxyEnabled, n.SubRefreshProxyName, c.named(n.SubRefreshProxyName, c.SubRefresh), (*proxy.Endpoint).SubRefresh)
	}
	rpc := &methods{Methods: c.Methods, hooks: make(map[string]hook.Hook[*hook.RPCRequest, hook.RPCResult])}
	for _, n := range append([]MethodNamespace{{Choice: c.Methods.Without}}, c.Methods.Namespaces...) {
		add(&m, rpc.hooks, n.Enabled, n.Choice.Name, c.named(n.Choice.Name, c.RPC), (*proxy.Endpoint).RPC)
	}
	if len(rpc.hooks) > 0 {
		h.RPC = rpc
	}
	if m.faults != nil {
		m.set.Close()
		return nil, errors.Join(m.faults...)
	}
	h.Stats = m.set.Stats
	return m.set, nil
}

// maker makes a Set.
type maker struct {
	set    *Set
	bounds Bounds
	faults []error
}

// endpoint returns the endpoint of a hook, nil if there is something wrong with it.
func (m *maker) endpoint(h *Hook) *proxy.Endpoint {
	if e := m.set.endpoints[h]; e != nil {
		return e
	}
	cfg := h.Config
	cfg.InFlight, cfg.Wait, cfg.Budget = cmp.Or(cfg.InFlight, m.bounds.InFlight), cmp.Or(cfg.Wait, m.bounds.Wait), m.bounds.Budget
	e, err := proxy.New(cfg)
	if err != nil {
		m.faults = append(m.faults, fmt.Errorf("%s: %w", h.Where, err))
		return nil
	}
	m.set.endpoints[h] = e
	return e
}

// one makes a hook of an event, nil if there is something wrong with it.
func one[Q hook.Request, A any](m *maker, h *Hook, of func(*proxy.Endpoint) *proxy.Hook[Q, A]) hook.Hook[Q, A] {
	e := m.endpoint(h)
	if e == nil {
		return nil
	}
	x := of(e)
	m.set.made = append(m.set.made, made{x.Event, x.Name, x})
	return x
}

// add makes a hook of an event and gives it its name, unless there is one with that name.
func add[Q hook.Request, A any](m *maker, to map[string]hook.Hook[Q, A], enabled bool, name string, h *Hook, of func(*proxy.Endpoint) *proxy.Hook[Q, A]) {
	name = cmp.Or(name, hook.Default)
	switch {
	case !enabled || to[name] != nil:
	case h == nil:
		m.faults = append(m.faults, fmt.Errorf("there is no hook with the name %s", quoted(name)))
	default:
		if x := one(m, h, of); x != nil {
			to[name] = x
		}
	}
}

// methods is the hook for RPC: it asks that of a method's namespace.
type methods struct {
	Methods
	hooks map[string]hook.Hook[*hook.RPCRequest, hook.RPCResult] // by name
}

// Errors of Centrifugo's protocol.
var (
	errMethodNotFound = &hook.Error{Code: 104, Message: "method not found"}
	errNotAvailable   = &hook.Error{Code: 108, Message: "not available"}
)

// Ask implements hook.Hook.
func (m *methods) Ask(q *hook.RPCRequest, answer func(*hook.RPCResult, error)) (cancel func()) {
	h, err := m.of(q.Method)
	if err != nil {
		answer(nil, err)
		return func() {}
	}
	return h.Ask(q, answer)
}

// of returns the hook of a method.
func (m *methods) of(method string) (hook.Hook[*hook.RPCRequest, hook.RPCResult], error) {
	choice := m.Without
	if name, _, ok := strings.Cut(method, m.Boundary); ok && m.Boundary != "" {
		found := false
		for _, n := range m.Namespaces {
			if n.Name == name {
				choice, found = n.Choice, true
			}
		}
		if !found {
			return nil, errMethodNotFound
		}
	}
	if !choice.Enabled {
		return nil, errNotAvailable
	}
	return hook.Pick(m.hooks, choice.Name), nil
}

// Stats returns the figures of all hooks.
func (s *Set) Stats() (list []hook.Stat) {
	for _, x := range s.made {
		calls, hits := x.hook.Stats()
		list = append(list, hook.Stat{Event: x.event, Name: x.name, Timeout: x.hook.Timeout(), Calls: calls, Hits: hits})
	}
	return list
}

// Reached is whether calls of a hook can be sent.
type Reached struct {
	Where, Endpoint string // as in the file, without what is secret
	Err             error  // nil if they can
}

// Reach connects to all endpoints, side by side.
func (s *Set) Reach(ctx context.Context) []Reached {
	hooks := slices.SortedFunc(maps.Keys(s.endpoints), func(a, b *Hook) int { return strings.Compare(a.Where, b.Where) })
	list := make([]Reached, len(hooks))
	var all sync.WaitGroup
	for i, h := range hooks {
		e := s.endpoints[h]
		list[i] = Reached{Where: h.Where, Endpoint: e.String()}
		all.Go(func() { list[i].Err = e.Reach(ctx) })
	}
	all.Wait()
	return list
}

// Close ends all calls, and closes all connections.
func (s *Set) Close() {
	for _, x := range s.made {
		x.hook.Close()
	}
	for _, e := range s.endpoints {
		e.Close()
	}
}
