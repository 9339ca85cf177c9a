package hook

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// Default is the name of the hook that is used where none is named.
const Default = "default"

// Set is all hooks that a gateway asks. Those of channels have names, by which namespaces choose
// them; most often there is only the one called Default. The zero Set has none, and so has nil.
type Set struct {
	Connect    Hook[*ConnectRequest, ConnectResult]
	Refresh    Hook[*RefreshRequest, RefreshResult]
	RPC        Hook[*RPCRequest, RPCResult]
	Message    Hook[*MessageRequest, MessageResult]
	Disconnect Hook[*DisconnectRequest, DisconnectResult]
	// Filter is that of Hooks; nil for none.
	Filter func(m FilterRequest) (publish bool)
	// AllowAnonymous accepts clients about which the connect hook has no result, as anonymous ones. Without it they are
	// disconnected.
	AllowAnonymous bool

	Subscribe  map[string]Hook[*SubscribeRequest, SubscribeResult]
	Publish    map[string]Hook[*PublishRequest, PublishResult]
	SubRefresh map[string]Hook[*SubRefreshRequest, SubRefreshResult]

	// HeaderNames are the fields that the hooks want of the request that opens a connection.
	HeaderNames []string
	// EmulatedNames are the ones that they want of what a client has written into its connect
	// command (Identity.Emulated). Nothing else of that needs to be kept.
	EmulatedNames []string

	// Stats returns the figures of the hooks, for the metrics; nil for none.
	Stats func() []Stat
}

// NewSet returns the set of an application's hooks, which want all of the header.
func NewSet(h Hooks) *Set {
	s := &Set{Connect: h.Connect, Refresh: h.Refresh, RPC: h.RPC, Message: h.Message, Disconnect: h.Disconnect, Filter: h.Filter, HeaderNames: []string{"*"}, EmulatedNames: []string{"*"}, Stats: h.stats()}
	if h.Subscribe != nil {
		s.Subscribe = map[string]Hook[*SubscribeRequest, SubscribeResult]{Default: h.Subscribe}
	}
	if h.Publish != nil {
		s.Publish = map[string]Hook[*PublishRequest, PublishResult]{Default: h.Publish}
	}
	if h.SubRefresh != nil {
		s.SubRefresh = map[string]Hook[*SubRefreshRequest, SubRefreshResult]{Default: h.SubRefresh}
	}
	return s
}

// Asks reports whether there is a hook that is asked, which a Filter is not.
func (s *Set) Asks() bool {
	return s != nil && (s.Connect != nil || s.Refresh != nil || s.RPC != nil || s.Message != nil || s.Disconnect != nil ||
		len(s.Subscribe)+len(s.Publish)+len(s.SubRefresh) > 0)
}

// Wants reports whether the hooks want a header field.
func (s *Set) Wants(name string) bool { return s != nil && wants(s.HeaderNames, name) }

// WantsEmulated reports whether the hooks want a field of what a client has written into its
// connect command.
func (s *Set) WantsEmulated(name string) bool { return s != nil && wants(s.EmulatedNames, name) }

func wants(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return n == "*" || strings.EqualFold(n, name) })
}

// Pick returns the hook with a name, "" for the default one; nil if there is none.
func Pick[Q Request, A any](hooks map[string]Hook[Q, A], name string) Hook[Q, A] {
	if name == "" {
		name = Default
	}
	return hooks[name]
}

// Collect returns the fields that the hooks want of the header of a request.
func (s *Set) Collect(header iter.Seq2[string, string]) Header {
	if s == nil {
		return nil
	}
	return collect(header, s.HeaderNames)
}

// CollectEmulated returns the fields that the hooks want of what a client has sent in place of a header.
func (s *Set) CollectEmulated(said map[string]string) Header {
	if s == nil {
		return nil
	}
	return collect(maps.All(said), s.EmulatedNames)
}

// collect returns the fields that are among names. Host is none of them: it says where the client wanted to go.
func collect(header iter.Seq2[string, string], names []string) (h Header) {
	if len(names) == 0 {
		return nil
	}
	for field, value := range header {
		i := slices.IndexFunc(names, func(n string) bool { return n == "*" || strings.EqualFold(n, field) })
		if i < 0 || strings.EqualFold(field, "Host") {
			continue
		}
		name := names[i]
		if name != field {
			name = strings.Clone(field)
		}
		h = append(h, Field{name, strings.Clone(value)}) // not all of the request
	}
	return h
}
