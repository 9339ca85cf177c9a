package gateway

import (
	"cmp"
	"fmt"

	"sluice/gateway/hook"
	"sluice/gateway/hook/queue"
	"sluice/gateway/ops"
)

// validateHooks checks that the hooks that namespaces select are there, and that hooks have an effect.
func (c *Config) validateHooks(faults *Faults) {
	if c.Hooks.Asks() && c.Insecure {
		faults.Add("Insecure", true, "has no effect on hooks: every client may do everything", "use hooks, or {Insecure}")
	}
	if c.Namespaces == nil {
		return
	}
	set := c.Hooks
	if set == nil {
		set = new(hook.Set)
	}
	for o := range c.Namespaces.All() {
		for _, of := range []struct {
			event, name string
			selects, is bool
		}{
			{"subscribe", o.SubscribeProxyName, o.SubscribeProxyEnabled, hook.Pick(set.Subscribe, o.SubscribeProxyName) != nil},
			{"publish", o.PublishProxyName, o.PublishProxyEnabled, hook.Pick(set.Publish, o.PublishProxyName) != nil},
			{"sub_refresh", o.SubRefreshProxyName, o.SubRefreshProxyEnabled, hook.Pick(set.SubRefresh, o.SubRefreshProxyName) != nil},
		} {
			if of.selects && !of.is {
				faults.Add("Namespaces", fmt.Sprintf("%q", o.Name), fmt.Sprintf("selects the %s hook %q, which does not exist", of.event, cmp.Or(of.name, hook.Default)),
					"configure that hook, or remove "+of.event+"_proxy_enabled")
			}
		}
	}
}

// hookBounds are the upper bounds of the buckets of hooks' histograms in seconds.
var hookBounds = func() (bounds []float64) {
	for _, b := range queue.Bounds {
		bounds = append(bounds, b.Seconds())
	}
	return bounds
}()

// snapshotHooks returns what the metrics say of hooks; there may be none.
func snapshotHooks(set *hook.Set) (list []ops.Hook) {
	if set == nil || set.Stats == nil {
		return nil
	}
	times := func(h *queue.Histogram) ops.Histogram {
		return ops.Histogram{Bounds: hookBounds, Counts: h.Counts[:], Sum: h.Sum.Seconds()}
	}
	for _, x := range set.Stats() {
		h := ops.Hook{
			Event: x.Event, Name: x.Name, Timeout: x.Timeout.Seconds(), InFlight: x.Calls.InFlight, Queued: x.Calls.Queued, Open: x.Calls.Open, Opened: x.Calls.Opened, Hits: x.Hits,
			Outcomes: make(map[string]uint64, queue.OutcomeCount), Calls: times(&x.Calls.Durations), Waits: times(&x.Calls.Waits),
		}
		for o, n := range x.Calls.Outcomes {
			h.Outcomes[queue.Outcome(o).String()] = n
		}
		list = append(list, h)
	}
	return list
}
