package channel

import (
	"sync"
	"testing"
)

// gate is a format that encodes when it is let.
type gate struct{ entered, open chan struct{} }

func (g *gate) Append(dst []byte, p *Publication) []byte {
	g.entered <- struct{}{}
	<-g.open
	return padded(0).Append(dst, p)
}

// A recovery does not wait for a publication that is being encoded: it begins before it, in
// the order and in the log alike.
func TestRecoveryThatMeetsAPublicationBeginsBeforeIt(t *testing.T) {
	s := historySpace(History{Of: keeping(64, 1<<40), Bytes: 1 << 20})
	g := &gate{make(chan struct{}), make(chan struct{})}
	m := join(t, s, "x", g)
	c := s.Find("x")
	for n := range uint64(100) {
		published := make(chan error, 1)
		go func() {
			_, err := c.Publish(&Publication{Payload: make([]byte, 8)}, new(Scratch), nil)
			published <- err
		}()
		<-g.entered
		head := m.Log().Head()
		if r, live := m.Recall(nil, m.log.format, Ask{Kind: AskNow}, 1, 0, new(Scratch)); r.To.Offset != n || live != head {
			t.Fatalf("publication %d begins at %d: recovery ends with %d, and goes on from %d", n+1, head, r.To.Offset, live)
		}
		g.open <- struct{}{}
		if err := <-published; err != nil {
			t.Fatal(err)
		}
		if r, live := m.Recall(nil, m.log.format, Ask{Kind: AskNow}, 1, 0, new(Scratch)); r.To.Offset != n+1 || live != m.Log().Head() {
			t.Fatalf("behind publication %d recovery ends with %d, and goes on from %d of %d", n+1, r.To.Offset, live, m.Log().Head())
		}
		m.serve()
	}
	s.Leave(&m.Reader)
}

// Publications of equal size count the log's bytes: a position in the one order is a position in the
// other.
func TestRecoveryGoesOnWhereItEnds(t *testing.T) {
	s := historySpace(History{Of: keeping(8, 1<<40), Bytes: 1 << 20})
	m := join(t, s, "x", padded(4))
	c := s.Find("x")
	const size = lengthBytes + 4 + 4
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20_000 {
			publishSize(c, 4, nil) // ignored: the reader is behind, and it goes on
		}
	}()
	var scratch Scratch
	for open := true; open; {
		select {
		case <-done:
			open = false
		default:
		}
		if r, live := m.Recall(nil, m.log.format, Ask{Kind: AskNow}, 1, 0, &scratch); live != size*r.To.Offset {
			t.Fatalf("recovery ends with %d, and goes on from %d, want %d", r.To.Offset, live, size*r.To.Offset)
		}
		m.serve()
	}
	s.Leave(&m.Reader)
}

// Where a subscription begins is decided together with what it gets, whatever is published
// meanwhile.
func TestRecoveryBeginsWhereItIsDecidedTo(t *testing.T) {
	s := historySpace(History{Of: keeping(1, 1<<40), Bytes: 1 << 20})
	m := join(t, s, "x", padded(4))
	c := s.Find("x")
	publishSize(c, 4, nil) // ignored: the log is empty
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				publishSize(c, 4, nil) // ignored: the reader is behind, and it goes on
			}
		}
	})
	var scratch Scratch
	for range 200_000 {
		if r, _ := m.Recall(nil, m.log.format, Ask{Kind: AskNow}, 1<<10, 0, &scratch); r.Gap || r.Count != 0 || r.From != r.To {
			t.Errorf("from now on: %+v, want nothing", r)
			break
		}
		if r, _ := m.Recall(nil, m.log.format, Ask{Kind: AskNewest, N: 1}, 1<<10, 0, &scratch); r.Gap || r.Count != 1 || r.To.Offset != r.From.Offset+1 {
			t.Errorf("from the newest on: %+v, want one", r)
			break
		}
		m.serve()
	}
	close(stop)
	publishing.Wait()
	s.Leave(&m.Reader)
}
