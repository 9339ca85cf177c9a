package main

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestRecords(t *testing.T) {
	for _, tc := range []struct {
		json  string
		plain bool
		want  subRecord
	}{
		{`{"channel":"news","epoch":"e1","offset":12,"at":1763712000123,"from":"17","data":"text"}`, true,
			subRecord{recordPublication, "e1", 12, []byte("text")}},
		{`{"channel":"news","epoch":"e1","offset":12,"at":1763712000123,"from":"api","data":""}`, true,
			subRecord{recordPublication, "e1", 12, []byte{}}},
		{`{"channel":"news","epoch":"e1","offset":12,"at":1763712000123,"from":"17","data":"a\"b\n\u00e9"}`, false,
			subRecord{recordPublication, "e1", 12, []byte("a\"b\né")}},
		{`{"channel":"n\"s","epoch":"e1","offset":12,"at":1763712000123,"from":"17","data":"x"}`, false,
			subRecord{recordPublication, "e1", 12, []byte("x")}},
		{`{"channel":"news","epoch":"e1","offset":12,"at":1763712000123,"from":"17","base64":"AAEC"}`, false,
			subRecord{recordPublication, "e1", 12, []byte{0, 1, 2}}},
		{`{"channel":"news","epoch":"e1","offset":18446744073709551615,"at":1,"from":"17","data":"x"}`, false,
			subRecord{recordPublication, "e1", 1<<64 - 1, []byte("x")}},
		{`{"data":"x","offset":1,"epoch":"e1"}`, false, subRecord{recordPublication, "e1", 1, []byte("x")}},
		{`{"gap":true,"channel":"news","epoch":"e1","offset":7,"conn":"17"}`, false, subRecord{kind: recordGap, epoch: "e1", offset: 7}},
		{`{"gap":false,"channel":"news","epoch":"e1","offset":0,"conn":"17"}`, false, subRecord{kind: recordPosition, epoch: "e1"}},
		{`{"greeting":"TEXT"}`, false, subRecord{}},
		{`{"news":{"offset":1}}`, false, subRecord{}},
	} {
		var d recordReader
		got, err := d.read([]byte(tc.json))
		if err != nil {
			t.Errorf("%s: %v", tc.json, err)
		}
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(subRecord{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.json, diff)
		}
		if _, ok := d.plain([]byte(tc.json)); ok != tc.plain {
			t.Errorf("%s: taken for plain: %v", tc.json, ok)
		}
	}
}

// Both ways of reading a record give the same.
func FuzzPlainRecordIsJSON(f *testing.F) {
	for _, s := range []string{
		`{"channel":"news","epoch":"e1","offset":12,"at":1,"from":"17","data":"text"}`,
		`{"channel":"news","epoch":"e1","offset":012,"at":1,"from":"17","data":"\\"}`,
		`{"channel":"news","epoch":"e1","offset":1e3,"at":1,"from":"17","data":"x"} `,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var d recordReader
		got, ok := d.plain([]byte(s))
		if !ok || !json.Valid([]byte(s)) || !utf8.ValidString(s) {
			return
		}
		want, err := d.read([]byte(" " + s)) // the blank leaves it to encoding/json
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(subRecord{})); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", s, err, diff)
		}
	})
}

func TestPositions(t *testing.T) {
	for text, want := range map[string]position{"e1:0": {"e1", 0}, "a:b:18446744073709551615": {"a:b", 1<<64 - 1}} {
		if got, err := parsePosition(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "e1", ":1", "e1:", "e1:-1", "e1:x", "e1:18446744073709551616"} {
		if got, err := parsePosition(text); err == nil || got != (position{}) {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	p := []byte(`{"channel":"logs","epoch":"3w5e11264sg1","offset":123456,"at":1763712000123,"from":"17","data":"a line of a log, 200 OK in 12 ms, of some length"}`)
	var d recordReader
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.read(p); err != nil {
			b.Fatal(err)
		}
	}
}
