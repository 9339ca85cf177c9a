package config

import (
	"errors"
	"fmt"
	"slices"

	"sluice/gateway/hook"
	"sluice/gateway/setting"
)

// Namespace is what the namespaces file says of hooks.
type Namespace struct {
	Name string // "" for channels without a namespace
	Selection
}

// Selection is which hooks channels have. Its fields are those of namespace.Options.
type Selection struct {
	SubscribeProxyEnabled  bool
	SubscribeProxyName     string // "" for hook.Default, as all names
	PublishProxyEnabled    bool
	PublishProxyName       string
	SubRefreshProxyEnabled bool
	SubRefreshProxyName    string
}

// Surroundings are the other settings that hooks have to fit.
type Surroundings struct {
	Insecure   bool
	AnyOrigin  string      // an origin pattern with which any web page can connect, "*" or "null"; "" for none
	Namespaces []Namespace // nil: there is no namespaces file
}

// selections are the parts of a Selection, each with what it can select.
func (c *Config) selections(s *Selection) []selection {
	return []selection{
		{"subscribe_proxy", &s.SubscribeProxyEnabled, &s.SubscribeProxyName, c.Subscribe, "channel.proxy.subscribe or --subscribe-hook"},
		{"publish_proxy", &s.PublishProxyEnabled, &s.PublishProxyName, c.Publish, "channel.proxy.publish or --publish-hook"},
		{"sub_refresh_proxy", &s.SubRefreshProxyEnabled, &s.SubRefreshProxyName, c.SubRefresh, "channel.proxy.sub_refresh or --sub-refresh-hook"},
	}
}

type selection struct {
	option  string // without _enabled or _name
	enabled *bool
	name    *string
	of      *Hook  // with the name hook.Default; nil for none
	places  string // where that is configured
}

// Everywhere returns the selection of all channels where there is no namespaces file: each
// default hook that there is.
func (c *Config) Everywhere() (s Selection) {
	for _, x := range c.selections(&s) {
		*x.enabled = x.of != nil
	}
	return s
}

// Check returns an error that lists everything in which hooks do not fit the other settings, or
// each other. c can be nil.
func (c *Config) Check(s Surroundings) error {
	var r reader
	if c == nil {
		c = new(Config)
	}
	used := make(map[*Hook]bool)
	used[c.Connect], used[c.Refresh] = true, true
	if s.Namespaces == nil {
		used[c.Subscribe], used[c.Publish], used[c.SubRefresh] = true, true, true
	}
	r.in = InNamespaces
	for _, n := range s.Namespaces {
		where := "without_namespace"
		if n.Name != "" {
			where = "namespace " + quoted(n.Name)
		}
		for _, x := range c.selections(&n.Selection) {
			if !*x.enabled {
				if *x.name != "" {
					r.fault(where, "%s_name: it has no effect without %s_enabled; add \"%s_enabled\": true, or remove it", x.option, x.option, x.option)
				}
				continue
			}
			used[c.selected(&r, where+": "+x.option, *x.name, x.of, x.places)] = true
		}
	}
	r.in = InFile
	for _, m := range append([]MethodNamespace{{Choice: c.Methods.Without}}, c.Methods.Namespaces...) {
		if !m.Enabled {
			continue
		}
		where := "rpc.without_namespace: proxy"
		if m.Name != "" {
			where = "rpc namespace " + quoted(m.Name) + ": proxy"
		}
		used[c.selected(&r, where, m.Choice.Name, c.RPC, "rpc.proxy or --rpc-hook")] = true
	}
	if c.AllowAnonymous && c.Connect == nil {
		r.fault("client.allow_anonymous_connect_without_token", "it has no effect without a connect hook: a client without a token is anonymous then; remove it")
	}
	for _, h := range c.all() {
		if !used[h] {
			r.fault(h.Where, "no namespace uses this hook; select it in one, or remove it")
		}
		if s.AnyOrigin != "" && contains(h.Headers, "Cookie") {
			r.fault(h.Where, "Cookie is passed on, and an origin pattern is %q: any web page could act as its visitors; name the origins, or remove Cookie", s.AnyOrigin)
		}
		if s.Insecure {
			r.fault(h.Where, "it has no effect with --insecure, with which clients may do everything; remove one of them")
		}
	}
	return errors.Join(r.faults...)
}

// selected returns the hook with a name, nil for none, which is a fault.
func (c *Config) selected(r *reader, where, name string, of *Hook, places string) *Hook {
	h := c.named(name, of)
	switch {
	case h != nil:
	case name == "" || name == hook.Default:
		r.fault(where+"_enabled", "there is no default hook for it; add %s", places)
	default:
		names := []string{hook.Default}
		for _, h := range c.Named {
			names = append(names, h.Name)
		}
		hint := "add it to proxies in the hooks file"
		if nearest := setting.Nearest(name, names); nearest != "" {
			hint = fmt.Sprintf("did you mean %q?", nearest)
		}
		r.fault(where+"_name", "there is no hook with the name %s; %s", quoted(name), hint)
	}
	return h
}

// Headers returns the names of the headers that hooks pass on: those of opening requests, and
// those that clients write into their connect command. Nothing else has to be kept.
func (c *Config) Headers() (ofRequests, emulated []string) {
	for _, h := range c.all() {
		for _, x := range []struct {
			from []string
			to   *[]string
		}{{h.Config.Headers, &ofRequests}, {h.EmulatedHeaders, &emulated}} {
			for _, name := range x.from {
				if !contains(*x.to, name) {
					*x.to = append(*x.to, name)
				}
			}
		}
	}
	slices.Sort(ofRequests)
	slices.Sort(emulated)
	return ofRequests, emulated
}
