package handshake

import "strings"

// What a byte may be part of.
const (
	inToken  = 1 << iota // RFC 9110 section 5.6.2: field names, methods, list elements
	inValue              // RFC 9110 section 5.5: field values; with HTAB and bytes above 0x7f
	inTarget             // request targets: visible ASCII but '#'
	inHost               // host names as DNS, and container networks, have them
	inBase64
)

// classes has the classes of every byte. It is filled while the package is
// initialised and never changes.
var classes = func() (t [256]byte) {
	for i := range t {
		c := byte(i)
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		digit := '0' <= c && c <= '9'
		if letter || digit || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			t[i] |= inToken
		}
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[i] |= inValue
		}
		if ' ' < c && c < 0x7f && c != '#' {
			t[i] |= inTarget
		}
		if letter || digit || strings.IndexByte("-._", c) >= 0 {
			t[i] |= inHost
		}
		if letter || digit || strings.IndexByte("+/", c) >= 0 {
			t[i] |= inBase64
		}
	}
	return t
}()

// Token reports whether s is a token of RFC 9110 section 5.6.2: what a subprotocol
// must be, for one.
func Token(s string) bool { return allIn(s, inToken) }

// allIn reports whether s is not empty and all its bytes are in a class.
func allIn(s string, class byte) bool {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return s != ""
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i]-'0' > 9 {
			return false
		}
	}
	return s != ""
}

// equalFold compares ASCII without regard to case. strings.EqualFold would take
// U+017F for an s and U+212A for a k.
func equalFold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// trim cuts white space as HTTP has it, which is less than Unicode's.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// cutElement takes the first element off a comma-separated list. It may be empty:
// RFC 9110 section 5.6.1.2 asks recipients to pass over those.
func cutElement(list string) (element, rest string) {
	element, rest, _ = strings.Cut(list, ",")
	return trim(element), rest
}
