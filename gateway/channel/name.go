package channel

import (
	"unicode"
	"unicode/utf8"
)

// ValidName reports whether s is a valid channel name: 1 to 255 bytes of UTF-8 without control
// characters or white space.
func ValidName(s string) bool {
	if s == "" || len(s) > 255 || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// Fits reports whether a pattern, in which * stands for any run of bytes, fits a name. It takes time in proportion to the product of their lengths at most.
func Fits(pattern, name string) bool {
	star, from := -1, 0 // the last star, and where what it stands for ends as far as was tried
	p, n := 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p++
			n++
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
