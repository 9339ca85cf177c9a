package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
)

// gathered is a connection that keeps what is written, when told so.
type gathered struct {
	net.Conn
	keeps bool
	kept  []byte
}

func (g *gathered) Write(p []byte) (int, error) {
	if !g.keeps {
		return g.Conn.Write(p)
	}
	g.kept = append(g.kept, p...)
	return len(p), nil
}

// Small records that came in one segment are in the process together. When the first
// of them has to wait for room, the descriptor tells nothing of the others any more.
func TestRecordsOfOneSegmentAreReadAfterAPause(t *testing.T) {
	s := startTLS(t, Config{MaxMessage: 1000, ChannelBuffer: 4 << 10, PingInterval: -1, WriteTimeout: -1})
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	wire := &gathered{Conn: nc}
	l := &tlsLink{tls.Client(wire, &tls.Config{InsecureSkipVerify: true}), nc.(*net.TCPConn)}
	a := &client{t: t, conn: l, in: bufio.NewReader(l)}
	a.upgrade("/ws/x")
	a.settle(s) // its session tickets are read
	b, _ := dialTLS(t, s, "/ws/x", nil)
	release := s.hold(b.loopOf(s))
	fill := numbered(20, 500)
	filled := make(chan error, 1)
	go func() {
		for _, p := range fill {
			if _, err := s.Publish(context.Background(), Message{Channel: "x", Payload: []byte(p)}); err != nil {
				filled <- err
				return
			}
		}
		filled <- nil
	}()
	waitFor(t, "the channel to be full", func() bool { return s.stats.pushedBack.Load() > 0 })
	wire.keeps = true
	for _, p := range []string{"one", "two", "three"} {
		a.send(text(p)) // a record each
	}
	if _, err := nc.Write(wire.kept); err != nil {
		t.Fatal(err)
	}
	wire.keeps = false
	waitFor(t, "its message to be pushed back", func() bool { return s.pushBacks() > 0 })
	release()
	var got []string
	for range len(fill) + 3 {
		_, p, err := b.next()
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
	if err := receive(t, "the publisher", filled); err != nil {
		t.Error(err)
	}
}
