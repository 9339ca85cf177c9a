package serve

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/gateway"
	"sluice/gateway/hook/config"
	"sluice/gateway/hook/queue"
	"sluice/gateway/setting"
)

// HookSettings are the settings of hooks.
type HookSettings struct {
	File            string        `field:"Hooks" name:"hooks" group:"Hooks" meta:"FILE" reload:"on SIGHUP" help:"JSON file with hooks: HTTP endpoints of the application that decide who may connect, subscribe and publish, in the format of the proxies in Centrifugo's configuration"`
	Connect         string        `name:"connect-hook" group:"Hooks" meta:"URL" reload:"on SIGHUP" help:"endpoint that decides who may connect, for clients without a token"`
	Refresh         string        `name:"refresh-hook" group:"Hooks" meta:"URL" reload:"on SIGHUP" help:"endpoint that decides whether a connection that expires may stay"`
	Subscribe       string        `name:"subscribe-hook" group:"Hooks" meta:"URL" reload:"on SIGHUP" help:"endpoint that decides who may subscribe to a channel"`
	SubRefresh      string        `name:"sub-refresh-hook" group:"Hooks" meta:"URL" reload:"on SIGHUP" help:"endpoint that decides whether a subscription that expires may stay"`
	Publish         string        `name:"publish-hook" group:"Hooks" meta:"URL" reload:"on SIGHUP" help:"endpoint that decides about what clients publish, and may change it"`
	RPC             string        `name:"rpc-hook" group:"Hooks" meta:"URL" reload:"on SIGHUP" help:"endpoint that answers the RPC requests of clients"`
	Headers         []string      `name:"hook-headers" group:"Hooks" reload:"on SIGHUP" help:"headers of the client's opening request that are sent to the hooks given by flags, such as Cookie"`
	EmulatedHeaders []string      `name:"hook-emulated-headers" group:"Hooks" reload:"on SIGHUP" help:"headers that a client writes into its connect command, and that are sent to the hooks given by flags. A client can write anything there"`
	Timeout         time.Duration `name:"hook-timeout" group:"Hooks" default:"1s" reload:"on SIGHUP" help:"time limit for an answer of a hook given by a flag, from when the request is sent; at most 1m"`
	MaxInFlight     int           `name:"hook-max-in-flight" group:"Hooks" default:"64" min:"1" max:"10000" reload:"on SIGHUP" help:"maximum requests of one hook that wait for the backend at the same time; further ones wait in a queue that is fair by client address"`
	Queue           int           `name:"hook-queue" group:"Hooks" default:"10000" min:"1" max:"1000000" reload:"on SIGHUP" help:"maximum requests of all hooks that wait in their queues, of which one address can have half; clients beyond that are asked to retry later"`
}

// Hooks are what the options for hooks amount to.
type Hooks struct {
	config     *config.Config // nil for none
	namespaces []config.Namespace
	bounds     config.Bounds
	sources    hookSources

	Warnings []string
}

// hookSources is all that hooks follow from.
type hookSources struct {
	flags      config.Flags
	given      bool              // there is a file
	files      map[string][]byte // that file, and those that it names
	namespaces []config.Namespace
	inFlight   int
	queue      int
}

// same reports whether two sets of hooks are the same.
func (h *Hooks) same(other *Hooks) bool { return reflect.DeepEqual(h.sources, other.sources) }

// checkHooks reads the options for hooks, and checks them with those for permissions, which must be read.
func (s *Settings) checkHooks(opts *option.Options) (h Hooks, faults []error) {
	set := &s.Hooks
	given := func(flag string) bool { return opts.ByName[flag].Source.Kind != option.FromDefault }
	flags := config.Flags{
		Connect: set.Connect, Refresh: set.Refresh, Subscribe: set.Subscribe, SubRefresh: set.SubRefresh, Publish: set.Publish, RPC: set.RPC,
		Headers: set.Headers, EmulatedHeaders: set.EmulatedHeaders, Timeout: set.Timeout,
	}
	ofFlags, err := flags.Config()
	faults = append(faults, s.hookFaults(err)...)
	for _, f := range opts.FaultsOf(setting.Bounds(set)) {
		faults = append(faults, cli.Usagef("%w", f))
	}
	if given("hook-timeout") && ofFlags == nil && err == nil {
		faults = append(faults, cli.OptionUsage("hook-timeout", ": there is no hook that it is for; add a hook, such as --connect-hook, or set timeout in the file of --hooks"))
	}
	ofFile, files, more := s.readHooks()
	h.sources.files = files // to look at again when they change
	if faults = append(faults, more...); len(faults) > 0 {
		return h, faults
	}
	all, err := config.Merge(ofFile, ofFlags)
	if err != nil {
		return h, s.hookFaults(err)
	}
	if s.Gateway.Namespaces != nil {
		for o := range s.Gateway.Namespaces.All() {
			h.namespaces = append(h.namespaces, config.Namespace{Name: o.Name, Selection: config.Selection{
				SubscribeProxyEnabled: o.SubscribeProxyEnabled, SubscribeProxyName: o.SubscribeProxyName,
				PublishProxyEnabled: o.PublishProxyEnabled, PublishProxyName: o.PublishProxyName,
				SubRefreshProxyEnabled: o.SubRefreshProxyEnabled, SubRefreshProxyName: o.SubRefreshProxyName,
			}})
		}
	}
	if s.Namespaces == "" || s.Gateway.Namespaces != nil { // else there is another fault
		faults = s.hookFaults(all.Check(config.Surroundings{
			Insecure: s.Insecure, AnyOrigin: anyOrigin(s.Gateway.AllowedOrigins), Namespaces: h.namespaces,
		}))
	}
	h.sources = hookSources{flags: flags, given: ofFile != nil, files: files, namespaces: h.namespaces, inFlight: set.MaxInFlight, queue: set.Queue}
	if all.Empty() {
		for _, flag := range []string{"hook-max-in-flight", "hook-queue"} {
			if given(flag) {
				faults = append(faults, cli.OptionUsage(flag, " %s: there is no hook that it is for; add a hook, such as --connect-hook, or remove it", opts.ByName[flag].Text))
			}
		}
		return h, faults
	}
	for _, w := range s.hookFaults(all.Warnings()) {
		h.Warnings = append(h.Warnings, w.Error())
	}
	if info, err := os.Stat(s.Hooks.File); ofFile.Secret() && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
		h.Warnings = append(h.Warnings, fmt.Sprintf("--hooks %s: every user of this machine can read the secrets in it; run 'chmod o= %[1]s'", s.Hooks.File))
	}
	h.config, h.bounds = all, config.Bounds{InFlight: set.MaxInFlight, Budget: queue.NewBudget(set.Queue, 0)}
	return h, faults
}

// anyOrigin returns a pattern for origins with which any web page can connect, "" for none. A page of any site can open a frame
// whose origin is "null", and the browser sends its visitor's cookies from there.
func anyOrigin(patterns []string) string {
	for _, p := range patterns {
		if p == "*" || p == "null" {
			return p
		}
	}
	return ""
}

// readHooks reads the file of --hooks and those that it names, and returns all of their faults.
func (s *Settings) readHooks() (c *config.Config, files map[string][]byte, faults []error) {
	files = make(map[string][]byte)
	if s.Hooks.File == "" {
		return nil, files, nil
	}
	read := func(name string) (data []byte, err error) {
		data, err = os.ReadFile(name)
		files[name] = data
		return data, err
	}
	data, err := read(s.Hooks.File)
	if err != nil {
		return nil, files, []error{cli.OptionUsage("hooks", " %s: %w; use a JSON file", s.Hooks.File, cli.BareError(err))}
	}
	c, err = config.Parse(data, read)
	return c, files, s.hookFaults(err)
}

// hookFaults returns the faults that an error of package config lists, as errors about options.
func (s *Settings) hookFaults(err error) (faults []error) {
	for _, f := range config.Faults(err) {
		switch f.In {
		case config.InFlag:
			faults = append(faults, cli.OptionUsage(strings.TrimPrefix(f.Where, "--"), ": %w", f.Err))
		case config.InNamespaces:
			faults = append(faults, cli.OptionUsage("namespaces", " %s: %w", s.Namespaces, f))
		default:
			faults = append(faults, cli.OptionUsage("hooks", " %s: %w", s.Hooks.File, f))
		}
	}
	return faults
}

// Build makes the hooks, nil for none. The caller closes them.
func (h *Hooks) Build() (*config.Set, error) {
	if h.config == nil {
		return nil, nil
	}
	set, err := h.config.Build(h.namespaces, h.bounds)
	if err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	return set, nil
}

// Keyed reports whether hooks decide who may connect or subscribe, as keys do.
func (h *Hooks) Keyed() bool {
	return h.config != nil && (h.config.Connect != nil || h.config.Subscribe != nil)
}

// unhooked returns the gateway's configuration without what refers to hooks, which checkHooks has checked.
func (s *Settings) unhooked() gateway.Config {
	g := s.Gateway
	g.Namespaces = nil
	return g
}
