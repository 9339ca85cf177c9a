package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"

	"github.com/gobwas/ws"
)

// Many publishers wait for a log that takes three messages. Each of them is tried about
// once more, its command decoded once, and all get in.
func TestWaitingPublishersAreTriedOnce(t *testing.T) {
	t.Parallel()
	const publishers, size = 100, 16 << 10
	s := startLoops(t, loopsConfig{Loops: 2, MaxMessage: 20 << 10, ChannelBuffer: 64 << 10, PingInterval: -1})
	s.clock.Slow() // the reader may come late to its reading
	h := clienttest.HoldFull(t, s.space, "x", size)
	for i := range publishers {
		payload := fmt.Sprintf("%03d", i) + clienttest.Stars(size)
		c := clienttest.Dial(t, s, "/ws/x?echo=off")
		go io.Copy(io.Discard, c.Conn) // ignored: until the end of the test
		c.Send(clienttest.Text(payload))
	}
	clienttest.WaitFor(t, "all to wait", func() bool { return s.publishersWaiting("x") == publishers })
	before, held := s.pushBacks(), s.held()
	most := int64(publishers * (size + 4<<10))
	if *clienttest.OverTLS {
		most += publishers * recordBytes // crypto/tls keeps a record that has begun
	}
	if held > most {
		t.Errorf("%d bytes are held for what waits, want %d at most", held, most)
	}
	reader := clienttest.Dial(t, s, "/ws/x?echo=off")
	stop := h.Serve()
	var got []string
	for len(got) < publishers {
		op, p, err := reader.Next()
		if err != nil || op != ws.OpText {
			t.Fatalf("got opcode %#x with %s, %v", op, clienttest.Brief(p), err)
		}
		if p[0] != '*' {
			got = append(got, p[:3])
		}
	}
	if n := s.pushBacks() - before; n > publishers/2 {
		t.Errorf("%d publishers were refused %d more times, want hardly any", publishers, n)
	}
	if slices.Sort(got); len(slices.Compact(got)) != publishers {
		t.Errorf("the reader has not got every message once")
	}
	stop()
	s.space.Leave(&h.Reader)
}

// A message that may encode to more than a loop encodes itself does not keep its loop: it
// waits for an encoder, as many times as it has to.
func TestLargeMessagesAreNotEncodedOnALoop(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	s := startLoops(t, loopsConfig{Loops: 1, MaxMessage: 2 << 20, ChannelBuffer: 8 << 20, MaxPending: 8 << 20})
	reader := clienttest.Dial(t, s, "/ws/x")
	s.set.encoders.mu.Lock()
	s.set.encoders.running = 1 << 20 // none is free
	s.set.encoders.mu.Unlock()
	payload := clienttest.Stars(size)
	clienttest.Dial(t, s, "/ws/x?echo=off").Send(clienttest.Text(payload), clienttest.Text("behind"))
	gone := clienttest.Dial(t, s, "/ws/x?echo=off") // one that does not wait for it
	gone.Send(clienttest.Text(clienttest.Stars(size)))
	queued := func() int {
		s.set.encoders.mu.Lock()
		defer s.set.encoders.mu.Unlock()
		return len(s.set.encoders.queue)
	}
	clienttest.WaitFor(t, "both to wait for an encoder", func() bool { return queued() == 2 })
	gone.Vanish()
	echo := clienttest.Dial(t, s, "/echo")
	echo.Send(clienttest.Text("there"))
	echo.WantText("the loop goes on", "there")
	go s.set.encoders.work(s.set.encoders.next())
	reader.WantText("it was encoded", payload)
	for want, i := "behind", 0; ; i++ { // what the other had sent may have come
		_, p, err := reader.Next()
		if err != nil || i > 1 {
			t.Fatalf("%v; got %s", err, clienttest.Brief(p))
		}
		if p == want {
			break
		}
	}
}

// An encoder finds the log full, and tries again when the channel calls.
func TestLargeMessagesWaitForRoom(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 2, MaxMessage: 1 << 20, ChannelBuffer: 4 << 20, MaxPending: 4 << 20})
	h := clienttest.HoldFull(t, s.space, "x", 1<<20)
	const publishers = 8
	for i := range publishers {
		c := clienttest.Dial(t, s, "/ws/x?echo=off")
		go io.Copy(io.Discard, c.Conn) // ignored: until the end of the test
		c.Send(clienttest.Text(strings.Repeat(fmt.Sprint(i), 1<<20)))
	}
	gone := clienttest.Dial(t, s, "/ws/x?echo=off&format=json")
	gone.Send(clienttest.Text(clienttest.Stars(1 << 20)))
	clienttest.WaitFor(t, "all to wait", func() bool { return s.publishersWaiting("x") == publishers+1 })
	gone.Fin()
	gone.Vanish()
	reader := clienttest.Dial(t, s, "/ws/x?echo=off")
	stop := h.Serve()
	seen := make(map[byte]int)
	for len(seen) < publishers {
		_, p, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		if p[0] != '*' {
			seen[p[0]]++
		}
	}
	for i, n := range seen {
		if n != 1 {
			t.Errorf("the message of %c came %d times", i, n)
		}
	}
	clienttest.WaitFor(t, "nobody to wait", func() bool { return s.publishersWaiting("x") == 0 })
	stop()
	s.space.Leave(&h.Reader)
	if n := s.space.Encoding(); n != 0 {
		t.Errorf("%d bytes are counted as being encoded", n)
	}
}

// Clients that are gone leave thousands of messages behind, for which a channel's rate would
// take hours: their places are free after a while, and others' messages have their turn.
func TestMessagesOfTheGoneAreDropped(t *testing.T) {
	t.Parallel()
	for _, gone := range []string{"reset", "closed"} {
		s := startLoops(t, loopsConfig{ChannelRate: 10, PingInterval: 25 * time.Second})
		var all []*clienttest.Client
		for i := range 5 {
			name := "x"
			if gone == "closed" { // nobody writes to it
				name = fmt.Sprint("x", i)
			}
			c := clienttest.Dial(t, s, "/ws/"+name+"?echo=off")
			go io.Copy(io.Discard, c.Conn) // ignored: until it is gone
			c.Send(strings.Repeat(clienttest.Text("m"), 9000))
			all = append(all, c)
		}
		clienttest.WaitFor(t, "all to wait", func() bool {
			n := s.publishersWaiting("x")
			for i := range all {
				n += s.publishersWaiting(fmt.Sprint("x", i))
			}
			return n == len(all)
		})
		for _, c := range all {
			if gone == "reset" {
				c.Vanish()
			} else {
				c.Conn.Close() // ignored: it is gone
			}
		}
		clienttest.WaitFor(t, "their places to be free", func() bool {
			s.pass(5)
			return s.connections() == 0
		})
		if n := s.closedFor(reasonAbandoned); n != 5 {
			t.Errorf("%s: %d are counted as abandoned, want 5", gone, n)
		}
		if n := s.publishersWaiting("x"); n != 0 {
			t.Errorf("%s: %d publishers still wait", gone, n)
		}
	}
}

// Publishers that wait for a channel's rate take turns: one with little to say is not kept
// waiting by those with much.
func TestPublishersShareARateInTurn(t *testing.T) {
	t.Parallel()
	const talkers, own = 5, 6
	s := startLoops(t, loopsConfig{ChannelRate: 60, PingInterval: -1})
	s.pass(0) // the clock stands: nothing is published but what the rate allows at once
	reader := clienttest.Dial(t, s, "/ws/x?echo=off")
	for range talkers {
		c := clienttest.Dial(t, s, "/ws/x?echo=off")
		go io.Copy(io.Discard, c.Conn) // ignored: until the end of the test
		c.Send(strings.Repeat(clienttest.Text("much"), 4000))
	}
	clienttest.WaitFor(t, "all to wait", func() bool { return s.publishersWaiting("x") == talkers })
	c := clienttest.Dial(t, s, "/ws/x?echo=off")
	c.Send(strings.Repeat(clienttest.Text("little"), own))
	clienttest.WaitFor(t, "it to wait", func() bool { return s.publishersWaiting("x") == talkers+1 })
	read := make(chan int, 1)
	go func() {
		others, mine := 0, 0
		for first := true; mine < own; {
			_, p, err := reader.Next()
			if err != nil {
				t.Error(err)
				break
			}
			switch {
			case p == "little":
				mine, first = mine+1, false
			case !first:
				others++
			}
		}
		read <- others
	}()
	clienttest.WaitFor(t, "all of it", func() bool {
		s.quiet() // whoever was called has tried
		s.clock.Advance(20 * time.Millisecond)
		s.space.Trim(s.clock.Now().UnixMilli())
		return len(read) > 0
	})
	others := <-read
	if most := own*talkers + 2*calledAtOnce; others > most {
		t.Errorf("between %d messages of it came %d of others, want %d at most", own, others, most)
	}
}

// calledAtOnce is about how many publications may pass a publisher that waits.
const calledAtOnce = 32

// A publisher that has lost patience has no place among those that wait any more.
func TestPublisherThatLosesPatienceLeavesItsPlace(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, MaxMessage: 1 << 10, ChannelBuffer: 8 << 10})
	h := clienttest.HoldFull(t, s.space, "x", 1<<10)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := s.publisher.Publish(ctx, 0, "x", channel.Publication{Payload: []byte(clienttest.Stars(1 << 10))})
		done <- err
	}()
	clienttest.WaitFor(t, "it to wait", func() bool { return s.publishersWaiting("x") == 1 })
	cancel()
	if err := clienttest.Receive(t, "the end of its patience", done); !errors.Is(err, engine.PushedBack) {
		t.Errorf("%v, want engine.PushedBack", err)
	}
	if n := s.publishersWaiting("x"); n != 0 {
		t.Errorf("%d wait", n)
	}
	s.space.Leave(&h.Reader)
}

// What could never go into the logs of all formats in use is refused at once.
func TestMessageThatNeverFitsIsToldSo(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, MaxMessage: 127 << 10, ChannelBuffer: 256 << 10, MaxBuffered: 2 << 20})
	events := clienttest.Stream(t, s, "/sse/x")
	events.WantBegin("it is there", 0)
	c := clienttest.Dial(t, s, "/ws/x?echo=off")
	c.Send(clienttest.Text(strings.Repeat("\n", 127<<10)))
	c.WantClose("seven times as much for the stream is more than all logs may have", 1009)
	s.publish("x", "the channel goes on")
	if got := events.Event(); !strings.HasSuffix(got, "data: the channel goes on\n") {
		t.Errorf("got %q", got)
	}
}
