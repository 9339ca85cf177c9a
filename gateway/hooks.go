package gateway

import (
	"cmp"
	"fmt"

	"sluice/gateway/hook"
)

// validateHooks checks that the hooks that namespaces select are there, and that hooks have an effect.
func (c *Config) validateHooks(faults *Faults) {
	if c.Hooks != nil && c.Insecure {
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
