package loop

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

func TestPublisherThatOutrunsTheGatewayIsPushedBack(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{SendBuffer: 4 << 20, MaxMessage: 1000, ChannelBuffer: 8 << 10})
	a, b := clienttest.Fast(t, s, "/ws/x?echo=off"), clienttest.Fast(t, s, "/ws/x")
	readers := []*clienttest.Client{b, clienttest.Fast(t, s, "/ws/x"), clienttest.Fast(t, s, "/ws/x")}
	texts := clienttest.Numbered(clienttest.Scaled(100_000, 20_000), 9)

	// First the other loop is away for longer than keep-alive allows.
	held := s.loopOf(b)
	release := s.hold(held)
	read := make(chan error, len(readers))
	for _, c := range readers {
		go func() { read <- c.ReadAll(texts) }()
	}
	sent := make(chan error, 1)
	go func() {
		var wire []byte
		for _, p := range texts {
			wire = append(wire, clienttest.Text(p)...)
		}
		a.Conn.SetWriteDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the write fails
		_, err := a.Conn.Write(wire)
		sent <- err
	}()
	clienttest.WaitFor(t, "the publisher to be parked", func() bool { return s.pushBacks() > 0 })
	minute := call(func(l *Loop) {
		for range 60 {
			loopAfter(l, time.Second)
			Tick{}.Deliver(l)
		}
	})
	s.all[held].Post(minute)
	for range 2 { // the publisher is not read meanwhile, and does not answer
		s.all[1-held].Post(minute)
		clienttest.WaitFor(t, "the readers on its loop to answer", func() (answered bool) {
			s.doOn(s.all[1-held], func(l *Loop) {
				answered = l.Idle()
				for _, c := range l.conns {
					answered = answered && !(c.reads() && c.has(bitPinged))
				}
			})
			return answered
		})
	}
	release()
	for range readers {
		if err := clienttest.Receive(t, "the readers to be through", read); err != nil {
			t.Error(err)
		}
	}
	if err := clienttest.Receive(t, "the publisher to be through", sent); err != nil {
		t.Errorf("the publisher: %v", err)
	}
	s.wantConnections(4)
	s.quiet() // a sweep counts at its end
	if n := s.deliveries(); n != uint64(3*len(texts)) {
		t.Errorf("%d deliveries are counted, want %d", n, 3*len(texts))
	}
	t.Logf("%d push-backs", s.pushBacks())
}

// Two channels with subscribers on both loops, and publishers that wait for the
// other loop: nobody waits for ever.
func TestPublishersThatCrossDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{SendBuffer: 4 << 20, MaxMessage: 1000, ChannelBuffer: 8 << 10})
	const clientsEach = 4
	n := clienttest.Scaled(5_000, 1_000)
	failed := make(chan error, 2*clientsEach*2+2)
	var all []*clienttest.Client
	for i := range 2 * clientsEach {
		all = append(all, clienttest.Fast(t, s, fmt.Sprint("/ws/", i/2%2)))
	}
	for i, c := range all {
		go func() { // everyone publishes
			var wire []byte
			for _, p := range clienttest.Numbered(n, 12) {
				wire = append(wire, clienttest.Text(fmt.Sprint(i)+p)...)
			}
			c.Conn.SetWriteDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the write fails
			_, err := c.Conn.Write(wire)
			failed <- err
		}()
		go func() { // and reads everyone's, each sender's in order
			want := make(map[byte]int)
			texts := clienttest.Numbered(n, 12)
			for range clientsEach * n {
				_, p, err := c.Next()
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
		if err := clienttest.Receive(t, "everyone to be through", failed); err != nil {
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
		s := startLoops(t, loopsConfig{SendBuffer: 4 << 20, MaxMessage: 1000, ChannelBuffer: 8 << 10})
		a, b := clienttest.Fast(t, s, "/ws/x?echo=off"), clienttest.Fast(t, s, "/ws/x?echo=off")
		held := s.loopOf(b)
		release := s.hold(held)
		texts := clienttest.Numbered(200, 500)
		for _, p := range texts {
			a.Send(clienttest.Text(p))
		}
		clienttest.WaitFor(t, "the publisher to be parked", func() bool { return s.pushBacks() > 0 })
		pushed := make(chan error, 1)
		go func() { // somebody else waits behind it
			_, err := s.tryPublish(clienttest.Patience, "x", "end")
			pushed <- err
		}()
		clienttest.WaitFor(t, "the API to wait", func() bool { return s.publisher.PushedBack.Load() > 0 })
		switch end {
		case "FIN":
			a.Fin()
		case "reset":
			a.Vanish()
			clienttest.WaitFor(t, "the reset to be seen", func() bool { return s.all[1-held].hasHungUp(t) })
		case "Close":
			a.Send(clienttest.Closing(1000, ""))
		}
		release()
		i, ended := 0, false
		for want := len(texts); i < want || !ended; {
			_, p, err := b.Next()
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
				t.Fatalf("%s: message %d is %s", end, i, clienttest.Brief(p))
			}
			i++
		}
		if err := clienttest.Receive(t, "the API to be through", pushed); err != nil {
			t.Errorf("%s: %v", end, err)
		}
		switch end {
		case "FIN":
			s.wantClosed(ReasonClientGone, 1)
			if got, _, err := a.Texts(); !errors.Is(err, io.EOF) || len(got) > 1 {
				t.Errorf("half closed, it got %q, %v; want the API's message at most, and the end", got, err)
			}
		case "reset":
			s.wantConnections(1)
			if i == 0 {
				t.Error("nothing of what it sent was published")
			}
		case "Close":
			if got, code, err := a.Texts(); code != 1000 || len(got) > 1 {
				t.Errorf("it got %q, close code %d, %v; want the API's message at most, and its own code", got, code, err)
			}
			a.EndClose("its Close came behind its messages")
		case "none":
			a.WantText("it stays", "end")
			a.Settle(s)
		}
	}
}

// hasHungUp tells whether some connection's peer has hung up while its message
// was parked.
func (l *Loop) hasHungUp(t *testing.T) (yes bool) {
	done := make(chan struct{})
	l.Post(call(func(l *Loop) {
		defer close(done)
		for _, c := range l.conns {
			yes = yes || c.has(bitMuted)
		}
	}))
	clienttest.Receive(t, "the loop to look", done)
	return yes
}
