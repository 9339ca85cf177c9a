package record

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
		want  Record
	}{
		{`{"channel":"news","epoch":"e1","offset":12,"prev":9,"at":1763712000123,"from":"17","data":"text"}`, true,
			Record{Kind: Publication, At: 1763712000123, Epoch: "e1", Offset: 12, Prev: 9, From: []byte("17"), Payload: []byte("text")}},
		{`{"channel":"news","epoch":"e1","offset":12,"prev":9,"at":1763712000123,"from":"api","data":""}`, true,
			Record{Kind: Publication, At: 1763712000123, Epoch: "e1", Offset: 12, Prev: 9, From: []byte("api"), Payload: []byte{}}},
		{`{"channel":"news","epoch":"e1","offset":12,"prev":9,"at":1763712000123,"from":"17","data":"a\"b\n\u00e9"}`, false,
			Record{Kind: Publication, At: 1763712000123, Epoch: "e1", Offset: 12, Prev: 9, From: []byte("17"), Payload: []byte("a\"b\né")}},
		{`{"channel":"news","epoch":"e1","offset":12,"prev":9,"at":1763712000123,"from":"17","data":"a\n"}`, false,
			Record{Kind: Publication, At: 1763712000123, Epoch: "e1", Offset: 12, Prev: 9, From: []byte("17"), Payload: []byte("a\n")}},
		{`{"channel":"n\"s","epoch":"e1","offset":12,"prev":9,"at":1763712000123,"from":"17","data":"x"}`, false,
			Record{Kind: Publication, At: 1763712000123, Epoch: "e1", Offset: 12, Prev: 9, From: []byte("17"), Payload: []byte("x")}},
		{`{"channel":"news","epoch":"e1","offset":12,"prev":9,"at":1763712000123,"from":"17","base64":"AAEC"}`, false,
			Record{Kind: Publication, At: 1763712000123, Epoch: "e1", Offset: 12, Prev: 9, From: []byte("17"), Payload: []byte{0, 1, 2}, Binary: true}},
		{`{"channel":"news","epoch":"e1","offset":18446744073709551615,"prev":18446744073709551614,"at":1,"from":"17","data":"x"}`, false,
			Record{Kind: Publication, At: 1, Epoch: "e1", Offset: 1<<64 - 1, Prev: 1<<64 - 2, From: []byte("17"), Payload: []byte("x")}},
		{`{"channel":"news","at":1763712000123,"from":"api","data":"text"}`, false, Record{Kind: Publication, At: 1763712000123, From: []byte("api"), Payload: []byte("text")}},
		{`{"channel":"news","at":1763712000123,"from":"api","base64":""}`, false, Record{Kind: Publication, At: 1763712000123, From: []byte("api"), Payload: []byte{}, Binary: true}},
		{`{"data":"x","offset":1,"epoch":"e1"}`, false, Record{Kind: Publication, Epoch: "e1", Offset: 1, From: []byte{}, Payload: []byte("x")}},
		{`{"gap":true,"channel":"news","epoch":"e1","offset":7,"conn":"17"}`, false, Record{Kind: Gap, Epoch: "e1", Offset: 7, Conn: "17"}},
		{`{"gap":false,"channel":"news","epoch":"e1","offset":0,"conn":"17"}`, false, Record{Kind: Position, Epoch: "e1", Conn: "17"}},
		{`{"greeting":"TEXT"}`, false, Record{}},
		{`{"news":{"offset":1}}`, false, Record{}},
	} {
		var d Reader
		got, err := d.Read([]byte(tc.json))
		if err != nil {
			t.Errorf("%s: %v", tc.json, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
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
		`{"channel":"news","epoch":"e1","offset":12,"prev":9,"at":1,"from":"17","data":"text"}`,
		`{"channel":"news","epoch":"e1","offset":012,"prev":9,"at":1,"from":"17","data":"\\"}`,
		`{"channel":"news","epoch":"e1","offset":1e3,"prev":9,"at":1,"from":"17","data":"x"} `,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var d Reader
		got, ok := d.plain([]byte(s))
		if !ok || !json.Valid([]byte(s)) || !utf8.ValidString(s) {
			return
		}
		want, err := d.Read([]byte(" " + s)) // the blank leaves it to encoding/json
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", s, err, diff)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	p := []byte(`{"channel":"logs","epoch":"3w5e11264sg1","offset":123456,"prev":123455,"at":1763712000123,"from":"17","data":"a line of a log, 200 OK in 12 ms, of some length"}`)
	var d Reader
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Read(p); err != nil {
			b.Fatal(err)
		}
	}
}
