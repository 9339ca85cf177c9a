package main

import (
	"strings"
	"time"
)

// certificates tells whose certificate TLS listeners show, and what is not well
// with it.
func (f *findings) certificates(p plan, now time.Time) {
	store := p.secure.store
	if store == nil {
		if p.secure.config != nil {
			f.add(isOK, "--tls-self-signed: for trials on this machine alone")
		}
		return
	}
	f.add(isOK, "--tls-cert: %s", certificateText(store))
	for _, text := range store.Warnings(now) {
		f.add(isWarning, "%s", text)
	}
}

// exemptions tells which limits do not hold for clients of this machine: a trial
// there shows nothing of them, and behind a proxy nobody may be limited, or all
// together.
func (f *findings) exemptions(opts *options) {
	var free []string
	for _, name := range []string{"max-per-address", "address-rate", "message-rate", "control-rate"} {
		if opts.byName[name].text == "auto" {
			free = append(free, "--"+name)
		}
	}
	if len(free) == 0 {
		return
	}
	f.add(isOK, "clients of this machine (loopback) are free of %s until these are set", strings.Join(free, ", "))
	if opts.byName["trusted-proxies"].text == "" && opts.byName["proxy-protocol"].text == "" {
		f.add(isOK, "clients are told apart by who connects: behind a proxy give --trusted-proxies or --proxy-protocol, or all of its clients count as one")
	}
}
