package config

import (
	"errors"

	"sluice/gateway/hook"
	"sluice/gateway/hook/proxy"
)

// Config is which hooks there are. nil is none.
type Config struct {
	Connect, Refresh *Hook
	// The hooks with the name hook.Default.
	Subscribe, Publish, SubRefresh, RPC *Hook
	Named                               []*Hook // of any event
	Methods                             Methods
	// AllowAnonymous accepts clients about which the connect hook has no result; see hook.Set.
	AllowAnonymous bool
}

// Hook is a hook as it is configured.
type Hook struct {
	Where string // its place in the file, or the flag
	proxy.Config
}

// Methods is which RPC methods have a hook.
type Methods struct {
	Boundary   string // between the namespace and the rest of a method's name; "" without namespaces
	Without    Choice // for methods without a namespace
	Namespaces []MethodNamespace
}

// MethodNamespace is a namespace of RPC methods.
type MethodNamespace struct {
	Name string
	Choice
}

// Choice is a hook that is selected by its name; the zero Choice is none.
type Choice struct {
	Enabled bool
	Name    string // "" for hook.Default
}

// Empty reports whether there is no hook.
func (c *Config) Empty() bool { return c == nil || len(c.all()) == 0 }

// all returns all hooks.
func (c *Config) all() (list []*Hook) {
	for _, h := range []*Hook{c.Connect, c.Refresh, c.Subscribe, c.Publish, c.SubRefresh, c.RPC} {
		if h != nil {
			list = append(list, h)
		}
	}
	return append(list, c.Named...)
}

// named returns the hook of an event with a name, nil for none. of is the default one.
func (c *Config) named(name string, of *Hook) *Hook {
	if name == "" || name == hook.Default {
		return of
	}
	for _, h := range c.Named {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Merge returns the hooks of a file and of flags together. Either can be nil. A hook that both
// have is an error.
func Merge(file, flags *Config) (*Config, error) {
	switch {
	case file == nil:
		return flags, nil
	case flags == nil:
		return file, nil
	}
	merged := *file
	var r reader
	for _, x := range []struct {
		of   **Hook
		flag *Hook
	}{
		{&merged.Connect, flags.Connect}, {&merged.Refresh, flags.Refresh}, {&merged.Subscribe, flags.Subscribe},
		{&merged.Publish, flags.Publish}, {&merged.SubRefresh, flags.SubRefresh}, {&merged.RPC, flags.RPC},
	} {
		switch {
		case x.flag == nil:
		case *x.of != nil:
			r.fault(x.flag.Where, "the hooks file has %s too; remove one of them", (*x.of).Where)
		default:
			*x.of = x.flag
		}
	}
	if flags.RPC != nil {
		if m := file.Methods; m.Without != (Choice{}) || len(m.Namespaces) > 0 {
			r.fault(flags.RPC.Where, "the hooks file says which methods have which hook; add the hook there, as rpc.proxy")
		}
		merged.Methods = flags.Methods
	}
	return &merged, errors.Join(r.faults...)
}
