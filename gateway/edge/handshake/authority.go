package handshake

import (
	"net/netip"
	"strconv"
	"strings"
)

// An authority is a host and a port as Host and Origin carry them, in a form
// that can be compared: a name in lower case or an address, never both.
type authority struct {
	name string
	addr netip.Addr
	port int // noPort when there is none
}

const noPort = -1

// parseAuthority takes host [ ":" [ port ] ] of RFC 3986 section 3.2, with less
// in a name than the RFC has: no percent-escapes and no sub-delimiters, which
// no DNS name has and which parsers read in many ways. No user information.
func parseAuthority(s string) (a authority, ok bool) {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return a, false
		}
		host, port = s[1:end], s[end+1:]
		if port != "" && port[0] != ':' {
			return a, false
		}
		// A zone, and an IPv4 address in brackets, are refused.
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return a, false
		}
		a.addr = addr
	} else {
		if i := strings.IndexByte(s, ':'); i >= 0 {
			host, port = s[:i], s[i:]
		}
		if !validName(host) {
			return a, false
		}
		a.name = strings.ToLower(host)
		if looksLikeIPv4(host) {
			addr, err := netip.ParseAddr(host)
			if err != nil {
				// 127.1, 0177.0.0.1, 2130706433: what programs take these for differs.
				return authority{}, false
			}
			a.name, a.addr = "", addr
		}
	}
	a.port = noPort
	if len(port) > 1 {
		if !isDigits(port[1:]) {
			return a, false
		}
		n, err := strconv.ParseUint(port[1:], 10, 16)
		if err != nil {
			return a, false
		}
		a.port = int(n)
	}
	return a, true
}

// validName reports whether s may be a DNS name: labels of known bytes, none of
// them empty but for the root at the end.
func validName(s string) bool {
	return len(s) <= 254 && allIn(s, inHost) && s[0] != '.' && !strings.Contains(s, "..")
}

func looksLikeIPv4(s string) bool {
	for i := range len(s) {
		if s[i] != '.' && s[i]-'0' > 9 {
			return false
		}
	}
	return true
}

// isLoopback reports whether the host is this machine and can be nothing else.
// Names below localhost are left out: not every resolver keeps them local.
func (a authority) isLoopback() bool {
	return a.name == "localhost" || a.addr.IsLoopback()
}
