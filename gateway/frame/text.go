package frame

import (
	"unicode/utf8"
)

// inPlace is the source of a wsutil.UTF8Reader whose bytes are already where
// they are to be read to: Read checks them there, without a copy.
type inPlace struct{}

func (inPlace) Read(p []byte) (int, error) { return len(p), nil }

// takeText checks the next bytes of a text that comes in pieces, last telling
// that no more follow. It is false as soon as the text cannot become UTF-8 any
// more.
func (s *State) takeText(b []byte, last bool) bool {
	// The rest of a code point that was cut.
	for len(b) > 0 && !s.text.Valid() {
		if _, err := s.text.Read(b[:1]); err != nil {
			return false
		}
		b = b[1:]
	}
	whole := len(b) - cutBytes(b)
	if !utf8.Valid(b[:whole]) {
		return false
	}
	// The beginning of one that is cut now.
	if _, err := s.text.Read(b[whole:]); err != nil {
		return false
	}
	return !last || s.text.Valid()
}

// cutBytes returns the number of bytes at the end of b that begin a code point
// and could be continued to a valid one.
func cutBytes(b []byte) int {
	for i := len(b) - 1; i >= 0 && i > len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if utf8.FullRune(b[i:]) {
				return 0
			}
			return len(b) - i
		}
	}
	return 0
}
