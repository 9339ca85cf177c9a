package bench

import (
	"testing"

	"github.com/gobwas/ws"
)

// BenchmarkFeed gives the tester's own cost for a message, at one read for each
// message and at one for many.
func BenchmarkFeed(b *testing.B) {
	for _, messages := range []int{1, 16, 512} {
		b.Run(map[int]string{1: "sparse", 16: "batched", 512: "dense"}[messages], func(b *testing.B) {
			p := phase{mark: newMark().inPhase(1), streams: 1, count: messages}
			stream := frames(p, messages, 64)
			r := newReceiver(nil)
			r.tally = newTally(p, 1)
			var c conn
			clock := newClock()
			b.ReportAllocs()
			for b.Loop() {
				r.next[0] = 0
				if err := r.feed(&c, stream, clock.now()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
		})
	}
}

// frames gives messages as a server sends them.
func frames(p phase, messages, size int) []byte {
	var out []byte
	payload := make([]byte, size)
	for seq := range messages {
		stamp{0, uint32(seq), int64(seq) * 1e6}.put(payload, p.mark)
		out = append(out, ws.MustCompileFrame(ws.NewTextFrame(payload))...)
	}
	return out
}
