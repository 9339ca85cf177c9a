package peer

import (
	"net/netip"
	"slices"
	"strings"
)

// What Forwarded looks at, counted from the right. No chain of proxies is as
// long; a client that writes the field itself can make it so.
const (
	entriesMax    = 64
	fieldBytesMax = 4 << 10
)

// Forwarded returns the client's address. values are all lines of the field
// X-Forwarded-For in their order, peer is the other end of the connection. found is false
// if the client is the peer itself: because the peer is not trusted, or because the field
// holds nothing usable.
//
// Every proxy appends the address that connected to it, at the right. So the search
// begins at the right and continues while the address is a trusted proxy's; the first that
// is not is the client. Anything to the left of it may be the client's invention. If all
// are trusted, the leftmost is the client. An entry that is not an address (empty,
// "unknown", a name), or that is beyond 64 entries or 4 KiB, ends the search with the last
// good address. An address may have a port, which is
// ignored; IPv4 written as IPv6 comes out as IPv4.
func Forwarded(values []string, peer netip.Addr, trusted *Set) (client netip.Addr, found bool) {
	client = peer.Unmap()
	if !trusted.Has(client) {
		return client, false
	}
	entries, budget := entriesMax, fieldBytesMax
	for _, line := range slices.Backward(values) {
		for more := true; more; entries-- {
			if entries == 0 || budget <= 0 {
				return client, found
			}
			near := line[max(0, len(line)-budget):]
			comma := strings.LastIndexByte(near, ',')
			if comma < 0 && len(near) < len(line) {
				return client, found // it begins beyond the budget
			}
			a, ok := parseEntry(near[comma+1:])
			if !ok {
				return client, found
			}
			client, found = a, true
			if !trusted.Has(client) {
				return client, found
			}
			budget -= len(near) - comma
			line, more = line[:len(line)-len(near)+max(comma, 0)], comma >= 0
		}
	}
	return client, found
}

// parseEntry takes an address, also with a port, or in brackets as in a URL.
func parseEntry(s string) (netip.Addr, bool) {
	s = strings.Trim(s, " \t")
	a, err := netip.ParseAddr(s)
	if err != nil {
		if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
			a, err = netip.ParseAddr(strings.TrimSuffix(inner, "]"))
			if a.Is4() {
				return netip.Addr{}, false
			}
		} else {
			var ap netip.AddrPort
			ap, err = netip.ParseAddrPort(s)
			a = ap.Addr()
		}
	}
	// A zone means something on the machine that wrote it alone.
	return a.Unmap(), err == nil && a.Zone() == ""
}
