//go:build faults

package gateway

import (
	"crypto/ed25519"
	"sync/atomic"
	"testing"

	"sluice/gateway/access/auth"
)

// A panic in the work for a connection that is not in a loop yet costs that connection, and
// gives back what it held: its address, which may have one, comes in again.
func TestFaultPanicsInHandshakesCostTheirConnectionAlone(t *testing.T) {
	t.Cleanup(func() { greetingsPlanted.Store(nil) })
	cfg := guarded(t, rightsFile)
	cfg.MaxPerAddress, cfg.MaxHandshakes, cfg.Loops = 1, 4, 1
	public, key, _ := ed25519.GenerateKey(nil) // cannot fail
	v, err := auth.New(t.Context(), auth.Options{PublicKeys: [][]byte{pemOf(t, public)}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Tokens = v
	s := start(t, cfg)
	secured, stop := alsoTLS(t, s)
	defer stop()
	token := signedBy(t, key, auth.Claims{User: "42", Channel: "shut:x"})
	const client = "/connection/websocket"
	upgrade, dear, plain := upgradeTo(client), upgradeTo("/ws/shut:x?token="+token), "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	stream := "GET /sse/shut:x?token=" + token + " HTTP/1.1\r\nHost: h\r\n\r\n"
	session := upgradeTo(client) + text(`{"id":1,"connect":{"token":"`+signedBy(t, key, auth.Claims{User: "42"})+`"}}`)
	total := func() uint64 { return s.panics() + s.stats.panics.Load() }
	for _, on := range []*server{s, secured} { // both listen from then on
		dial(t, on, client).conn.Close() // ignored: it is of no more use
		s.wantConnections(0)
	}
	before := descriptors()
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
		greetingsPlanted.Store(&f)
		c := connectFrom(t, on, numberedAddress(9, i))
		c.conn.Write([]byte(test.request)) // ignored: it may have ended already
		waitFor(t, "the panic at "+test.place+" to be counted for "+test.request, func() bool { return total() == counted+1 })
		greetingsPlanted.Store(nil)
		c.patience()
		for err := error(nil); err == nil; {
			_, err = c.in.ReadByte()
		}
		c.conn.Close() // ignored: it has ended on the other side
		waitFor(t, "everything to be given back after the panic at "+test.place, func() bool {
			s.stage.mu.Lock()
			held := s.stage.taken + s.stage.waiting.Len() + len(s.stage.addresses)
			s.stage.mu.Unlock()
			taken, waiting := s.web.places.count()
			return held+taken+waiting+len(s.crypto)+int(s.connections.Load()) == 0
		})
		again := connectFrom(t, on, numberedAddress(9, i))
		again.upgrade(client)
		again.conn.Close() // ignored: it is of no more use
		s.wantConnections(0)
	}
	waitFor(t, "as many descriptors to be open as before", func() bool { return len(descriptors()) <= len(before) })
}
