package wire

import (
	"fmt"
	"strings"
	"testing"

	"sluice/gateway/channel"
)

// The bytes of a record, as PROTOCOL.md prints them.
func TestRecordsBytes(t *testing.T) {
	p := channel.Publication{Payload: []byte("a\"b"), Channel: "news", Epoch: 36, Offset: 12, Prev: 9, At: 1763712000123, From: 8813299279671066641}
	if got, want := string(appendRecord(nil, &p)), `{"channel":"news","epoch":"10","offset":12,"prev":9,"at":1763712000123,"from":"8813299279671066641","data":"a\"b"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p.Binary, p.From = true, 0
	if got, want := string(appendRecord(nil, &p)), `{"channel":"news","epoch":"10","offset":12,"prev":9,"at":1763712000123,"from":"api","base64":"YSJi"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p.Offset = 0 // it has no position in the order
	if got, want := string(appendRecord(nil, &p)), `{"channel":"news","at":1763712000123,"from":"api","base64":"YSJi"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	at := Position{Channel: "news", At: channel.Position{Epoch: 36, Offset: 7}, Gap: true, Conn: 8813299279671066641}
	if got, want := string(appendPosition(nil, &at)), `{"gap":true,"channel":"news","epoch":"10","offset":7,"conn":"8813299279671066641"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// BenchmarkAppend is what a publication costs in each encoding.
func BenchmarkAppend(b *testing.B) {
	formats := []struct {
		name   string
		format channel.Format
	}{{"raw", Raw{}}, {"record", Record{}}, {"event", Event{}}, {"event-record", Event{JSON: true}}}
	texts := []struct{ name, text string }{
		{"100", strings.Repeat("0123456789", 10)},
		{"1024", strings.Repeat("0123456789abcdef", 64)},
		{"json-1024", strings.Repeat(`{"a":"b","c":1},`, 64)},
		{"cyrillic-1024", strings.Repeat("жизнь ", 94)},
	}
	for _, f := range formats {
		for _, text := range texts {
			b.Run(fmt.Sprintf("%s/%s", f.name, text.name), func(b *testing.B) {
				p := channel.Publication{Payload: []byte(text.text), Channel: "chat:1", Epoch: 36, Offset: 123456, Prev: 123455, At: 1763712000123, From: 8813299279671066641}
				buf := make([]byte, 0, 1<<16)
				b.SetBytes(int64(len(p.Payload)))
				b.ReportAllocs()
				for b.Loop() {
					f.format.Append(buf, &p)
				}
			})
		}
	}
}
