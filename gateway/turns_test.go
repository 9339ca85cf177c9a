package gateway

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/edge/admit"
)

// connectFrom is connect from an address of this machine's.
func connectFrom(t testing.TB, s *server, address string) *client {
	t.Helper()
	c, err := dialFrom(s, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) // ignored: it may be closed already
	l := link(c)
	if s.secured {
		l = secureLink(c, nil)
	}
	return &client{t: t, conn: l, in: bufio.NewReader(l)}
}

func dialFrom(s *server, address string) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, err := d.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// numberedAddress returns one of so many loopback addresses of a group.
func numberedAddress(group, i int) string {
	return "127.0." + strconv.Itoa(group) + "." + strconv.Itoa(1+i)
}

// Clients that say one byte of TLS and no more, from as many addresses as it takes to have
// all places many times over, do not keep good ones out.
func TestOneByteOfTLSKeepsNobodyOut(t *testing.T) {
	const addresses, good, warm = 20, 40, 1500 * time.Millisecond
	s := startTLS(t, Config{PingInterval: -1})
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
			if c, err := dialFrom(s, numberedAddress(1, i%addresses)); err == nil { // else: it was reset at once
				c.Write([]byte{0x16}) // ignored: likewise
				all = append(all, c)
			}
		}
	})
	defer flood.Wait()
	defer close(stop)
	begun := time.Now()
	waitFor(t, "the flood to have all places", func() bool {
		s.stage.mu.Lock()
		defer s.stage.mu.Unlock()
		return s.stage.taken == s.stage.places && time.Since(begun) > warm
	})
	took := make(chan time.Duration, good)
	for i := range good {
		go func() {
			begun := time.Now()
			connectFrom(t, s, numberedAddress(2, i)).upgrade("/ws/x")
			took <- time.Since(begun)
		}()
	}
	var all []time.Duration
	for range good {
		all = append(all, receive(t, "a good client", took))
	}
	slices.Sort(all)
	t.Logf("good clients: median %v, worst %v", all[good/2], all[good-1])
	if worst := all[good-1]; worst > scaledTime(time.Second) {
		t.Errorf("the last good client came in after %v", worst)
	}
}

// scaledTime is a bound on time, longer where the race detector makes all slower.
func scaledTime(d time.Duration) time.Duration {
	if raceEnabled {
		return 5 * d
	}
	return d
}

// counts returns what the stage counts for an address.
func (s *server) counts(address string) (places, running, queued int) {
	s.stage.mu.Lock()
	defer s.stage.mu.Unlock()
	k, _ := admit.KeyOf(netip.MustParseAddr(address))
	h := s.stage.addresses[k]
	if h == nil {
		return 0, 0, 0
	}
	return h.places, h.running, len(h.queue)
}

func TestAnAddressHasItsShareOfHandshakes(t *testing.T) {
	const many, few = "127.0.1.1", "127.0.2.1"
	s := startTLS(t, Config{PingInterval: -1, MaxHandshakes: 64})
	dribble := func(address string, n int) (all []*net.TCPConn) {
		for range n {
			c, err := dialFrom(s, address)
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
	waitFor(t, "the address of most connections to have half of the places", func() bool {
		places, running, queued := s.counts(many)
		return places == 40 && running == 32 && queued == 8
	})
	all := dribble(few, 10)
	waitFor(t, "another to have its share", func() bool {
		places, running, queued := s.counts(few)
		return places == 10 && running == sharePlaces && queued == 10-sharePlaces
	})
	// A turn that is over is the next one's; so is that of one that does not end.
	all[0].Close()
	waitFor(t, "the first to leave", func() bool { places, running, _ := s.counts(few); return places == 9 && running == sharePlaces })
	connectFrom(t, s, few).upgrade("/ws/x")
	for _, c := range all {
		c.Close() // ignored: it is most probably closed already
	}
	waitFor(t, "nothing to be counted any more", func() bool { places, _, _ := s.counts(few); return places == 0 })
}

// A storm in which each address has many clients fills all places, and is worked off. On a
// machine that is so busy that a handshake takes a second, some lose their places.
func TestStormFromSomeAddressesGetsIn(t *testing.T) {
	const addresses = 16
	for name, begin := range map[string]func(testing.TB, Config) *server{"plain": start, "TLS": startTLS} {
		t.Run(name, func(t *testing.T) {
			s := begin(t, Config{PingInterval: -1})
			var storm sync.WaitGroup
			var lost atomic.Int32
			n := scaled(600, 200)
			for i := range n {
				storm.Go(func() {
					c, err := dialFrom(s, numberedAddress(3, i%addresses))
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					k := &client{t: t, conn: c}
					if s.secured {
						k.conn = secureLink(c, nil)
					}
					k.in = bufio.NewReader(k.conn)
					k.patience()
					if _, err := io.WriteString(k.conn, upgradeTo("/echo")); err != nil {
						lost.Add(1)
						return
					}
					if resp, err := http.ReadResponse(k.in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
						lost.Add(1)
					}
				})
			}
			storm.Wait()
			if lost.Load() > int32(n)/10 {
				t.Errorf("%d of %d are lost", lost.Load(), n)
			}
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
	v, err := auth.New(impatient, auth.Options{JWKSURL: keySet.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	cfg := guarded(t, rightsFile)
	cfg.Tokens, cfg.MaxHandshakes = v, 1
	s := start(t, cfg)
	c := connect(t, s)
	c.write(upgradeTo("/ws/shut:x?token=" + signedBy(t, key, auth.Claims{User: "42", Channel: "shut:x"})))
	waitFor(t, "its token to wait for the key set", func() bool {
		s.stage.mu.Lock()
		defer s.stage.mu.Unlock()
		return s.stage.waiting.Len() == 1
	})
	dial(t, s, "/connection/websocket")
	c.patience()
	if p, err := io.ReadAll(c.conn); len(p) > 0 {
		t.Errorf("the one that waited got %q, %v, and not its end", p, err)
	}
}
