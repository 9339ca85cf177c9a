package sampling

import (
	"strconv"
	"unicode/utf8"
)

// quoteMax is how many bytes of text Quote lets through.
const quoteMax = 128

// Quote makes text that a client controls fit for a log: one line of printable UTF-8.
// Everything else is escaped as by %q, and so is the backslash, so that an escape can be told
// from text that looks like one. A result of more than 128 bytes is cut before the rune that
// does not fit, and ends with "...".
func Quote(s string) string {
	if len(s) <= quoteMax && plain(s) {
		return s
	}
	out := make([]byte, 0, quoteMax+len("..."))
	var one [12]byte // a quoted rune has at most ten bytes within its quotes
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		piece := one[:0]
		switch {
		case r == utf8.RuneError && size == 1:
			piece = strconv.AppendQuote(piece, s[:1]) // \xff
			piece = piece[1 : len(piece)-1]
		case r != '\\' && strconv.IsPrint(r):
			piece = utf8.AppendRune(piece, r)
		default:
			piece = strconv.AppendQuoteRune(piece, r)
			piece = piece[1 : len(piece)-1]
		}
		if len(out)+len(piece) > quoteMax {
			return string(append(out, "..."...))
		}
		out = append(out, piece...)
		s = s[size:]
	}
	return string(out)
}

// plain reports whether s needs no escape; it answers for ASCII alone.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '\\' {
			return false
		}
	}
	return true
}
