package handshake

import (
	"strings"

	"sluice/gateway/route"
)

// Parse parses and checks a whole head, as found by [End]. On refusal the Request holds what
// had been read by then, and is fit only for a log.
//
// Syntax, size, Host and everything that says where the request ends are judged
// for every request. More is judged only when it asks for a WebSocket (RFC 6455
// section 4.2.1); the rest of another request is left to net/http. Stricter than
// the RFCs, because two parsers have read each of these in two ways: only the
// origin and the absolute form of a target; a field that matters appears once, and
// Connection and Upgrade, too, on one line. An absolute target's host counts in
// place of the Host field, which must be there all the same (RFC 9112 section
// 3.2.2).
func Parse(head []byte) (route.Request, *route.Reject) {
	var req route.Request
	if len(head) > HeadBytesMax {
		return req, rejectHeadBytes
	}
	line, rest, reject := cutLine(string(head)) // the one copy, see route.Request
	if reject != nil {
		return req, reject
	}
	http10, reject := parseRequestLine(&req, line)
	if reject != nil {
		return req, reject
	}
	var f fields
	header := rest
	for lines := 1; ; lines++ {
		if line, rest, reject = cutLine(rest); reject != nil {
			return req, reject
		}
		if line == "" {
			break
		}
		if lines == HeadLinesMax {
			return req, rejectHeadLines
		}
		if reject = f.add(line); reject != nil {
			return req, reject
		}
	}
	if rest != "" {
		return req, rejectIncomplete
	}
	req.Fields = header[:len(header)-len("\r\n")]
	req.Upgrade, req.ForwardedFor = f.webSocket, f.forwarded
	req.Origin, req.HasOrigin = f.value[fieldOrigin], f.count[fieldOrigin] > 0
	if req.Host == "" {
		req.Host = f.value[fieldHost]
	}
	if reject = f.checkRequest(http10); reject != nil || !req.Upgrade {
		return req, reject
	}
	req.Protocols = f.protocol
	return req, f.checkUpgrade(req.Method, http10)
}

// cutLine takes the first line off s. A CR that it leaves inside the line is
// refused by whoever looks at the line's bytes.
func cutLine(s string) (line, rest string, reject *route.Reject) {
	switch i := strings.IndexByte(s, '\n'); {
	case i < 0:
		return "", "", rejectIncomplete
	case i == 0 || s[i-1] != '\r':
		return "", "", rejectLineFeed
	default:
		return s[:i-1], s[i+1:], nil
	}
}

// parseRequestLine reports also whether the request is one of HTTP/1.0.
func parseRequestLine(req *route.Request, line string) (http10 bool, reject *route.Reject) {
	method, target, ok := strings.Cut(line, " ")
	i := strings.LastIndexByte(target, ' ')
	if !ok || i < 0 {
		return false, rejectRequestLine
	}
	target, version := target[:i], target[i+1:]
	if !allIn(method, inToken) {
		return false, rejectMethodToken
	}
	req.Method = method

	switch {
	case version == "HTTP/1.1":
	case version == "HTTP/1.0":
		http10 = true
	case len(version) == len("HTTP/2.0") && version[:5] == "HTTP/" &&
		isDigits(version[5:6]) && version[6] == '.' && isDigits(version[7:]):
		return false, rejectHTTPVersion
	default:
		return false, rejectHTTPSyntax
	}

	switch {
	case len(target) > URIBytesMax:
		return http10, rejectURILength
	case strings.IndexByte(target, ' ') >= 0 || target == "":
		return http10, rejectRequestLine
	}
	if target[0] != '/' {
		if req.Host, target = cutAbsolute(target); req.Host == "" || method == "CONNECT" { // whose target is an authority
			return http10, rejectTarget
		}
	}
	if !allIn(target, inTarget) {
		return http10, rejectTargetByte
	}
	req.RawPath, req.RawQuery, _ = strings.Cut(target, "?")
	if req.Path, ok = unescape(req.RawPath); !ok {
		return http10, rejectEscape
	}
	return http10, nil
}

// cutAbsolute splits a target in absolute form (RFC 9112 section 3.2.2) into its
// authority and what the origin form would have been. host is "" for any other target.
func cutAbsolute(target string) (host, rest string) {
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok || !equalFold(scheme, "http") && !equalFold(scheme, "https") {
		return "", target
	}
	host = rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		host, rest = rest[:i], rest[i:]
	} else {
		rest = ""
	}
	if !validHost(host) {
		return "", target
	}
	if !strings.HasPrefix(rest, "/") {
		rest = "/" + rest // an empty path is a slash (RFC 9110 section 4.2.3)
	}
	return host, rest
}

// unescape decodes percent-escapes. It copies only when there are any.
func unescape(s string) (string, bool) {
	i := strings.IndexByte(s, '%')
	if i < 0 {
		return s, true
	}
	b := make([]byte, i, len(s))
	copy(b, s)
	for ; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			high, ok1 := hexDigit(s[i+1])
			low, ok2 := hexDigit(s[i+2])
			if !ok1 || !ok2 {
				return "", false
			}
			c = high<<4 | low
			i += 2
		}
		b = append(b, c)
	}
	return string(b), true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return (c | 0x20) - 'a' + 10, true
	}
	return 0, false
}
