package hostile

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// upgradeRefusal is the judge of handshakes: why the bytes that a client sends must
// not be answered with a 101, or "" when they may. It is net/http's reading of them,
// the rules of RFC 6455 section 4.2.1, and of the RFCs' many liberties none by
// which two parsers could see two requests: no bare LF, no folded line, no second
// Host, nothing that has a body. The default Origin rule of sluice belongs to it: a
// page may connect to the host and port that it came from, and on loopback to any port.
func upgradeRefusal(b []byte) string {
	b = bytes.TrimPrefix(b, []byte("\r\n")) // RFC 9112 section 2.2
	head, _, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		return "the head does not end"
	}
	lines := strings.Split(string(head), "\r\n")
	if why := badLines(lines); why != "" {
		return why
	}
	req, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(b), 1<<10))
	if err != nil {
		return err.Error()
	}
	values := func(name string) (all []string) {
		for _, line := range lines[1:] {
			if k, v, _ := strings.Cut(line, ":"); strings.EqualFold(k, name) {
				all = append(all, strings.Trim(v, " \t"))
			}
		}
		return all
	}
	one := func(name string) (string, bool) {
		all := values(name)
		if len(all) != 1 {
			return "", false
		}
		return all[0], true
	}
	host, okHost := one("Host")
	upgrade, okUpgrade := one("Upgrade")
	connection, okConnection := one("Connection")
	key, okKey := one("Sec-WebSocket-Key")
	version, okVersion := one("Sec-WebSocket-Version")
	nonce, errKey := base64.StdEncoding.DecodeString(key)
	switch {
	case req.Method != "GET" || req.Proto != "HTTP/1.1":
		return "method or version"
	case !strings.HasPrefix(req.RequestURI, "/") && !absoluteOK(req.URL) || strings.ContainsFunc(req.RequestURI, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }):
		return "request target"
	case !okHost || !hostOK(host):
		return "Host"
	case !okUpgrade || !hasToken(upgrade, "websocket") || !isProtocolList(upgrade):
		return "Upgrade"
	case !okConnection || !hasToken(connection, "upgrade"):
		return "Connection"
	case !okKey || len(key) != 24 || errKey != nil || len(nonce) != 16:
		return "Sec-WebSocket-Key"
	case !okVersion || version != "13":
		return "Sec-WebSocket-Version"
	case len(values("Transfer-Encoding")) > 0:
		return "Transfer-Encoding"
	case slices.ContainsFunc(values("Content-Length"), func(v string) bool { return strings.Trim(v, "0") != "" || v == "" }):
		return "Content-Length"
	case slices.ContainsFunc(values("Sec-WebSocket-Protocol"), func(v string) bool { return !isTokenList(v) }):
		return "Sec-WebSocket-Protocol"
	}
	switch origins := values("Origin"); {
	case len(origins) > 1, len(origins) == 1 && !originOK(origins[0], req.Host):
		return "Origin"
	}
	return ""
}

func badLines(lines []string) string {
	for i, line := range lines {
		switch {
		case strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return "a control byte"
		case i > 0 && (line[0] == ' ' || line[0] == '\t'): // none is empty: the head ends at the first
			return "a folded line"
		}
	}
	return ""
}

func hostOK(host string) bool {
	u, err := url.Parse("http://" + host + "/")
	return err == nil && host != "" && u.Host == host && u.User == nil && u.Hostname() != "" &&
		!strings.ContainsFunc(host, func(r rune) bool {
			return r > 0x7f || !('a' <= r|0x20 && r|0x20 <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune(".-_:[]", r))
		})
}

// absoluteOK judges a target in absolute form (RFC 9112 section 3.2.2).
func absoluteOK(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && u.User == nil && hostOK(u.Host)
}

func originOK(origin, host string) bool {
	page, err := url.Parse(origin)
	if err != nil || page.Scheme != "http" && page.Scheme != "https" || page.User != nil || page.Path != "" || page.RawQuery != "" || page.Fragment != "" {
		return false
	}
	here, err := url.Parse(page.Scheme + "://" + host)
	if err != nil {
		return false
	}
	loopback := func(u *url.URL) bool {
		return strings.EqualFold(u.Hostname(), "localhost") || net.ParseIP(u.Hostname()).IsLoopback()
	}
	return strings.EqualFold(page.Hostname(), here.Hostname()) && usualPort(page) == usualPort(here) || loopback(page) && loopback(here)
}

func usualPort(u *url.URL) string {
	switch {
	case u.Port() != "":
		return strings.TrimLeft(u.Port(), "0")
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// hasToken looks for a token in a list, without regard to case.
func hasToken(list, token string) bool {
	for element := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(element, " \t"), token) {
			return true
		}
	}
	return false
}

// isTokenList reports whether a list has nothing in it but tokens.
func isTokenList(list string) bool {
	for element := range strings.SplitSeq(list, ",") {
		if strings.ContainsFunc(strings.Trim(element, " \t"), notInToken) {
			return false
		}
	}
	return true
}

// isProtocolList reports whether all in an Upgrade field are protocols, and websocket
// has no version.
func isProtocolList(list string) bool {
	for element := range strings.SplitSeq(list, ",") {
		element = strings.Trim(element, " \t")
		name, version, versioned := strings.Cut(element, "/")
		if element != "" && (name == "" || versioned && version == "" || strings.ContainsFunc(name+version, notInToken) || versioned && strings.EqualFold(name, "websocket")) {
			return false
		}
	}
	return true
}

func notInToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r)
}
