package config

import (
	"cmp"
	"errors"
	"slices"

	"sluice/gateway/hook/proxy"
)

// Warnings returns an error that lists what is probably a mistake, nil for nothing. c can be nil.
func (c *Config) Warnings() error {
	if c == nil {
		return nil
	}
	var r reader
	for _, h := range c.all() {
		if h.TLS != nil && h.TLS.InsecureSkipVerify {
			r.fault(h.Where, "insecure_skip_verify: any machine between the gateway and the backend can answer in the backend's place; remove it, and name the backend's CA in server_ca_pem")
		}
		for _, name := range h.EmulatedHeaders {
			if contains(h.Headers, name) {
				r.fault(h.Where, "%s is among the headers of the request and among those that a client can write itself: a client that does not send the first can forge it; remove it from one of them", name)
			}
		}
		for name := range h.StaticHeaders {
			if contains(h.Headers, name) || contains(h.EmulatedHeaders, name) {
				r.fault(h.Where, "%s is a static header and is also passed on: a client can replace it; remove it from one of them", name)
			}
		}
	}
	slices.SortStableFunc(r.faults, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) }) // a map has no order
	return errors.Join(r.faults...)
}

// Secret reports whether a hook has something that others must not read: a static header, or a password in its URL.
func (c *Config) Secret() bool {
	return c != nil && slices.ContainsFunc(c.all(), func(h *Hook) bool { return len(h.StaticHeaders) > 0 || proxy.HasPassword(h.Endpoint) })
}
