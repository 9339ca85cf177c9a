package config

import (
	"net/http"
	"slices"
	"strings"
)

// own are headers that belong to the connection to the backend, or to the call itself.
var own = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Proxy-Connection", "Sec-Websocket-Accept", "Sec-Websocket-Extensions", "Sec-Websocket-Key", "Sec-Websocket-Version", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

// headerNames checks a list of header names.
func (r *reader) headerNames(where string, names []string) {
	for i, name := range names {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case name == "*":
			r.fault(where, "\"*\" does not stand for all headers; name those that the backend needs")
		case !validHeaderName(name):
			r.fault(where, "%s is not a name of a header", quoted(name))
		case slices.Contains(own, canonical):
			r.fault(where, "%s is a header of the call itself, and is never passed on; remove it", quoted(name))
		case contains(names[:i], name):
			r.fault(where, "%s is there twice; names of headers have no case", quoted(name))
		}
	}
}

func contains(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// validHeaderName reports whether a name is a token (RFC 9110 section 5.6.2).
func validHeaderName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	})
}

// validHeaderValue reports whether a header may have a value (RFC 9110 section 5.5).
func validHeaderValue(v string) bool {
	return !strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= 0x80 })
}

func isHTTPS(endpoint string) bool {
	return len(endpoint) >= 6 && strings.EqualFold(endpoint[:6], "https:")
}
