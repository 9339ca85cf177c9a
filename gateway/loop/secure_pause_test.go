package loop

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
)

// Small records that came in one segment are in the process together. When the first
// of them has to wait for room, the descriptor tells nothing of the others any more.
func TestRecordsOfOneSegmentAreReadAfterAPause(t *testing.T) {
	clienttest.UncompressedOnly(t)
	s := startLoopsTLS(t, loopsConfig{MaxMessage: 1000, ChannelBuffer: 4 << 10, PingInterval: -1, WriteTimeout: -1})
	nc, err := net.Dial("tcp", s.Endpoint().Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	wire := &clienttest.Gathered{Conn: nc}
	l := &clienttest.TlsLink{Conn: tls.Client(wire, &tls.Config{InsecureSkipVerify: true}), Tcp: nc.(*net.TCPConn)}
	a := clienttest.NewClient(t, l)
	a.Upgrade("/ws/x")
	a.Settle(s) // its session tickets are read
	b, _ := clienttest.DialTLS(t, s, "/ws/x", nil)
	release := s.hold(s.loopOf(b))
	fill := clienttest.Numbered(20, 500)
	filled := make(chan error, 1)
	go func() {
		for _, p := range fill {
			if _, err := s.tryPublish(clienttest.Patience, "x", p); err != nil {
				filled <- err
				return
			}
		}
		filled <- nil
	}()
	clienttest.WaitFor(t, "the channel to be full", func() bool { return s.publisher.PushedBack.Load() > 0 })
	wire.Keeps = true
	for _, p := range []string{"one", "two", "three"} {
		a.Send(clienttest.Text(p)) // a record each
	}
	if _, err := nc.Write(wire.Kept); err != nil {
		t.Fatal(err)
	}
	wire.Keeps = false
	clienttest.WaitFor(t, "its message to be pushed back", func() bool { return s.pushBacks() > 0 })
	release()
	var got []string
	for range len(fill) + 3 {
		_, p, err := b.Next()
		if err != nil {
			t.Fatalf("after %d messages: %v", len(got), err)
		}
		if len(p) < 500 {
			got = append(got, p)
		}
	}
	if got := strings.Join(got, " "); got != "one two three" {
		t.Errorf("got %q", got)
	}
	if err := clienttest.Receive(t, "the publisher", filled); err != nil {
		t.Error(err)
	}
}
