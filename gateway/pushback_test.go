package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// fast makes a subscriber whose socket takes much before it refuses.
func fast(t *testing.T, s *server, target string) *client {
	c := connectWith(t, s, 4<<20)
	c.upgrade(target)
	return c
}

func TestPublisherThatOutrunsTheGatewayIsPushedBack(t *testing.T) {
	t.Parallel()
	s := start(t, Config{SendBuffer: 4 << 20, MaxMessage: 1000, ChannelBuffer: 8 << 10, PingInterval: time.Second, PongTimeout: time.Second})
	a, b := fast(t, s, "/ws/x?echo=off"), fast(t, s, "/ws/x")
	readers := []*client{b, fast(t, s, "/ws/x"), fast(t, s, "/ws/x")}
	texts := numbered(scaled(100_000, 20_000), 9)

	// First the other loop is away for longer than keep-alive allows.
	release := s.hold(b.loopOf(s))
	read := make(chan error, len(readers))
	for _, c := range readers {
		go func() { read <- c.readAll(texts) }()
	}
	sent := make(chan error, 1)
	go func() {
		var wire []byte
		for _, p := range texts {
			wire = append(wire, text(p)...)
		}
		a.conn.SetWriteDeadline(time.Now().Add(patience)) // ignored: then the write fails
		_, err := a.conn.Write(wire)
		sent <- err
	}()
	waitFor(t, "the publisher to be parked", func() bool { return s.pushBacks() > 0 })
	away := time.Now()
	waitFor(t, "keep-alive to be over", func() bool { return time.Since(away) > 4*time.Second })
	release()
	for range readers {
		if err := receive(t, "the readers to be through", read); err != nil {
			t.Error(err)
		}
	}
	if err := receive(t, "the publisher to be through", sent); err != nil {
		t.Errorf("the publisher: %v", err)
	}
	s.wantConnections(4)
	if n := s.deliveries(); n != uint64(3*len(texts)) {
		t.Errorf("%d deliveries are counted, want %d", n, 3*len(texts))
	}
	t.Logf("%d push-backs", s.pushBacks())
}

// readAll reads texts and answers pings.
func (c *client) readAll(texts []string) error {
	for i := 0; i < len(texts); {
		op, p, err := c.next()
		switch {
		case err != nil:
			return fmt.Errorf("message %d: %w", i, err)
		case op == ws.OpPing:
			io.WriteString(c.conn, pong("")) // ignored: then the next read fails
		case p != texts[i]:
			return fmt.Errorf("message %d is %q, want %q", i, brief(p), brief(texts[i]))
		default:
			i++
		}
	}
	return nil
}

// Two channels with subscribers on both loops, and publishers that wait for the
// other loop: nobody waits for ever.
func TestPublishersThatCrossDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	s := start(t, Config{SendBuffer: 4 << 20, MaxMessage: 1000, ChannelBuffer: 8 << 10})
	const clientsEach = 4
	n := scaled(5_000, 1_000)
	failed := make(chan error, 2*clientsEach*2+2)
	var all []*client
	for i := range 2 * clientsEach {
		all = append(all, fast(t, s, fmt.Sprint("/ws/", i/2%2)))
	}
	for i, c := range all {
		go func() { // everyone publishes
			var wire []byte
			for _, p := range numbered(n, 12) {
				wire = append(wire, text(fmt.Sprint(i)+p)...)
			}
			c.conn.SetWriteDeadline(time.Now().Add(patience)) // ignored: then the write fails
			_, err := c.conn.Write(wire)
			failed <- err
		}()
		go func() { // and reads everyone's, each sender's in order
			want := make(map[byte]int)
			texts := numbered(n, 12)
			for range clientsEach * n {
				_, p, err := c.next()
				if err != nil {
					failed <- fmt.Errorf("client %d: %w", i, err)
					return
				}
				if p[1:] != texts[want[p[0]]] {
					failed <- fmt.Errorf("client %d: %q, want number %d of that sender", i, p, want[p[0]])
					return
				}
				want[p[0]]++
			}
			failed <- nil
		}()
	}
	for range 2 * len(all) {
		if err := receive(t, "everyone to be through", failed); err != nil {
			t.Fatal(err)
		}
	}
	if s.pushBacks() == 0 {
		t.Error("nobody was pushed back: the test shows nothing")
	}
}

func TestParkedPublisherMayVanish(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"FIN", "reset", "Close", "none"} {
		s := start(t, Config{SendBuffer: 4 << 20, MaxMessage: 1000, ChannelBuffer: 8 << 10})
		a, b := fast(t, s, "/ws/x?echo=off"), fast(t, s, "/ws/x?echo=off")
		held := b.loopOf(s)
		release := s.hold(held)
		texts := numbered(200, 500)
		for _, p := range texts {
			a.send(text(p))
		}
		waitFor(t, "the publisher to be parked", func() bool { return s.pushBacks() > 0 })
		pushed := make(chan error, 1)
		go func() { // somebody else waits behind it
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, err := s.Publish(ctx, Message{Channel: "x", Payload: []byte("end")})
			pushed <- err
		}()
		waitFor(t, "the API to wait", func() bool { return s.stats.pushedBack.Load() > 0 })
		switch end {
		case "FIN":
			a.fin()
		case "reset":
			a.vanish()
			waitFor(t, "the reset to be seen", func() bool { return s.loop[1-held].hasHungUp(t) })
		case "Close":
			a.send(closing(1000, ""))
		}
		release()
		i, ended := 0, false
		for want := len(texts); i < want || !ended; {
			_, p, err := b.next()
			if err != nil {
				t.Fatalf("%s: after %d messages: %v", end, i, err)
			}
			if p == "end" {
				if ended = true; end == "reset" {
					want = 0 // what the gateway had not read yet is gone
				}
				continue
			}
			if p != texts[i] {
				t.Fatalf("%s: message %d is %s", end, i, brief(p))
			}
			i++
		}
		if err := receive(t, "the API to be through", pushed); err != nil {
			t.Errorf("%s: %v", end, err)
		}
		switch end {
		case "FIN":
			s.wantClosed(reasonClientGone, 1)
			if got, _, err := a.texts(); !errors.Is(err, io.EOF) || len(got) > 1 {
				t.Errorf("half closed, it got %q, %v; want the API's message at most, and the end", got, err)
			}
		case "reset":
			s.wantConnections(1)
			if i == 0 {
				t.Error("nothing of what it sent was published")
			}
		case "Close":
			if got, code, err := a.texts(); code != 1000 || len(got) > 1 {
				t.Errorf("it got %q, close code %d, %v; want the API's message at most, and its own code", got, code, err)
			}
			a.endClose("its Close came behind its messages")
		case "none":
			a.wantText("it stays", "end")
			a.settle(s)
		}
	}
}

// hasHungUp tells whether some connection's peer has hung up while its message
// was parked.
func (l *loop) hasHungUp(t *testing.T) (yes bool) {
	done := make(chan struct{})
	l.post(call(func(l *loop) {
		defer close(done)
		for _, c := range l.conns {
			yes = yes || c.has(bitMuted)
		}
	}))
	receive(t, "the loop to look", done)
	return yes
}
