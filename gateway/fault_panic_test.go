package gateway

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
	"sluice/gateway/loop"

	"github.com/gobwas/ws"
)

// One message in a thousand makes the hook panic. Each costs the connection that sent
// it, and nothing else: the others' messages are published, and reach all who stay.
func TestPanicsCostTheirConnectionsAlone(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	clients, each := clienttest.Scaled(1000, 100), 10
	const every = 100 // a connection in so many sends the message, its fifth
	panicking := clients / every
	var seen atomic.Int64
	s := start(t, Config{PingInterval: -1, Hooks: filter(func(m hook.FilterRequest) bool {
		if string(m.Payload) == "panic" {
			panic("by order of the test")
		}
		seen.Add(1)
		return true
	})})
	ready, done := make(chan struct{}), make(chan error, clients)
	var joined sync.WaitGroup
	for i := range clients {
		panics := i%every == every/2
		c := clienttest.Dial(t, s, fmt.Sprintf("/ws/%d", i/every)) // a hundred to a channel
		joined.Add(1)
		go func() {
			joined.Done()
			<-ready
			done <- survive(c, i, each, panics, every-1, every)
		}()
	}
	joined.Wait()
	close(ready)
	for range clients {
		if err := clienttest.Receive(t, "a client to be through", done); err != nil {
			t.Error(err)
		}
	}
	s.WantClosed(loop.ReasonPanic, uint64(panicking))
	if n := s.Sum(func(st *loop.Stats) uint64 { return st.Panics.Load() }); n != uint64(panicking) {
		t.Errorf("%d panics are counted, want %d", n, panicking)
	}
	if want := int64((clients-panicking)*each + panicking*(each/2)); seen.Load() != want {
		t.Errorf("the hook let %d messages pass, want %d", seen.Load(), want)
	}
	s.wantConnections(int64(clients - panicking))
}

// survive sends messages, with the one that panics in their middle, and reads what the
// senders of its channel, of whom one panics, sent: each one's in order.
func survive(c *clienttest.Client, id, each int, panics bool, others, senders int) error {
	for k := range each {
		m := fmt.Sprintf("%d/%d", id, k)
		if panics && k == each/2 {
			m = "panic"
		}
		c.Patience() // it was dialed long ago on a busy machine
		if _, err := c.Conn.Write([]byte(clienttest.Text(m))); err != nil && !panics {
			return fmt.Errorf("client %d: %w", id, err)
		}
	}
	got := make(map[int]int)
	for n := 0; panics || n < others*each+(senders-others)*(each/2); n++ {
		op, p, err := c.Next()
		if panics && err == nil && op == ws.OpClose {
			if len(p) < 2 || int(p[0])<<8|int(p[1]) != 1011 {
				return fmt.Errorf("client %d was told %q, want 1011", id, p)
			}
			c.Conn.Close() // ignored: nothing is due to it any more
			return nil
		}
		var from, k int
		if _, scanErr := fmt.Sscanf(p, "%d/%d", &from, &k); err != nil || scanErr != nil || op != ws.OpText {
			return fmt.Errorf("client %d: message %d is %q, opcode %#x, %v", id, n, p, op, err)
		}
		if got[from] != k {
			return fmt.Errorf("client %d: got message %d of client %d, want %d", id, k, from, got[from])
		}
		got[from]++
	}
	return nil
}
