package channel

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestValidName(t *testing.T) {
	for _, test := range []struct {
		name string
		want bool
	}{
		{"lobby", true},
		{"a", true},
		{"a/b#c?d%20&é", true},
		{"比分.直播", true},
		{"🀄", true},
		{"\ufffd", true}, // the character itself is UTF-8
		{strings.Repeat("x", 255), true},
		{strings.Repeat("é", 127), true},
		{"", false},
		{strings.Repeat("x", 256), false},
		{strings.Repeat("é", 128), false},
		{"a\xff", false},
		{"\xc3", false},
		{"\xed\xa0\x80", false}, // a surrogate
		{"\xc0\xaf", false},     // not the shortest form
		{"\xef\xbf", false},     // U+FFFD, cut
		{"\xef\xbfa", false},
		{"\xef\uffff", false},       // a lone first byte of what U+FFFD begins with
		{"\xf4\x90\x80\x80", false}, // above U+10FFFF
		{"a b", false},
		{"a\tb", false},
		{"a\n", false},
		{"a\u00a0b", false},
		{"a\u2028b", false},
		{"a\u3000", false},
		{"a\u0085", false},
		{"a\x00", false},
		{"a\x1b", false},
		{"a\x7f", false},
		{"a\u0080", false},
	} {
		if got := ValidName(test.name); got != test.want {
			t.Errorf("%q: got %v, want %v", test.name, got, test.want)
		}
	}
}

// The name is what the definition says, clause by clause.
func FuzzValidName(f *testing.F) {
	for _, s := range []string{"lobby", "", "\xef\xbf", "\ufffd", "a b", "\x00", "比分"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := len(s) >= 1 && len(s) <= 255 && utf8.ValidString(s) &&
			!strings.ContainsFunc(s, unicode.IsSpace) && !strings.ContainsFunc(s, unicode.IsControl)
		if got := ValidName(s); got != want {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
	})
}

func TestPatternsFitNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "x", true}, {"", "", true}, {"", "x", false}, {"x", "x", true}, {"x", "xy", false}, {"x", "", false},
		{"a*", "a", true}, {"a*", "abc", true}, {"a*", "ba", false}, {"*a", "ba", true}, {"*a", "ab", false}, {"*a", "aa", true},
		{"a*c", "abbbc", true}, {"a*c", "ac", true}, {"a*c", "acb", false}, {"a*b*c", "axxbyyc", true}, {"a*b*c", "acb", false},
		{"**", "x", true}, {"*ab*", "aab", true}, {"*aab", "aaab", true}, {"a*a", "a", false}, {"频*", "频道", true}, {"?", "x", false}, {"[x]", "x", false},
		{strings.Repeat("*a", 30), strings.Repeat("a", 255), true}, {strings.Repeat("a*", 100) + "b", strings.Repeat("a", 255), false},
	} {
		if got := Fits(c.pattern, c.name); got != c.want {
			t.Errorf("%q fits %q: %v", c.pattern, c.name, got)
		}
	}
}
