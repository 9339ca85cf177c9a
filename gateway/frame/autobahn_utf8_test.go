package frame

import (
	"fmt"
	"slices"
	"testing"
	"unicode/utf8"
)

// The sequences of Autobahn's section 6.5 and on, after Markus Kuhn's UTF-8
// decoder stress test. Each string is one case.
var utf8Cases = []struct {
	section  string
	valid    bool
	payloads []string
}{
	{"6.5", true, []string{"hello$world", "hello\u00a2world", "hello\u20acworld", "hello\U00024b62world", kosme}},
	{"6.6 prefixes", true, []string{"\xce\xba", "\xce\xba\xe1\xbd\xb9", "\xce\xba\xe1\xbd\xb9\xcf\x83", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc", kosme}},
	{"6.6 prefixes", false, []string{"\xce", "\xce\xba\xe1", "\xce\xba\xe1\xbd", "\xce\xba\xe1\xbd\xb9\xcf", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce"}},
	{"6.7 first of a length", true, []string{"\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}},
	{"6.8 first of 5, 6", false, []string{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"}},
	{"6.9 last of a length", true, []string{"\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}},
	{"6.10 last of 4, 5, 6", false, []string{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}},
	{"6.11 boundaries", true, []string{"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf"}},
	{"6.11 boundaries", false, []string{"\xf4\x90\x80\x80"}},
	{"6.12 continuation bytes", false, []string{"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80", "\x80\xbf\x80\xbf\x80\xbf", byteRange(0x80, 0xbf, "")}},
	{"6.13 lonely starts", false, []string{byteRange(0xc0, 0xdf, " "), byteRange(0xe0, 0xef, " "), byteRange(0xf0, 0xf7, " "), byteRange(0xf8, 0xfb, " "), "\xfc "}},
	{"6.14 last byte missing", false, []string{"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80", "\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf"}},
	{"6.15 such ones joined", false, []string{"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf"}},
	{"6.16 impossible bytes", false, []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"}},
	{"6.17 overlong slash", false, []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}},
	{"6.18 largest overlong", false, []string{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}},
	{"6.19 overlong NUL", false, []string{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"}},
	{"6.20 surrogates", false, []string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"}},
	{"6.21 pairs of them", false, []string{"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf", "\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf"}},
	{"6.22 noncharacters", true, noncharacters()},
	{"6.23 specials", true, []string{"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff"}},
}

func byteRange(from, to byte, after string) string {
	s := ""
	for b := from; b < to; b++ {
		s += string([]byte{b}) + after
	}
	return s
}

func noncharacters() []string {
	var s []string
	for plane := rune(0); plane <= 16; plane++ {
		s = append(s, string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	return s
}

func TestAutobahnUTF8CasesHoweverTheyAreCut(t *testing.T) {
	for _, c := range utf8Cases {
		t.Run(c.section, func(t *testing.T) {
			t.Parallel()
			for i, p := range c.payloads {
				var want []got
				wantErr := ErrText
				if c.valid {
					want, wantErr = []got{text(p)}, nil
				}
				wantAnyCut(t, stream(sent{0x81, p}), &roomy, want, wantErr)
				for j := range len(p) + 1 {
					wantAnyCut(t, stream(sent{0x01, p[:j]}, sent{0x80, p[j:]}), &roomy, want, wantErr)
				}
				if t.Failed() {
					t.Fatalf("case %d", i+1)
				}
			}
		})
	}
}

// canBecomeUTF8 tells whether b is the beginning of some text, by trying: it is
// when what is left after taking away a beginning of a code point is valid.
func canBecomeUTF8(b string) bool {
	for k := range min(utf8.UTFMax, len(b)+1) {
		if utf8.ValidString(b[:len(b)-k]) && (k == 0 || !utf8.FullRuneInString(b[len(b)-k:])) {
			return true
		}
	}
	return false
}

func TestBadTextIsRefusedAtTheByteThatBreaksIt(t *testing.T) {
	for _, c := range utf8Cases {
		for _, p := range c.payloads {
			p = "é" + p + "--" // the frame is never complete
			b := stream(sent{0x01, p + "."})
			b = b[:len(b)-1]
			header := len(b) - len(p)
			for end := header; end <= len(b); end++ {
				for start := header; start <= end; start++ {
					_, err := parse(t, cut(b[:end], start), &roomy)
					want := ErrText
					if canBecomeUTF8(p[:end-header]) {
						want = nil
					}
					if !same(err, want) {
						t.Fatalf("%q of %q, cut at %d: %v, want %v", p[:end-header], p, start-header, err, want)
					}
				}
			}
		}
	}
	for _, c := range []struct {
		p    string
		at   int
		what string
	}{
		{"\xf4\x90\x80\x80", 1, "above U+10FFFF"},
		{"\xed\xa0\x80", 1, "surrogate"},
		{"\xe0\x80\x80", 1, "overlong"},
		{"\xc0\x80", 0, "overlong"},
		{"\xf8\x88\x80\x80\x80", 0, "five bytes"},
		{"\xe2\x82a", 2, "cut short"},
	} {
		b := stream(sent{0x01, c.p})
		taken := 0
		var s State
		for i := range b {
			if _, _, _, err := Next(&s, b[i:i+1], &roomy); err != nil {
				break
			}
			taken++
		}
		if at := taken - (len(b) - len(c.p)); at != c.at {
			t.Errorf("%s: refused at byte %d of the text, want %d", c.what, at, c.at)
		}
	}
}

func TestEveryCodePointInPieces(t *testing.T) {
	var all []byte
	for r := rune(0); r <= utf8.MaxRune; r += 1 + r/512 {
		if utf8.ValidRune(r) {
			all = utf8.AppendRune(all, r)
		}
	}
	for size := 1; size <= 9; size++ {
		var frames []sent
		for piece := range slices.Chunk(all, size) {
			frames = append(frames, sent{0x00, string(piece)})
		}
		frames[0].b0 |= 0x01
		frames[len(frames)-1].b0 |= fin
		lim := Limits{MessageBytesMax: len(all), FragmentsMax: len(frames)}
		msgs, err := parse(t, cut(stream(frames...)), &lim)
		if err != nil || fmt.Sprint(msgs) != fmt.Sprint([]got{text(string(all))}) {
			t.Errorf("fragments of %d: %v", size, err)
		}
	}
}
