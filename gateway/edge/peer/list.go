package peer

import (
	"net/netip"
	"slices"
)

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
