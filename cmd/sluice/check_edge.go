package main

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"sluice/gateway"
)

// certificates reports the certificate of the TLS listeners, and what is wrong with it.
func (f *findings) certificates(p plan, now time.Time) {
	store := p.secure.store
	if store == nil {
		if p.secure.config != nil {
			f.add(isOK, "--tls-self-signed: for trials on this machine only")
		}
		return
	}
	f.add(isOK, "--tls-cert: %s", certificateText(store))
	for i, text := range store.Warnings(now) {
		v := isWarning
		if i == 0 && store.Expiry().Before(now) { // the first warning is that it has expired
			v = isFault
		}
		f.add(v, "%s", text)
	}
}

// exemptions reports the limits that do not apply to clients on this machine: a trial
// there does not show them, and behind a proxy they would apply to no client, or to all
// clients together.
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
	f.add(isOK, "clients on this machine (loopback) are exempt from %s until you set them", strings.Join(free, ", "))
	if opts.byName["trusted-proxies"].text == "" && opts.byName["proxy-protocol"].text == "" {
		f.add(isOK, "clients are identified by the address they connect from: behind a proxy, set --trusted-proxies or --proxy-protocol, or all its clients count as one")
	}
}

// proxies warns about lists that include every address, and about proxies in both lists.
func (f *findings) proxies(g gateway.Config) {
	const all = "--%s %v includes every address, so any client can claim any address: list only your proxies"
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
				f.add(isWarning, "--trusted-proxies %v overlaps --proxy-protocol %v; for a proxy in both, the PROXY header is used. List each proxy only once", t, p)
			}
		}
	}
}

// slowRules warns about rules after one that matches every channel.
func (f *findings) slowRules(rules []gateway.SlowRule) {
	every := slices.IndexFunc(rules, func(r gateway.SlowRule) bool { return r.Pattern != "" && strings.Trim(r.Pattern, "*") == "" })
	if every < 0 {
		return
	}
	for _, r := range rules[every+1:] {
		f.add(isWarning, "--slow-policy: the rule for %s is never used, because %s before it matches every channel and the first match applies; put %[2]s last", r.Pattern, rules[every].Pattern)
	}
}

// memoryUnder replaces the findings about memory by one line if --memory-limit is set:
// the gateway has warned that it lowers --max-buffered, and the kernel's limit is not the
// one that applies. wanted is --max-buffered as it was given.
func (f *findings) memoryUnder(files fs.FS, d demand, limit, wanted int) {
	if limit <= 0 {
		return
	}
	if most, who := memoryLimit(files); most > 0 && limit > most {
		f.add(isWarning, "--memory-limit %s is too high: %s %s, so the kernel kills the process before new connections are refused; lower the limit", formatSize(limit), who, aboutSize(most))
		return
	}
	*f = slices.DeleteFunc(*f, func(one finding) bool {
		return one.about == "memory" || one.about == "MaxBuffered"
	})
	v, buffered := isOK, formatSize(d.buffered)
	if d.buffered < wanted {
		v, buffered = isWarning, fmt.Sprintf("%s (lowered from %s)", buffered, formatSize(wanted))
	}
	what := fmt.Sprintf("--max-buffered %s and %s connections", buffered, formatCount(d.connections))
	if all := d.buffered + d.connections*connectionBytes; limit < all {
		f.add(isWarning, "memory: --memory-limit %s is less than the %s needed for %s (about %s each); raise it, or lower --max-buffered or --max-connections",
			formatSize(limit), aboutSize(all), what, formatSize(connectionBytes))
		return
	}
	f.add(v, "memory: --memory-limit %s is enough for %s", formatSize(limit), what)
}
