package centrifugo

import (
	stdjson "encoding/json"
	"fmt"
	"strings"
	"testing"

	segmentio "github.com/segmentio/encoding/json"
)

var scanned = []string{
	"", " ", "{}", " [ ] ", `{"a":[1,{"b":null}],"c":"\u12aF\n\/"}`, "1", "-0", "-", "01", "1.", ".5", "1.5e", "1e+", "1E-7", "-1.25e+30",
	"true", "tru", "truex", "nul", "false ", `"`, `"\`, `"\u12`, `"\u12g4"`, `"\x"`, "\"\x1f\"", "\"\x7f\"", "\"\t\"", `"\ud800"`, "[1,]", "[,1]",
	"[1 2]", `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{1:2}`, `{"a":1 "b":2}`, "[", "{", `{"a"`, `{"a":`, `{"a":1`, "{}}", "{}x", "\ufeff1", "\v1", "\x00", "[\n\r\t 1\n]",
	`"a\`, "+1", "NaN", "Infinity", "'a'", "/**/1", "1 // x",
}

func TestValidJSONAgreesWithTheStandardLibrary(t *testing.T) {
	for _, text := range scanned {
		if got, want := validJSON([]byte(text)), stdjson.Valid([]byte(text)); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
	for depth, want := range map[int]bool{nestingMax: true, nestingMax + 1: false, 1 << 20: false} {
		if got := validJSON([]byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))); got != want {
			t.Errorf("%d arrays: %t", depth, got)
		}
		if got := validJSON([]byte(strings.Repeat(`{"":`, depth) + "1" + strings.Repeat("}", depth))); got != want {
			t.Errorf("%d objects: %t", depth, got)
		}
	}
}

// Python's parser takes no longer integers, and its client library does not survive that.
func TestLongNumbersAreNotJSON(t *testing.T) {
	for _, form := range []string{"%s", "-%s", "1.%s", "%s.5", "1e%s", `[{"a":%s}]`} {
		for n, want := range map[int]bool{digitsMax: true, digitsMax + 1: false} {
			if got := validJSON(fmt.Appendf(nil, form, strings.Repeat("9", n))); got != want {
				t.Errorf("%s with %d digits: %t", form, n, got)
			}
		}
	}
	if !validJSON([]byte(`"` + strings.Repeat("9", digitsMax+1) + `"`)) {
		t.Error("a string of digits is not JSON")
	}
}

func FuzzValidJSON(f *testing.F) {
	for _, text := range scanned {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := validJSON(b), stdjson.Valid(b); got != want && (got || depth(b) <= nestingMax && len(b) <= digitsMax) {
			t.Fatalf("%q: %t", b, got)
		}
	})
}

func benchPayload(size int) string {
	item := `{"id":1234,"text":"hello, world 界","tags":["a","b"],"price":12.5,"ok":true}`
	text := "["
	for len(text)+len(item)+2 < size {
		text += item + ","
	}
	return text + `"` + strings.Repeat("x", max(0, size-len(text)-3)) + `"]`
}

func BenchmarkValidJSON(b *testing.B) {
	for _, size := range []int{100, 1024, 16384} {
		p := []byte(benchPayload(size))
		for _, c := range []struct {
			name  string
			valid func([]byte) bool
		}{{"ours", validJSON}, {"std", stdjson.Valid}, {"segmentio", segmentio.Valid}} {
			b.Run(fmt.Sprintf("%s/%d", c.name, size), func(b *testing.B) {
				b.SetBytes(int64(len(p)))
				b.ReportAllocs()
				for b.Loop() {
					if !c.valid(p) {
						b.Fatal("not valid")
					}
				}
			})
		}
	}
}
