package doctor

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
	"sluice/gateway"
	"sluice/gateway/setting"
)

// certificates reports the certificate of the TLS listeners, and what is wrong with it.
func (f *findings) certificates(p serve.Plan, now time.Time) {
	store := p.Secure.Store
	if store == nil {
		if p.Secure.Config != nil {
			f.add(isOK, "--tls-self-signed: for trials on this machine only")
		}
		return
	}
	f.add(isOK, "--tls-cert: %s", serve.CertificateText(store))
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
func (f *findings) exemptions(opts *option.Options) {
	var free []string
	for _, name := range []string{"max-per-address", "address-rate", "message-rate", "control-rate"} {
		if opts.ByName[name].Text == "auto" {
			free = append(free, "--"+name)
		}
	}
	if len(free) == 0 {
		return
	}
	f.add(isOK, "clients on this machine (loopback) are exempt from %s until you set them", strings.Join(free, ", "))
	if opts.ByName["trusted-proxies"].Text == "" && opts.ByName["proxy-protocol"].Text == "" {
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
		f.add(isWarning, "--memory-limit %s is too high: %s %s, so the kernel kills the process before new connections are refused; lower the limit", setting.FormatSize(limit), who, cli.AboutSize(most))
		return
	}
	*f = slices.DeleteFunc(*f, func(one finding) bool {
		return one.about == "memory" || one.about == "MaxBuffered"
	})
	v, buffered := isOK, setting.FormatSize(d.buffered)
	if d.buffered < wanted {
		v, buffered = isWarning, fmt.Sprintf("%s (lowered from %s)", buffered, setting.FormatSize(wanted))
	}
	what := fmt.Sprintf("--max-buffered %s and %s connections", buffered, cli.FormatCount(d.connections))
	if all := d.buffered + d.connections*connectionBytes; limit < all {
		f.add(isWarning, "memory: --memory-limit %s is less than the %s needed for %s (about %s each); raise it, or lower --max-buffered or --max-connections",
			setting.FormatSize(limit), cli.AboutSize(all), what, setting.FormatSize(connectionBytes))
		return
	}
	f.add(v, "memory: --memory-limit %s is enough for %s", setting.FormatSize(limit), what)
}

// permissions reports where permissions come from, and what serve would warn about.
func (f *findings) permissions(p serve.Plan, s *serve.Settings) {
	a := p.Access
	for _, w := range append(a.Warnings, p.Hooks.Warnings...) {
		f.add(isWarning, "%s", w)
	}
	switch {
	case s.Gateway.Insecure:
		f.add(isWarning, "%s", serve.InsecureText)
	case p.Hooks.Keyed():
		from := []string{"hooks"}
		if a.Keyed {
			from = append(from, "tokens")
		}
		if s.Gateway.Namespaces != nil {
			from = append(from, "--namespaces")
		}
		f.add(isOK, "permissions: from %s", strings.Join(from, " and "))
	case a.Keyed && s.Gateway.Namespaces == nil:
		f.add(isOK, "permissions: from tokens only, without --namespaces; clients can subscribe to the channels that their tokens name")
	case !a.Keyed && s.Gateway.Namespaces != nil:
		f.add(isOK, "permissions: from --namespaces; every client is anonymous, because no key verifies tokens")
	case a.Keyed:
		f.add(isOK, "permissions: from tokens and --namespaces")
	}
}
