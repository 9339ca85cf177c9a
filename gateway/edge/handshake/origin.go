package handshake

import (
	"errors"
	"fmt"
	"strings"
)

// Origins is the rule that decides which web pages may connect. A browser sends cookies, and
// reaches private networks, on behalf of any page; only the Origin field tells one page from
// another. The zero value is
// the default rule. See RFC 6455 section 10.2 and RFC 6454 section 7.
type Origins struct {
	// Set at construction.
	any   bool
	null  bool
	exact map[site]struct{}
	below map[site]struct{} // the name is what follows "*."
}

// A site is an Origin in a form that can be compared: everything in lower case
// and the port filled in where the scheme has a usual one.
type site struct {
	scheme string
	authority
}

// Allow reports whether a request with this Origin and Host may connect. It may
// when one of these holds:
//
//   - there is no Origin: it does not come from a web page;
//   - the list has the Origin, or "*";
//   - the page was served over http or https from the host and port that Host
//     names; a Host without a port has the usual one of the page's scheme,
//     because a proxy in front may have taken TLS off;
//   - the page's host and Host are both loopback (localhost, 127.0.0.0/8, ::1),
//     whatever the ports: a developer's machine.
//
// An Origin that is "null", empty, or not scheme://host[:port] is refused unless
// the list says otherwise. The list adds to the default rule.
func (o *Origins) Allow(origin string, hasOrigin bool, host string) bool {
	if !hasOrigin || o.any {
		return true
	}
	if origin == "null" {
		return o.null
	}
	page, ok := parseOrigin(origin)
	if !ok {
		return false
	}
	if o.lists(page) {
		return true
	}
	if page.scheme != "http" && page.scheme != "https" {
		return false
	}
	here, ok := parseAuthority(host)
	if !ok {
		return false
	}
	if page.isLoopback() && here.isLoopback() {
		return true
	}
	if here.port == noPort {
		here.port = usualPort(page.scheme)
	}
	return page.authority == here
}

// Credentials reports whether pages of an origin that is allowed may have the client's cookies sent along, and read the
// response: only where the origins that are allowed are known.
func (o *Origins) Credentials(origin string) bool { return !o.any && origin != "null" }

func (o *Origins) lists(page site) bool {
	if _, ok := o.exact[page]; ok {
		return true
	}
	_, parent, ok := strings.Cut(page.name, ".")
	if !ok {
		return false
	}
	page.name = parent
	_, ok = o.below[page]
	return ok
}

// parseOrigin takes scheme://host[:port] as RFC 6454 section 6.2 writes it.
func parseOrigin(s string) (page site, ok bool) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || !validScheme(scheme) || strings.HasSuffix(rest, ":") {
		return page, false
	}
	page.scheme = strings.ToLower(scheme)
	if page.authority, ok = parseAuthority(rest); !ok {
		return page, false
	}
	if page.port == noPort {
		page.port = usualPort(page.scheme)
	}
	return page, true
}

func validScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c-'0' > 9 && c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return s != ""
}

func usualPort(scheme string) int {
	switch scheme {
	case "http", "ws":
		return 80
	case "https", "wss":
		return 443
	}
	return noPort
}

// CompileOrigins compiles a list of Origins. An entry is an Origin as browsers
// send it, scheme://host[:port]; the same with "*." before the host, which stands
// for exactly one label, as in a certificate; "null", what sandboxed frames and
// local files send; or "*", any Origin whatsoever. Warnings are sentences for
// the operator. All faults are reported at once.
func CompileOrigins(list []string) (origins *Origins, warnings []string, err error) {
	o := &Origins{exact: make(map[site]struct{}), below: make(map[site]struct{})}
	var faults []error
	for _, entry := range list {
		entry = strings.TrimSpace(entry)
		switch entry {
		case "*":
			o.any = true
			warnings = append(warnings, `"*" lets every web page connect `+
				`on behalf of its visitors: list only your own origins`)
			continue
		case "null":
			o.null = true
			warnings = append(warnings, `"null" lets every sandboxed frame and local file connect, `+
				`and any web page can create one: list it only if nothing is private`)
			continue
		}
		plain := strings.Replace(entry, "://*.", "://", 1)
		page, ok := parseOrigin(plain)
		wildcard := plain != entry
		if !ok || wildcard && page.name == "" {
			faults = append(faults, originFault(entry))
			continue
		}
		if !wildcard {
			o.exact[page] = struct{}{}
			continue
		}
		o.below[page] = struct{}{}
		if !strings.Contains(page.name, ".") && page.name != "localhost" {
			warnings = append(warnings, fmt.Sprintf("%q allows every site directly below %q; "+
				"name your own domain", entry, page.name))
		}
	}
	if faults != nil {
		return nil, nil, errors.Join(faults...)
	}
	return o, warnings, nil
}

// originFault returns what is wrong with an entry, why, and how to fix it.
func originFault(entry string) error {
	scheme, rest, ok := strings.Cut(entry, "://")
	bare := rest // what would be right
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		bare = rest[:i]
	}
	bare = bare[strings.LastIndexByte(bare, '@')+1:]
	fix := fmt.Sprintf("%s://%s", scheme, bare)
	switch {
	case entry == "":
		return errors.New(`"" is empty; remove it, or write scheme://host[:port]`)
	case !ok || scheme == "":
		return fmt.Errorf("%q has no scheme, and http and https are different origins; "+
			"write, for example, %q", entry, "https://"+strings.Trim(entry, ":/"))
	case bare+"/" == rest:
		return fmt.Errorf("%q ends in a slash, which a browser never sends; write %q", entry, fix)
	case strings.ContainsAny(rest, "/?#"):
		return fmt.Errorf("%q has a path, query or fragment, which a browser never sends; "+
			"write %q", entry, fix)
	case strings.Contains(rest, "@"):
		return fmt.Errorf("%q has a user name, which a browser never sends; write %q", entry, fix)
	case strings.Contains(entry, "*"):
		return fmt.Errorf("%q has a * that is not a whole label before a host name; "+
			`write scheme://*.host[:port], or "*" alone for any origin`, entry)
	case strings.IndexFunc(entry, func(r rune) bool { return r > 0x7f }) >= 0:
		return fmt.Errorf("%q is not ASCII, but browsers send the encoded name; "+
			"write the xn-- form", entry)
	}
	return fmt.Errorf("%q is not an origin, so it would never match; "+
		"write scheme://host[:port], for example %q", entry, "https://example.com:8443")
}
