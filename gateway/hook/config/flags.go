package config

import (
	"errors"
	"fmt"
	"time"

	"sluice/gateway/hook"
	"sluice/gateway/hook/proxy"
)

// Flags are the settings for one hook of each event. "" is none.
type Flags struct {
	Connect, Refresh, Subscribe, SubRefresh, Publish, RPC string // URLs
	Headers, EmulatedHeaders                              []string
	Timeout                                               time.Duration // 0 for the default
}

// Config returns the hooks that flags name, nil for none. Its error lists all faults.
func (f Flags) Config() (*Config, error) {
	var r reader
	var c Config
	some := false
	for _, x := range []struct {
		flag, url string
		to        **Hook
	}{
		{"--connect-hook", f.Connect, &c.Connect}, {"--refresh-hook", f.Refresh, &c.Refresh}, {"--subscribe-hook", f.Subscribe, &c.Subscribe},
		{"--sub-refresh-hook", f.SubRefresh, &c.SubRefresh}, {"--publish-hook", f.Publish, &c.Publish}, {"--rpc-hook", f.RPC, &c.RPC},
	} {
		if x.url == "" {
			continue
		}
		some = true
		if err := proxy.CheckEndpoint(x.url); err != nil {
			r.fault(x.flag, "%w", err)
		}
		*x.to = &Hook{Where: x.flag, Config: proxy.Config{
			Name: hook.Default, Endpoint: x.url, Timeout: f.Timeout, Headers: f.Headers, EmulatedHeaders: f.EmulatedHeaders,
		}}
	}
	c.Methods.Without.Enabled = c.RPC != nil
	for _, x := range []struct {
		flag  string
		names []string
	}{{"--hook-headers", f.Headers}, {"--hook-emulated-headers", f.EmulatedHeaders}} {
		r.headerNames(x.flag, x.names)
		if len(x.names) > 0 && !some {
			r.fault(x.flag, "there is no hook to send headers to; add a hook, such as --connect-hook, or remove it")
		}
	}
	if f.Timeout != 0 {
		if err := checkTimeout(f.Timeout); err != nil {
			r.fault("--hook-timeout", "%w", err)
		}
	}
	if r.faults != nil {
		return nil, errors.Join(r.faults...)
	}
	if !some {
		return nil, nil
	}
	return &c, nil
}

// timeoutMax bounds how long a client can be made to wait.
const timeoutMax = time.Minute

func checkTimeout(d time.Duration) error {
	switch {
	case d <= 0:
		return fmt.Errorf(`%v is not positive; write, for example, "1s"`, d)
	case d > timeoutMax:
		return fmt.Errorf("%v is more than %v, the most that a client waits", d, timeoutMax)
	}
	return nil
}
