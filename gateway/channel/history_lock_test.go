package channel

import (
	"runtime"
	"testing"
)

// gate is a format that encodes, under the channel's lock, when it is let.
type gate struct{ entered, open chan struct{} }

func (g *gate) Append(dst []byte, p *Publication) []byte {
	g.entered <- struct{}{}
	<-g.open
	return padded(0).Append(dst, p)
}

// Whoever recovers while a publication has the lock waits for it, and begins behind it
// in the order and in the log alike.
func TestRecoveryThatMeetsAPublicationBeginsBehindIt(t *testing.T) {
	s := historySpace(History{Of: keeping(64, 1<<40), Bytes: 1 << 20})
	g := &gate{make(chan struct{}), make(chan struct{})}
	m := join(t, s, "x", g)
	c := s.Find("x")
	for n := range uint64(100) {
		published, recalled := make(chan error, 1), make(chan struct{})
		go func() {
			_, err := c.Publish(&Publication{Payload: make([]byte, 8)}, new(Scratch), nil)
			published <- err
		}()
		<-g.entered
		var r Recalled
		var live uint64
		go func() {
			r, live = m.Recall(nil, Ask{Kind: AskNow}, 1, 0, new(Scratch))
			close(recalled)
		}()
		for range 1000 { // it comes as far as the lock
			runtime.Gosched()
		}
		g.open <- struct{}{}
		if err := <-published; err != nil {
			t.Fatal(err)
		}
		<-recalled
		if head := m.Log().Head(); r.To.Offset != n+1 || live != head {
			t.Fatalf("publication %d ends at %d: recovery ends with %d, and goes on from %d", n+1, head, r.To.Offset, live)
		}
		m.serve()
	}
	s.Leave(&m.Reader)
}
