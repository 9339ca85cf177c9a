package main

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"sluice/gateway"
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
	for i, text := range store.Warnings(now) {
		v := isWarning
		if i == 0 && store.Expiry().Before(now) { // that it has expired is told first
			v = isFault
		}
		f.add(v, "%s", text)
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

// proxies warns of lists that believe whoever connects, and of peers in both.
func (f *findings) proxies(g gateway.Config) {
	const all = "--%s %v: everybody is in it, so anybody can be any address: list your proxies alone"
	for _, p := range g.TrustedProxies {
		if p.Bits() == 0 {
			f.add(isWarning, all, "trusted-proxies", p)
		}
	}
	for _, p := range g.ProxyProtocol {
		if p.Bits() == 0 {
			f.add(isWarning, all, "proxy-protocol", p)
		}
		for _, t := range g.TrustedProxies {
			if p.Overlaps(t) {
				f.add(isWarning, "--trusted-proxies %v overlaps --proxy-protocol %v: for peers of both the PROXY header counts: list each in one", t, p)
			}
		}
	}
}

// slowRules warns of rules behind one that fits every channel.
func (f *findings) slowRules(rules []gateway.SlowRule) {
	every := slices.IndexFunc(rules, func(r gateway.SlowRule) bool { return r.Pattern != "" && strings.Trim(r.Pattern, "*") == "" })
	if every < 0 {
		return
	}
	for _, r := range rules[every+1:] {
		f.add(isWarning, "--slow-policy: the rule for %s never counts: %s before it fits every channel, and the first that fits counts: put %[2]s last", r.Pattern, rules[every].Pattern)
	}
}

// memoryUnder makes one line of what was found about memory where --memory-limit is
// set: the gateway told that it lowers --max-buffered, and the kernel's bound is not
// the one that counts. wanted is --max-buffered as it was given.
func (f *findings) memoryUnder(files fs.FS, d demand, limit, wanted int) {
	if limit <= 0 {
		return
	}
	if most, who := memoryLimit(files); most > 0 && limit > most {
		f.add(isWarning, "--memory-limit %s: %s %s: the kernel kills the process before newcomers are refused: give less", formatSize(limit), who, aboutSize(most))
		return
	}
	*f = slices.DeleteFunc(*f, func(one finding) bool {
		return strings.HasPrefix(one.text, "memory: ") || strings.HasPrefix(one.text, "--max-buffered is lowered ")
	})
	v, buffered := isOK, formatSize(d.buffered)
	if d.buffered < wanted {
		v, buffered = isWarning, fmt.Sprintf("%s (lowered from %s)", buffered, formatSize(wanted))
	}
	what := fmt.Sprintf("--max-buffered %s and %s connections", buffered, formatCount(d.connections))
	if all := d.buffered + d.connections*connectionBytes; limit < all {
		f.add(isWarning, "memory: --memory-limit %s, less than the %s of %s (about %s each): give it more, or lower --max-buffered or --max-connections",
			formatSize(limit), aboutSize(all), what, formatSize(connectionBytes))
		return
	}
	f.add(v, "memory: --memory-limit %s, enough for %s", formatSize(limit), what)
}
