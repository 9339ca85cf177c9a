package config

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
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

// Set is the hooks that a gateway has. It is safe for concurrent use. Close ends all calls.
type Set struct {
	connect    table[*hook.ConnectRequest, hook.ConnectResult]
	refresh    table[*hook.RefreshRequest, hook.RefreshResult]
	subscribe  table[*hook.SubscribeRequest, hook.SubscribeResult]
	subRefresh table[*hook.SubRefreshRequest, hook.SubRefreshResult]
	publish    table[*hook.PublishRequest, hook.PublishResult]
	rpc        table[*hook.RPCRequest, hook.RPCResult]
	methods    Methods

	endpoints map[*Hook]*proxy.Endpoint
}

// table holds the hooks of an event by name.
type table[Q hook.Request, A any] map[string]*proxy.Hook[Q, A]

// get returns a hook, nil for none.
func (t table[Q, A]) get(enabled bool, name string) hook.Hook[Q, A] {
	if h := t[cmp.Or(name, hook.Default)]; enabled && h != nil {
		return h
	}
	return nil // not a nil pointer in the interface
}

// Build makes the hooks that Check has accepted, with the same namespaces. Each event of a hook
// has a queue and a circuit breaker of its own; its connections are those of the hook.
func (c *Config) Build(namespaces []Namespace, b Bounds) (*Set, error) {
	if b.Budget == nil {
		b.Budget = queue.NewBudget(0, 0)
	}
	s := &Set{
		connect: table[*hook.ConnectRequest, hook.ConnectResult]{}, refresh: table[*hook.RefreshRequest, hook.RefreshResult]{},
		subscribe: table[*hook.SubscribeRequest, hook.SubscribeResult]{}, subRefresh: table[*hook.SubRefreshRequest, hook.SubRefreshResult]{},
		publish: table[*hook.PublishRequest, hook.PublishResult]{}, rpc: table[*hook.RPCRequest, hook.RPCResult]{},
		methods: c.Methods, endpoints: make(map[*Hook]*proxy.Endpoint),
	}
	if namespaces == nil {
		namespaces = []Namespace{{Selection: c.Everywhere()}}
	}
	m := maker{set: s, bounds: b}
	add(&m, s.connect, c.Connect != nil, "", c.Connect, (*proxy.Endpoint).Connect)
	add(&m, s.refresh, c.Refresh != nil, "", c.Refresh, (*proxy.Endpoint).Refresh)
	for _, n := range namespaces {
		add(&m, s.subscribe, n.SubscribeProxyEnabled, n.SubscribeProxyName, c.named(n.SubscribeProxyName, c.Subscribe), (*proxy.Endpoint).Subscribe)
		add(&m, s.publish, n.PublishProxyEnabled, n.PublishProxyName, c.named(n.PublishProxyName, c.Publish), (*proxy.Endpoint).Publish)
		add(&m, s.subRefresh, n.SubRefreshProxyEnabled, n.SubRefreshProxyName, c.named(n.SubRefreshProxyName, c.SubRefresh), (*proxy.Endpoint).SubRefresh)
	}
	for _, n := range append([]MethodNamespace{{Choice: c.Methods.Without}}, c.Methods.Namespaces...) {
		add(&m, s.rpc, n.Enabled, n.Choice.Name, c.named(n.Choice.Name, c.RPC), (*proxy.Endpoint).RPC)
	}
	if m.faults != nil {
		s.Close()
		return nil, errors.Join(m.faults...)
	}
	return s, nil
}

// maker makes the endpoints of a Set.
type maker struct {
	set    *Set
	bounds Bounds
	faults []error
}

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

// add adds a hook to a table, unless it is there.
func add[Q hook.Request, A any](m *maker, t table[Q, A], enabled bool, name string, h *Hook, of func(*proxy.Endpoint) *proxy.Hook[Q, A]) {
	name = cmp.Or(name, hook.Default)
	if !enabled || t[name] != nil {
		return
	}
	if h == nil {
		m.faults = append(m.faults, fmt.Errorf("there is no hook with the name %s", quoted(name)))
		return
	}
	if e := m.endpoint(h); e != nil {
		t[name] = of(e)
	}
}

// Connect returns the hook for connections, nil for none.
func (s *Set) Connect() hook.Hook[*hook.ConnectRequest, hook.ConnectResult] {
	return s.connect.get(true, "")
}

// Refresh returns the hook for connections that expire, nil for none.
func (s *Set) Refresh() hook.Hook[*hook.RefreshRequest, hook.RefreshResult] {
	return s.refresh.get(true, "")
}

// Subscribe returns the hook for subscriptions to channels with a selection, nil for none.
func (s *Set) Subscribe(of hook.Selection) hook.Hook[*hook.SubscribeRequest, hook.SubscribeResult] {
	return s.subscribe.get(of.SubscribeProxyEnabled, of.SubscribeProxyName)
}

// SubRefresh returns the hook for subscriptions that expire, nil for none.
func (s *Set) SubRefresh(of hook.Selection) hook.Hook[*hook.SubRefreshRequest, hook.SubRefreshResult] {
	return s.subRefresh.get(of.SubRefreshProxyEnabled, of.SubRefreshProxyName)
}

// Publish returns the hook for publications, nil for none.
func (s *Set) Publish(of hook.Selection) hook.Hook[*hook.PublishRequest, hook.PublishResult] {
	return s.publish.get(of.PublishProxyEnabled, of.PublishProxyName)
}

// Errors of Centrifugo's protocol.
var (
	errMethodNotFound = &hook.Error{Code: 104, Message: "method not found"}
	errNotAvailable   = &hook.Error{Code: 108, Message: "not available"}
)

// RPC returns the hook for a method, or the error that its caller is sent.
func (s *Set) RPC(method string) (hook.Hook[*hook.RPCRequest, hook.RPCResult], error) {
	choice := s.methods.Without
	if name, _, ok := strings.Cut(method, s.methods.Boundary); ok && s.methods.Boundary != "" && len(s.rpc) > 0 {
		choice = Choice{}
		found := false
		for _, n := range s.methods.Namespaces {
			if n.Name == name {
				choice, found = n.Choice, true
			}
		}
		if !found {
			return nil, errMethodNotFound
		}
	}
	if h := s.rpc.get(choice.Enabled, choice.Name); h != nil {
		return h, nil
	}
	return nil, errNotAvailable
}

// Stat is the figures of a hook.
type Stat struct {
	Event, Name string
	Calls       queue.Stats
	Hits        uint64 // answers from the cache
}

// Stats returns the figures of all hooks, in no order.
func (s *Set) Stats() (list []Stat) {
	list = s.connect.stats(list)
	list = s.refresh.stats(list)
	list = s.subscribe.stats(list)
	list = s.subRefresh.stats(list)
	list = s.publish.stats(list)
	return s.rpc.stats(list)
}

func (t table[Q, A]) stats(list []Stat) []Stat {
	for name, h := range t {
		calls, hits := h.Stats()
		list = append(list, Stat{h.Event, name, calls, hits})
	}
	return list
}

// Close ends all calls, and closes all connections.
func (s *Set) Close() {
	s.connect.close()
	s.refresh.close()
	s.subscribe.close()
	s.subRefresh.close()
	s.publish.close()
	s.rpc.close()
	for _, e := range s.endpoints {
		e.Close()
	}
}

func (t table[Q, A]) close() {
	for _, h := range t {
		h.Close()
	}
}
