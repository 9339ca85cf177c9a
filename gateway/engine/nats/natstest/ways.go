package natstest

import (
	"net"
	"sync"
	"testing"
)

// way is the only connection between two servers of a cluster: what the one that connects to the other
// goes through.
type way struct {
	to     string
	listen net.Listener
	ended  sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	cut   bool
	conns map[net.Conn]bool
}

func newWay(t testing.TB, to string) *way {
	t.Helper()
	host, _, err := net.SplitHostPort(to)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	w := &way{to: to, listen: l, conns: make(map[net.Conn]bool)}
	w.ended.Go(w.accept)
	t.Cleanup(func() {
		l.Close() // ignored: it is open
		w.set(true)
		w.ended.Wait()
	})
	return w
}

func (w *way) accept() {
	for {
		from, err := w.listen.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", w.to)
		if err != nil {
			from.Close() // ignored: the server tries again
			continue
		}
		w.mu.Lock()
		w.conns[from], w.conns[to] = true, true
		if w.cut {
			from.Close() // ignored: as above
			to.Close()   // ignored: as above
		}
		w.mu.Unlock()
		w.ended.Go(func() { w.carry(to, from) })
		w.ended.Go(func() { w.carry(from, to) })
	}
}

func (w *way) carry(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if _, wrong := to.Write(buffer[:n]); err != nil || wrong != nil {
			break
		}
	}
	to.Close()   // ignored: one of the two has ended
	from.Close() // ignored: as above
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, to)
	delete(w.conns, from)
}

// set cuts the way, with what is on it, or mends it.
func (w *way) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	for c := range w.conns {
		if cut {
			c.Close() // ignored: it may have ended
		}
	}
}
