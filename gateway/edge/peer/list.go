package peer

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ParseList reads addresses ("192.0.2.1", "::1") and prefixes ("10.0.0.0/8"). An
// address is the prefix of all its bits, IPv4 written as IPv6 is IPv4. All
// faults are reported at once.
func ParseList(words []string) ([]netip.Prefix, error) {
	list := make([]netip.Prefix, 0, len(words))
	var faults []error
	for _, word := range words {
		p, err := parsePrefix(strings.TrimSpace(word))
		if err != nil {
			faults = append(faults, err)
			continue
		}
		list = append(list, p)
	}
	if faults != nil {
		return nil, errors.Join(faults...)
	}
	return list, nil
}

func parsePrefix(word string) (netip.Prefix, error) {
	if word == "" {
		return netip.Prefix{}, errors.New(`"" is empty; remove it, or write an address or ADDRESS/BITS`)
	}
	address, bits, ok := strings.Cut(word, "/")
	if !ok {
		a, err := netip.ParseAddr(word)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is not an IP address, and host names are not supported; "+
				"write, for example, 192.0.2.1, 2001:db8::1 or 10.0.0.0/8", word)
		}
		if a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone, which is not supported; write %q", word, a.WithZone(""))
		}
		return plain(netip.PrefixFrom(a, a.BitLen())), nil
	}
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q does not begin with an IP address; write, for example, 10.0.0.0/8 or 2001:db8::/32", word)
	}
	p, err := netip.ParsePrefix(word)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q: %q is not a prefix length from 0 to %d; write, for example, %s/%d",
			word, bits, a.BitLen(), a, a.BitLen())
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits set after its first %d; "+
			"write %q for the whole network, or %q for the one address", word, p.Bits(), p.Masked(), a)
	}
	return plain(p), nil
}

// mappedBits is what comes before the IPv4 address in ::ffff:0:0/96.
const mappedBits = 96

// plain writes IPv4 as IPv4.
func plain(p netip.Prefix) netip.Prefix {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= mappedBits {
		return netip.PrefixFrom(a.Unmap(), p.Bits()-mappedBits)
	}
	return p
}

// A Set is a set of addresses, made from prefixes. Nil and the zero value are empty. A Set
// does not change and is safe for concurrent use.
type Set struct {
	// Invariant: sorted, and none within another.
	prefixes []netip.Prefix
}

// NewSet returns the set of all addresses in list. Invalid prefixes are ignored.
func NewSet(list []netip.Prefix) *Set {
	sorted := make([]netip.Prefix, 0, len(list))
	for _, p := range list {
		if p.IsValid() {
			sorted = append(sorted, plain(p).Masked())
		}
	}
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits() // the wider first: it has the others within
	})
	s := &Set{}
	for _, p := range sorted {
		if n := len(s.prefixes); n == 0 || !s.prefixes[n-1].Contains(p.Addr()) {
			s.prefixes = append(s.prefixes, p)
		}
	}
	return s
}

// Has reports whether a is in the set. An IPv4 address written as IPv6 counts as IPv4, and
// zones are ignored.
func (s *Set) Has(a netip.Addr) bool {
	if s == nil {
		return false
	}
	a = a.Unmap().WithZone("")
	// The only one that can hold a is the last that does not begin behind it.
	i, found := slices.BinarySearchFunc(s.prefixes, a, func(p netip.Prefix, a netip.Addr) int {
		return p.Addr().Compare(a)
	})
	return found || i > 0 && s.prefixes[i-1].Contains(a)
}
