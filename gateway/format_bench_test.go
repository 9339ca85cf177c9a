package gateway

import (
	"fmt"
	"strings"
	"testing"

	"sluice/gateway/channel"
)

// BenchmarkAppend is what a publication costs in each format of raw clients.
func BenchmarkAppend(b *testing.B) {
	formats := []struct {
		name   string
		format channel.Format
	}{{"raw", rawFormat{}}, {"record", jsonFormat{}}, {"event", streamFormat{}}, {"event-record", streamFormat{json: true}}}
	texts := []struct{ name, text string }{
		{"100", strings.Repeat("0123456789", 10)},
		{"1024", strings.Repeat("0123456789abcdef", 64)},
		{"json-1024", strings.Repeat(`{"a":"b","c":1},`, 64)},
		{"cyrillic-1024", strings.Repeat("жизнь ", 94)},
	}
	for _, f := range formats {
		for _, text := range texts {
			b.Run(fmt.Sprintf("%s/%s", f.name, text.name), func(b *testing.B) {
				p := channel.Publication{Payload: []byte(text.text), Channel: "chat:1", Epoch: 36, Offset: 123456, At: 1763712000123, From: 17}
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
