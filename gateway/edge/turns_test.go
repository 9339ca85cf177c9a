package edge

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/clienttest"
	"sluice/gateway/edge/admit"
)

// Clients that say one byte of TLS and no more, from as many addresses as it takes to have
// all places many times over, do not keep good ones out.
func TestOneByteOfTLSKeepsNobodyOut(t *testing.T) {
	const addresses, good, warm = 20, 40, 1500 * time.Millisecond
	s := startTLS(t, settings{HandshakeTimeout: 10 * clienttest.Patience})
	var flood sync.WaitGroup
	stop := make(chan struct{})
	flood.Go(func() { // 400 a second
		var all []*net.TCPConn
		defer func() {
			for _, c := range all {
				c.Close() // ignored: it is most probably closed already
			}
		}()
		tick := time.NewTicker(time.Second / 400)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			if c, err := clienttest.DialFrom(s, clienttest.NumberedAddress(1, i%addresses)); err == nil { // else: it was reset at once
				c.Write([]byte{0x16}) // ignored: likewise
				all = append(all, c)
			}
		}
	})
	defer flood.Wait()
	defer close(stop)
	begun := time.Now()
	clienttest.WaitFor(t, "the flood to have all places", func() bool {
		s.edge.stage.mu.Lock()
		defer s.edge.stage.mu.Unlock()
		return s.edge.stage.taken == s.edge.stage.places && time.Since(begun) > warm
	})
	begun = time.Now()
	var lost atomic.Int32
	in := make(chan error, good)
	for i := range good {
		go func() { in <- comeIn(s, clienttest.NumberedAddress(2, i), "/ws/x", &lost) }()
	}
	for range good {
		if err := clienttest.Receive(t, "a good client", in); err != nil {
			t.Error(err)
		}
	}
	wantFewLost(t, lost.Load(), good, time.Since(begun))
}

// comeIn makes a WebSocket connection from an address, and closes it. As clients do, it tries
// again when it loses its place, which is counted.
func comeIn(s *rig, address, target string, lost *atomic.Int32) error {
	for end := time.Now().Add(clienttest.Patience); ; lost.Add(1) {
		c, err := clienttest.DialFrom(s, address)
		if err != nil {
			return err
		}
		link := clienttest.Link(c)
		if s.secured {
			link = clienttest.SecureLink(c, nil)
		}
		link.SetDeadline(end) // ignored: then a call fails
		var resp *http.Response
		if _, err = io.WriteString(link, clienttest.UpgradeTo(target)); err == nil {
			resp, err = http.ReadResponse(bufio.NewReader(link), nil)
		}
		c.Close() // ignored: it is over
		switch {
		case err == nil && resp.StatusCode != http.StatusSwitchingProtocols:
			return errors.New(resp.Status)
		case err == nil || time.Now().After(end):
			return err
		}
	}
}

// wantFewLost sees that hardly any of n clients lost their places. On a machine that is so busy that
// handshakes take longer than a client is waited for, some do.
func wantFewLost(t *testing.T, lost int32, n int, took time.Duration) {
	t.Helper()
	t.Logf("all are in after %v, %d of %d tried again", took, lost, n)
	if took < secureTurn && lost > int32(n)/10 {
		t.Errorf("%d of %d lost their places", lost, n)
	}
}

// counts returns what the stage counts for an address.
func (s *rig) counts(address string) (places, running, queued int) {
	s.edge.stage.mu.Lock()
	defer s.edge.stage.mu.Unlock()
	k, _ := admit.KeyOf(netip.MustParseAddr(address))
	h := s.edge.stage.addresses[k]
	if h == nil {
		return 0, 0, 0
	}
	return h.places, h.running, len(h.queue)
}

func TestAnAddressHasItsShareOfHandshakes(t *testing.T) {
	const many, few = "127.0.1.1", "127.0.2.1"
	s := startTLS(t, settings{MaxHandshakes: 64})
	dribble := func(address string, n int) (all []*net.TCPConn) {
		for range n {
			c, err := clienttest.DialFrom(s, address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })                  // ignored: it may be closed already
			if _, err := c.Write([]byte{0x16}); err != nil { // a record's first byte
				t.Fatal(err)
			}
			all = append(all, c)
		}
		return all
	}
	dribble(many, 40)
	clienttest.WaitFor(t, "the address of most connections to have half of the places", func() bool {
		places, running, queued := s.counts(many)
		return places == 40 && running == 32 && queued == 8
	})
	all := dribble(few, 10)
	clienttest.WaitFor(t, "another to have its share", func() bool {
		places, running, queued := s.counts(few)
		return places == 10 && running == sharePlaces && queued == 10-sharePlaces
	})
	// A turn that is over is the next one's; so is that of one that does not end.
	all[0].Close()
	clienttest.WaitFor(t, "the first to leave, and the turns to be taken", func() bool {
		places, running, _ := s.counts(few) // on a busy machine others' turns may have ended meanwhile
		return places <= 9 && running == min(sharePlaces, places)
	})
	clienttest.ConnectFrom(t, s, few).Upgrade("/ws/x")
	for _, c := range all {
		c.Close() // ignored: it is most probably closed already
	}
	clienttest.WaitFor(t, "nothing to be counted any more", func() bool { places, _, _ := s.counts(few); return places == 0 })
}

// A storm in which each address has many clients fills all places, and is worked off.
func TestStormFromSomeAddressesGetsIn(t *testing.T) {
	const addresses = 16
	for name, begin := range map[string]func(testing.TB, settings) *rig{"plain": start, "TLS": startTLS} {
		t.Run(name, func(t *testing.T) {
			s := begin(t, settings{})
			var storm sync.WaitGroup
			var lost atomic.Int32
			n, begun := clienttest.Scaled(600, 200), time.Now()
			for i := range n {
				storm.Go(func() {
					if err := comeIn(s, clienttest.NumberedAddress(3, i%addresses), "/echo", &lost); err != nil {
						t.Error(err)
					}
				})
			}
			storm.Wait()
			wantFewLost(t, lost.Load(), n, time.Since(begun))
		})
	}
}

// Whose token waits for a key set that does not come keeps nobody out: his place can be had
// by another.
func TestATokenThatWaitsForAKeySetKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	_, key, _ := ed25519.GenerateKey(nil) // cannot fail
	over := make(chan struct{})
	keySet := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(keySet.Close)
	t.Cleanup(func() { close(over) })
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	v := clienttest.Verifier(impatient, t, auth.Options{JWKSURL: keySet.URL})
	names, err := namespace.Parse([]byte(`{"namespaces": [{"name": "shut"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, settings{MaxHandshakes: 1, Access: access.Config{Tokens: v, Namespaces: names}})
	c := clienttest.Connect(t, s)
	c.Write(clienttest.UpgradeTo("/ws/shut:x?token=" + clienttest.SignedBy(t, key, auth.Claims{User: "42", Channel: "shut:x"})))
	clienttest.WaitFor(t, "its token to wait for the key set", func() bool { return s.waiting() == 1 })
	clienttest.Dial(t, s, "/connection/websocket")
	c.Patience()
	if p, err := io.ReadAll(c.Conn); len(p) > 0 {
		t.Errorf("the one that waited got %q, %v, and not its end", p, err)
	}
}
