package hook

import (
	"time"

	"sluice/gateway/hook/queue"
)

// Stat is the figures of a hook.
type Stat struct {
	Event, Name string        // as Centrifugo names them in metrics
	Timeout     time.Duration // of a call
	Calls       queue.Stats
	Hits        uint64 // answers from a cache
}

// measured is a hook that has figures, as a Caller has.
type measured interface {
	Stats() queue.Stats
	Timeout() time.Duration
}

// stats returns a function that returns the figures of those of an application's hooks that have some, nil if none has.
func (h *Hooks) stats() func() []Stat {
	var events []string
	var hooks []measured
	for _, x := range []struct {
		event string
		hook  any
	}{
		{"connect", h.Connect}, {"refresh", h.Refresh}, {"subscribe", h.Subscribe}, {"sub_refresh", h.SubRefresh},
		{"publish", h.Publish}, {"rpc", h.RPC}, {"message", h.Message}, {"disconnect", h.Disconnect},
	} {
		if m, ok := x.hook.(measured); ok {
			events, hooks = append(events, x.event), append(hooks, m)
		}
	}
	if hooks == nil {
		return nil
	}
	return func() (list []Stat) {
		for i, m := range hooks {
			list = append(list, Stat{Event: events[i], Name: Default, Timeout: m.Timeout(), Calls: m.Stats()})
		}
		return list
	}
}
