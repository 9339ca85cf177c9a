package centrifugo

import (
	"fmt"
	"testing"

	"sluice/gateway/channel"

	"github.com/centrifugal/protocol"
)

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name   string
		format Format
	}{{"json", Format{}}, {"protobuf", Format{Encoding: Protobuf}}} {
		for _, size := range []int{100, 1024} {
			p := channel.Publication{Payload: []byte(benchPayload(size)), Channel: "chat:1", Offset: 123456}
			buf := make([]byte, 0, 1<<16)
			run := func(b *testing.B) {
				b.SetBytes(int64(len(p.Payload)))
				b.ReportAllocs()
				for b.Loop() {
					c.format.Append(buf, &p)
				}
			}
			b.Run(fmt.Sprintf("%s/%d", c.name, size), run)
			p.Extra = extraOf(&protocol.ClientInfo{User: "42", Client: "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", ConnInfo: protocol.Raw(`{"name":"Ann"}`)}, map[string]string{"k": "v"})
			b.Run(fmt.Sprintf("%s/%d/extra", c.name, size), run)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	text := []byte(`{"id":3,"publish":{"channel":"chat:1","data":` + benchPayload(100) + `}}`)
	binary := []byte(message1(b, &protocol.Command{Id: 3, Publish: &protocol.PublishRequest{Channel: "chat:1", Data: protocol.Raw(benchPayload(100))}}))
	for enc, data := range [][]byte{text, binary} {
		b.Run([]string{"json", "protobuf"}[enc], func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Next(Encoding(enc), data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
