//go:build faults

package edge

import (
	"context"
	"crypto/ed25519"
	"net"
	"sync/atomic"
	"testing"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
)

// A panic in the work for a connection that is not in a loop yet costs that connection, and
// gives back what it held: its address, which may have one, comes in again.
func TestFaultPanicsInHandshakesCostTheirConnectionAlone(t *testing.T) {
	t.Cleanup(func() { loop.GreetingsPlanted.Store(nil) })
	public, key, _ := ed25519.GenerateKey(nil) // cannot fail
	v := clienttest.Verifier(t.Context(), t, auth.Options{PublicKeys: [][]byte{clienttest.PublicPEM(t, public)}})
	names, err := namespace.Parse([]byte(`{"namespaces": [{"name": "shut"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, settings{Loops: 1, MaxHandshakes: 4, Limits: perAddress(1), Access: access.Config{Tokens: v, Namespaces: names}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secured, served := s.at(l.Addr().String(), true), make(chan error, 1)
	go func() { served <- secured.serve(l) }()
	t.Cleanup(func() { s.shutdown(context.Background()); <-served }) // ignored: the test says what is left
	token := clienttest.SignedBy(t, key, auth.Claims{User: "42", Channel: "shut:x"})
	const client = "/connection/websocket"
	upgrade, dear, plain := clienttest.UpgradeTo(client), clienttest.UpgradeTo("/ws/shut:x?token="+token), "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	stream := "GET /sse/shut:x?token=" + token + " HTTP/1.1\r\nHost: h\r\n\r\n"
	session := clienttest.UpgradeTo(client) + clienttest.Text(`{"id":1,"connect":{"token":"`+clienttest.SignedBy(t, key, auth.Claims{User: "42"})+`"}}`)
	total := func() uint64 {
		return s.Sum(func(st *loop.Stats) uint64 { return st.Panics.Load() }) + s.edge.stats.panics.Load()
	}
	for _, on := range []*rig{s, secured} { // both listen from then on
		clienttest.Dial(t, on, client).Conn.Close() // ignored: it is of no more use
		s.wantConnections(0)
	}
	before := clienttest.Descriptors()
	for i, test := range []struct {
		place   string
		secured bool
		request string
	}{
		{"proceed", false, upgrade}, {"proceed", true, upgrade}, {"run", false, "GET"}, {"run", true, upgrade},
		{"calculate", true, upgrade}, {"reply", false, "GET\r\n\r\n"}, {"reply", true, "GET\r\n\r\n"},
		{"admit", false, upgrade}, {"admit", true, upgrade}, {"admit", false, dear},
		{"detached", false, upgrade}, {"detached", true, upgrade}, {"arrive", false, upgrade}, {"arrive", true, upgrade},
		{"take", false, plain}, {"take", true, plain}, {"hand", false, plain}, {"hand", true, plain},
		{"verify", false, dear}, {"verify", true, dear}, {"verify", false, stream}, {"verify", false, session},
	} {
		var hit atomic.Bool
		f := func(here string) {
			if here == test.place && !hit.Swap(true) {
				panic("planted at " + here)
			}
		}
		counted := total()
		on := s
		if test.secured {
			on = secured
		}
		loop.GreetingsPlanted.Store(&f)
		c := clienttest.ConnectFrom(t, on, clienttest.NumberedAddress(9, i))
		c.Conn.Write([]byte(test.request)) // ignored: it may have ended already
		clienttest.WaitFor(t, "the panic at "+test.place+" to be counted for "+test.request, func() bool { return total() == counted+1 })
		loop.GreetingsPlanted.Store(nil)
		c.Patience()
		for err := error(nil); err == nil; {
			_, err = c.In.ReadByte()
		}
		c.Conn.Close() // ignored: it has ended on the other side
		clienttest.WaitFor(t, "everything to be given back after the panic at "+test.place, func() bool {
			s.edge.stage.mu.Lock()
			held := s.edge.stage.taken + s.edge.stage.waiting.Len() + len(s.edge.stage.addresses)
			s.edge.stage.mu.Unlock()
			taken, waiting := s.edge.web.places.count()
			return held+taken+waiting+len(s.edge.crypto)+int(s.edge.connections.Load()) == 0
		})
		again := clienttest.ConnectFrom(t, on, clienttest.NumberedAddress(9, i))
		again.Upgrade(client)
		again.Conn.Close() // ignored: it is of no more use
		s.wantConnections(0)
	}
	clienttest.WaitFor(t, "as many descriptors to be open as before", func() bool { return len(clienttest.Descriptors()) <= len(before) })
}
