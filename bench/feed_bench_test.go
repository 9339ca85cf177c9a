package bench

import (
	"fmt"
	"testing"

	"github.com/gobwas/ws"
)

// BenchmarkFeed gives the tester's own cost for a message, at one read for each
// message and at one for many, in each protocol.
func BenchmarkFeed(b *testing.B) {
	for _, protocol := range []Protocol{Raw, JSON, SSE} {
		for _, messages := range []int{1, 16, 512} {
			b.Run(string(protocol)+"/"+map[int]string{1: "sparse", 16: "batched", 512: "dense"}[messages], func(b *testing.B) {
				p := phase{mark: newMark().inPhase(1), streams: 1, count: messages}
				stream := messagesOf(protocol, p, messages, 64)
				r := newReceiver(protocol, nil)
				r.tally = newTally(p, 1)
				var c conn
				clock := newClock()
				b.ReportAllocs()
				for b.Loop() {
					r.next[0], c.next = 0, 0
					if err := r.feed(&c, stream, clock.now()); err != nil {
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

// frames gives messages as a server sends them.
func frames(p phase, messages, size int) []byte { return messagesOf(Raw, p, messages, size) }

// messagesOf gives them in a protocol; offsets begin at 1001.
func messagesOf(protocol Protocol, p phase, messages, size int) []byte {
	var out []byte
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = '.'
	}
	for seq := range messages {
		stamp{0, uint32(seq), int64(seq) * 1e6}.put(payload, p.mark)
		out = append(out, inProtocol(protocol, 1001+seq, payload)...)
	}
	return out
}

// inProtocol gives the bytes of one publication.
func inProtocol(protocol Protocol, offset int, payload []byte) []byte {
	switch protocol {
	case JSON:
		payload = fmt.Appendf(nil, `{"channel":"lobby","epoch":"3w5e11264sg1","offset":%d,"at":1763712000123,"from":"17","data":"%s"}`, offset, payload)
	case SSE:
		return fmt.Appendf(nil, "id: 3w5e11264sg1:%d\ndata: %s\n\n", offset, payload)
	}
	return ws.MustCompileFrame(ws.NewTextFrame(payload))
}
