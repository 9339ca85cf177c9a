package handshake

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestChannelName(t *testing.T) {
	for _, test := range []struct {
		name string
		want error
	}{
		{"lobby", nil},
		{"a", nil},
		{"a/b#c?d%20&é", nil},
		{"比分.直播", nil},
		{"🀄", nil},
		{"\ufffd", nil}, // the character itself is UTF-8
		{strings.Repeat("x", 255), nil},
		{strings.Repeat("é", 127), nil},
		{"", errNameEmpty},
		{strings.Repeat("x", 256), errNameLength},
		{strings.Repeat("é", 128), errNameLength},
		{"a\xff", errNameUTF8},
		{"\xc3", errNameUTF8},
		{"\xed\xa0\x80", errNameUTF8}, // a surrogate
		{"\xc0\xaf", errNameUTF8},     // not the shortest form
		{"\xef\xbf", errNameUTF8},     // U+FFFD, cut
		{"\xef\xbfa", errNameUTF8},
		{"\xef\uffff", errNameUTF8},       // a lone first byte of what U+FFFD begins with
		{"\xf4\x90\x80\x80", errNameUTF8}, // above U+10FFFF
		{"a b", errNameSpace},
		{"a\tb", errNameSpace},
		{"a\n", errNameSpace},
		{"a\u00a0b", errNameSpace},
		{"a\u2028b", errNameSpace},
		{"a\u3000", errNameSpace},
		{"a\u0085", errNameSpace},
		{"a\x00", errNameControl},
		{"a\x1b", errNameControl},
		{"a\x7f", errNameControl},
		{"a\u0080", errNameControl},
	} {
		if got := ChannelName(test.name); got != test.want {
			t.Errorf("%q: got %v, want %v", test.name, got, test.want)
		}
	}
}

// The name is what the definition says, clause by clause.
func FuzzChannelName(f *testing.F) {
	for _, s := range []string{"lobby", "", "\xef\xbf", "\ufffd", "a b", "\x00", "比分"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := len(s) >= 1 && len(s) <= 255 && utf8.ValidString(s) &&
			!strings.ContainsFunc(s, unicode.IsSpace) && !strings.ContainsFunc(s, unicode.IsControl)
		if err := ChannelName(s); (err == nil) != want {
			t.Errorf("%q: got %v, want %v", s, err, want)
		}
	})
}
