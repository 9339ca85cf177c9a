package bench

import (
	"fmt"
	"testing"

	client "github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// BenchmarkFeed returns the tester's own cost for a message, at one read for each
// message and at one for many, in each protocol.
func BenchmarkFeed(b *testing.B) {
	for _, protocol := range Protocols {
		for _, messages := range []int{1, 16, 512} {
			b.Run(string(protocol)+"/"+map[int]string{1: "sparse", 16: "batched", 512: "dense"}[messages], func(b *testing.B) {
				p := phase{mark: newMark().inPhase(1), streams: 1, count: messages}
				stream := messagesOf(protocol, p, messages, 64)
				r := newReceiver(protocol, 1, nil)
				r.tally = newTally(p, 1)
				c := subscriberOf(protocol)
				clock := newClock()
				b.ReportAllocs()
				for b.Loop() {
					r.next[0], c.stands = 0, standing{}
					if err := r.feed(c, stream, clock.now()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
				if r.delivered != int64(b.N*messages) || r.holes != 0 {
					b.Errorf("%d of %d were delivered, %d holes", r.delivered, b.N*messages, r.holes)
				}
			})
		}
	}
}

// frames returns messages as a server sends them.
func frames(p phase, messages, size int) []byte { return messagesOf(Raw, p, messages, size) }

// messagesOf returns them in a protocol; offsets begin at 1001.
func messagesOf(protocol Protocol, p phase, messages, size int) []byte {
	var out []byte
	payload, at := blank(size, protocol.dialect() != nil)
	for seq := range messages {
		stamp{0, uint32(seq), int64(seq) * 1e6}.put(payload[at:], p.mark)
		out = append(out, inProtocol(protocol, 1001+seq, payload)...)
	}
	return out
}

// inProtocol returns the bytes of one publication.
func inProtocol(protocol Protocol, offset int, payload []byte) []byte {
	switch protocol {
	case JSON:
		payload = fmt.Appendf(nil, `{"channel":"lobby","epoch":"3w5e11264sg1","offset":%d,"prev":%d,"at":1763712000123,"from":"17","data":"%s"}`, offset, offset-1, payload)
	case SSE:
		return fmt.Appendf(nil, "id: 3w5e11264sg1:%d\ndata: %s\n\n", offset, payload)
	}
	if d := protocol.dialect(); d != nil {
		return clientFrame(d, &client.Reply{Push: &client.Push{Channel: "news", Pub: &client.Publication{Data: payload, Offset: uint64(offset)}}})
	}
	return ws.MustCompileFrame(ws.NewTextFrame(payload))
}

// clientFrame returns replies in one frame.
func clientFrame(d dialect, replies ...*client.Reply) []byte {
	return ws.MustCompileFrame(ws.NewFrame(d.opcode(), true, encodeReplies(d.opcode() == ws.OpBinary, replies...)))
}

// subscriberOf returns a connection, which is subscribed to "news" where that is needed.
func subscriberOf(p Protocol) *conn {
	c := &conn{}
	if d := p.dialect(); d != nil {
		c.session = newClientSession(d)
		c.session.pong = true
		c.session.join(newChannel("news"), nil).live = true
		c.session.unsent, c.session.asked = nil, nil
	}
	return c
}
