package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"sluice/gateway"
)

// Kinds of option that only the gateway's limits and proxies need.

// toggle is on or off; the flag without a value means on.
func (a adder) toggle(p *string, name, usage string) {
	a.word(p, name, "off", usage, "on", "off")
	opt := a.opts.byName[name]
	opt.meta, opt.bare = "", "on"
}

const perSecond = "/s"

func formatRate(n int) string { return strconv.Itoa(n) + perSecond }

// bound is a whole number that may carry a unit, or off. If the default is auto, the
// gateway chooses (zero in its Config) and off is negative there; if the default is
// off, off is zero.
func (a adder) bound(p *int, name, unit, fallback, usage string) {
	words := map[string]int{"off": 0}
	form, or := "must be a whole number of at least 1", ", or off"
	if fallback == "auto" {
		words = map[string]int{"auto": 0, "off": -1}
		or = ", auto or off"
	}
	meta := "N"
	if unit != "" {
		meta = "RATE"
		form = "must be a rate: a whole number per second, such as 50 or 50/s"
	}
	a.add(&option{name: name, target: p, meta: meta, fallback: fallback, usage: usage, choices: []string{"off"},
		parse: func(s string) error {
			n, known := words[s]
			if !known {
				var err error
				if n, err = strconv.Atoi(strings.TrimSuffix(s, unit)); err != nil || n < 1 {
					return errors.New(form + or)
				}
			}
			*p = n
			return nil
		}})
}

// prefixes is a list of networks; a single address counts as one.
func (a adder) prefixes(p *[]netip.Prefix, name, usage string) {
	a.add(&option{name: name, target: p, meta: "LIST", usage: usage, repeatable: true,
		parse: func(s string) error {
			prefix, err := parsePrefix(s)
			if err == nil {
				*p = append(*p, prefix)
			}
			return err
		}})
}

func parsePrefix(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		addr, addrErr := netip.ParseAddr(s)
		if addrErr != nil || addr.Zone() != "" {
			return netip.Prefix{}, errors.New("must be an address or network, such as 192.0.2.7 or 10.0.0.0/8")
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	switch {
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, errors.New("an IPv4 network in IPv6 notation; write it as IPv4, such as 10.0.0.0/8")
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("has host bits set; did you mean %v or %v?", prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}

// rules is a list of PATTERN=close or PATTERN=skip.
func (a adder) rules(p *[]gateway.SlowRule, name, usage string) {
	a.add(&option{name: name, target: p, meta: "LIST", usage: usage, repeatable: true, choices: []string{"*=skip"},
		parse: func(s string) error {
			at := strings.LastIndexByte(s, '=') // a channel's name may contain one too
			if at < 1 || s[at+1:] != "close" && s[at+1:] != "skip" {
				return errors.New("must be a rule PATTERN=close or PATTERN=skip, such as prices.*=skip")
			}
			*p = append(*p, gateway.SlowRule{Pattern: strings.TrimSpace(s[:at]), Skip: s[at+1:] == "skip"})
			return nil
		}})
}
