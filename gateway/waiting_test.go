package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/channel"
)

// stuck is a wire format that encodes when it is let, and a subscriber that reads it.
type stuck struct {
	channel.Reader
	entered, release chan struct{}
}

func (f *stuck) Append(dst []byte, p *channel.Publication) []byte {
	f.entered <- struct{}{}
	<-f.release
	return append(dst, p.Payload...)
}

func (f *stuck) Notify() {}

// joinStuck makes a stuck reader of a channel.
func joinStuck(t *testing.T, s *server, name string) *stuck {
	t.Helper()
	f := &stuck{entered: make(chan struct{}), release: make(chan struct{})}
	if err := s.space.Join(name, f, f, &f.Reader); err != nil {
		t.Fatal(err)
	}
	return f
}

// A publication that takes long to encode keeps nobody waiting but publishers of its
// channel: clients join it, leave it and recover from it, and loops whose clients publish
// into it go on. Who publishes over HTTP waits for longer than for room, and gets in.
func TestNobodyWaitsForAnEncoding(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	reader := dial(t, s, "/ws/x")
	f := joinStuck(t, s, "x")
	at, receipts := s.internal("").URL, make(chan string, 2)
	publish := func(text string) {
		r, err := http.Post(at+"/publish/x", "text/plain", strings.NewReader(text))
		if err != nil {
			receipts <- err.Error()
			return
		}
		defer r.Body.Close()
		io.Copy(io.Discard, r.Body) // ignored: only the status is looked at
		receipts <- r.Status
	}
	go publish("first")
	receive(t, "the encoding to begin", f.entered)
	go publish("second")
	waitFor(t, "the second to wait", func() bool { return s.publishersWaiting("x") == 1 })
	writer := dial(t, s, "/ws/x?echo=off")
	writer.send(text("third"))
	waitFor(t, "the third to wait", func() bool { return s.publishersWaiting("x") == 2 })
	second := dial(t, s, "/ws/x?format=json&since=now")
	second.wantPlace("it begins before all of them", false, 0)
	second.vanish()
	echo := dial(t, s, "/echo")
	echo.send(text("there"))
	echo.wantText("its loop does not stand still", "there")
	if n := s.pushBacks() + s.stats.pushedBack.Load(); n != 0 {
		t.Errorf("%d push-backs are counted: the log is not full", n)
	}
	begun := time.Now()
	waitFor(t, "HTTP to have waited for longer than for room", func() bool { return time.Since(begun) > 2*publishWait })
	go func() {
		for range 2 {
			f.release <- struct{}{}
			<-f.entered
		}
		f.release <- struct{}{}
	}()
	for range 2 {
		if got := receive(t, "the publications", receipts); got != "200 OK" {
			t.Errorf("HTTP: %s", got)
		}
	}
	reader.wantText("it had the turn", "first")
	var others []string // both were called
	for range 2 {
		_, p, err := reader.next()
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, p)
	}
	if slices.Sort(others); !slices.Equal(others, []string{"second", "third"}) {
		t.Errorf("behind it came %q", others)
	}
	s.space.Leave(&f.Reader)
}

// publishersWaiting counts the publishers that a channel refused and that have not tried again.
func (s *server) publishersWaiting(name string) int {
	if ch := s.space.Find(name); ch != nil {
		return ch.Waiting()
	}
	return 0
}

// Joins that find somebody else publishing come when that is over, in their order.
func TestJoinsWaitForTheTurn(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, `{"without_namespace":{"allow_subscribe_for_client":true,"join_leave":true,"force_push_join_leave":true}}`)
	cfg.Loops = 1
	s := start(t, cfg)
	reader := member(t, s, tokens(t, auth.Claims{User: "reader"}))
	reader.joins("x")
	reader.told("its own join")
	f := joinStuck(t, s, "x")
	done := make(chan error, 1)
	go func() {
		_, err := s.Publish(context.Background(), Message{Channel: "x", Payload: []byte(`"first"`)})
		done <- err
	}()
	receive(t, "the encoding to begin", f.entered)
	other := member(t, s, tokens(t, auth.Claims{User: "other"}))
	for range 3 {
		other.joins("x")
		other.does(`{"id":3,"unsubscribe":{"channel":"x"}}`)
		for !strings.Contains(other.told("unsubscribe"), `"unsubscribe"`) {
		}
	}
	close(f.release)
	go func() {
		for range f.entered {
		}
	}()
	if err := receive(t, "the publication", done); err != nil {
		t.Error(err)
	}
	want := []string{"pub", "join", "leave", "join", "leave", "join", "leave"}
	for _, what := range want {
		if got := reader.told(what); !strings.Contains(got, `"`+what+`":`) {
			t.Fatalf("got %s, want a %s", got, what)
		}
	}
	s.space.Leave(&f.Reader)
	close(f.entered)
}

// logHolder reads a channel's log of raw clients, and lets go of it only when it is told.
type logHolder struct {
	channel.Reader
	rawFormat
	notified chan struct{}
}

func (h *logHolder) Notify() {
	select {
	case h.notified <- struct{}{}:
	default:
	}
}

// holdFull makes a log full, with messages of so many bytes.
func (s *server) holdFull(name string, size int) *logHolder {
	s.t.Helper()
	h := &logHolder{notified: make(chan struct{}, 1)}
	if err := s.space.Join(name, rawFormat{}, h, &h.Reader); err != nil {
		s.t.Fatal(err)
	}
	for n := 0; ; n++ {
		p := channel.Publication{Payload: []byte(stars(size))}
		if _, err := h.Log().Channel().Publish(&p, new(channel.Scratch), nil); errors.Is(err, channel.ErrFull) && n > 0 {
			return h
		} else if err != nil && !errors.Is(err, channel.ErrFull) {
			s.t.Fatal(err)
		}
	}
}

// serve lets go of everything until stop is closed.
func (h *logHolder) serve(stop <-chan struct{}) {
	for {
		h.Clear()
		h.Served(h.Log().Head())
		select {
		case <-h.notified:
		case <-stop:
			return
		}
	}
}

// Many publishers wait for a log that takes three messages. Each of them is tried about
// once more, its command decoded once, and all get in.
func TestWaitingPublishersAreTriedOnce(t *testing.T) {
	t.Parallel()
	const publishers, size = 100, 16 << 10
	for _, protocol := range []string{"raw", "centrifugo"} {
		s := start(t, Config{Loops: 2, MaxMessage: 20 << 10, ChannelBuffer: 64 << 10})
		h := s.holdFull("x", size)
		for i := range publishers {
			payload := fmt.Sprintf("%03d", i) + stars(size)
			if protocol == "raw" {
				c := dial(t, s, "/ws/x?echo=off")
				go io.Copy(io.Discard, c.conn) // ignored: until the end of the test
				c.send(text(payload))
				continue
			}
			c := member(t, s, "")
			c.does(fmt.Sprintf(`{"id":7,"publish":{"channel":"x","data":%q}}`, payload))
		}
		waitFor(t, "all to wait", func() bool { return s.publishersWaiting("x") == publishers })
		before, held := s.pushBacks(), s.held()
		most := int64(publishers * (size + 4<<10))
		if *overTLS {
			most += publishers * recordBytes // crypto/tls keeps a record that has begun
		}
		if held > most {
			t.Errorf("%s: %d bytes are held for what waits, want %d at most", protocol, held, most)
		}
		reader := dial(t, s, "/ws/x?echo=off")
		stop := make(chan struct{})
		go h.serve(stop)
		var got []string
		for len(got) < publishers {
			_, p, err := reader.next()
			if err != nil {
				t.Fatal(err)
			}
			if p = strings.TrimPrefix(p, `"`); p[0] != '*' {
				got = append(got, p[:3])
			}
		}
		if n := s.pushBacks() - before; n > publishers/2 {
			t.Errorf("%s: %d publishers were refused %d more times, want hardly any", protocol, publishers, n)
		}
		if slices.Sort(got); len(slices.Compact(got)) != publishers {
			t.Errorf("%s: the reader has not got every message once", protocol)
		}
		close(stop)
		s.space.Leave(&h.Reader)
	}
}

// A message that may encode to more than a loop encodes itself does not keep its loop: it
// waits for an encoder, as many times as it has to.
func TestLargeMessagesAreNotEncodedOnALoop(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for _, protocol := range []string{"raw", "centrifugo"} {
		s := start(t, Config{Loops: 1, MaxMessage: 2 << 20, ChannelBuffer: 8 << 20, MaxPending: 8 << 20})
		reader := dial(t, s, "/ws/x")
		s.encoders.mu.Lock()
		s.encoders.running = 1 << 20 // none is free
		s.encoders.mu.Unlock()
		payload := stars(size)
		var c *client
		if protocol == "raw" {
			c = dial(t, s, "/ws/x?echo=off")
			c.send(text(payload), text("behind"))
		} else {
			c = member(t, s, "")
			c.does(fmt.Sprintf(`{"id":7,"publish":{"channel":"x","data":%q}}`, payload), `{"id":8,"publish":{"channel":"x","data":"behind"}}`)
			payload = `"` + payload + `"`
		}
		gone := dial(t, s, "/ws/x?echo=off") // one that does not wait for it
		gone.send(text(stars(size)))
		queued := func() int {
			s.encoders.mu.Lock()
			defer s.encoders.mu.Unlock()
			return len(s.encoders.queue)
		}
		waitFor(t, "both to wait for an encoder", func() bool { return queued() == 2 })
		gone.vanish()
		echo := dial(t, s, "/echo")
		echo.send(text("there"))
		echo.wantText("the loop goes on", "there")
		go s.encoders.work(s.encoders.next())
		reader.wantText("it was encoded", payload)
		for want, i := "behind", 0; ; i++ { // what the other had sent may have come
			_, p, err := reader.next()
			if err != nil || i > 1 {
				t.Fatalf("%s: %v; got %s", protocol, err, brief(p))
			}
			if strings.Trim(p, `"`) == want {
				break
			}
		}
		if protocol == "centrifugo" {
			c.wantTold("the large one", `{"id":7,"publish":{}}`)
			c.wantTold("the one behind it", `{"id":8,"publish":{}}`)
		}
	}
}

// An encoder finds the log full, and tries again when the channel calls.
func TestLargeMessagesWaitForRoom(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 2, MaxMessage: 1 << 20, ChannelBuffer: 4 << 20, MaxPending: 4 << 20})
	h := s.holdFull("x", 1<<20)
	const publishers = 8
	for i := range publishers {
		c := dial(t, s, "/ws/x?echo=off")
		go io.Copy(io.Discard, c.conn) // ignored: until the end of the test
		c.send(text(strings.Repeat(fmt.Sprint(i), 1<<20)))
	}
	gone := dial(t, s, "/ws/x?echo=off&format=json")
	gone.send(text(stars(1 << 20)))
	waitFor(t, "all to wait", func() bool { return s.publishersWaiting("x") == publishers+1 })
	gone.fin()
	gone.vanish()
	stop := make(chan struct{})
	reader := dial(t, s, "/ws/x?echo=off")
	go h.serve(stop)
	seen := make(map[byte]int)
	for len(seen) < publishers {
		_, p, err := reader.next()
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
	waitFor(t, "nobody to wait", func() bool { return s.publishersWaiting("x") == 0 })
	close(stop)
	s.space.Leave(&h.Reader)
	if n := s.space.Encoding(); n != 0 {
		t.Errorf("%d bytes are counted as being encoded", n)
	}
}

// A client has sent thousands of tiny messages, of which each waits for others' in a full
// channel: what lies behind it stays where it is.
func TestWhatWaitsIsNotCopiedAgain(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1, MaxMessage: 1 << 10, ChannelBuffer: 8 << 10})
	h := s.holdFull("x", 1<<10)
	all := make([]*client, 3)
	for i := range all {
		all[i] = dial(t, s, "/ws/x?echo=off")
		go io.Copy(io.Discard, all[i].conn) // ignored: until the end of the test
		all[i].send(strings.Repeat(text("tiny"), 2000))
	}
	waitFor(t, "all to wait", func() bool { return s.publishersWaiting("x") == len(all) })
	var c *conn
	s.do(func(l *loop) {
		for _, other := range l.conns {
			if other.in != nil && other.in.pending != nil {
				c = other
			}
		}
		was := &c.in.buf[len(c.in.buf)-1]
		for range 3 { // as if it was refused again, at ever later messages
			rest := c.in.buf[len(c.in.buf)/4:]
			c.in.resumed = c.in.buf
			c.in.buf = nil
			c.putOff(c.in.op, rest[:4], rest[4:])
			if now := &c.in.buf[len(c.in.buf)-1]; now != was && cap(c.in.resumed) < 2*len(rest) {
				t.Errorf("%d bytes of %d were copied", len(rest), len(c.in.resumed))
			}
			was = &c.in.buf[len(c.in.buf)-1]
		}
		c.close(reasonInternal)
	})
	stop := make(chan struct{})
	go h.serve(stop)
	waitFor(t, "the others' messages to be taken", func() bool { return s.received() >= uint64((len(all)-1)*2000) })
	waitFor(t, "nobody to wait", func() bool { return s.publishersWaiting("x") == 0 })
	close(stop)
	s.space.Leave(&h.Reader)
}

// Clients that are gone leave thousands of messages behind, for which a channel's rate would
// take hours: their places are free after a while, and others' messages have their turn.
func TestMessagesOfTheGoneAreDropped(t *testing.T) {
	t.Parallel()
	for _, gone := range []string{"reset", "closed"} {
		s := start(t, Config{ChannelRate: 10, MaxPerAddress: 6, PingInterval: 25 * time.Second})
		var all []*client
		for i := range 5 {
			name := "x"
			if gone == "closed" { // nobody writes to it
				name = fmt.Sprint("x", i)
			}
			c := dial(t, s, "/ws/"+name+"?echo=off")
			go io.Copy(io.Discard, c.conn) // ignored: until it is gone
			c.send(strings.Repeat(text("m"), 9000))
			all = append(all, c)
		}
		waitFor(t, "all to wait", func() bool {
			n := s.publishersWaiting("x")
			for i := range all {
				n += s.publishersWaiting(fmt.Sprint("x", i))
			}
			return n == len(all)
		})
		for _, c := range all {
			if gone == "reset" {
				c.vanish()
			} else {
				c.conn.Close() // ignored: it is gone
			}
		}
		waitFor(t, "their places to be free", func() bool {
			s.pass(5)
			return s.connections.Load() == 0
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
	s := start(t, Config{ChannelRate: 60, PingInterval: -1})
	reader := dial(t, s, "/ws/x?echo=off")
	for range talkers {
		c := dial(t, s, "/ws/x?echo=off")
		go io.Copy(io.Discard, c.conn) // ignored: until the end of the test
		c.send(strings.Repeat(text("much"), 4000))
	}
	waitFor(t, "all to wait", func() bool { return s.publishersWaiting("x") == talkers })
	c := dial(t, s, "/ws/x?echo=off")
	c.send(strings.Repeat(text("little"), own))
	waitFor(t, "it to wait", func() bool { return s.publishersWaiting("x") == talkers+1 })
	others, mine := 0, 0
	for first := true; mine < own; {
		_, p, err := reader.next()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case p == "little":
			mine, first = mine+1, false
		case !first:
			others++
		}
	}
	if most := own*talkers + 2*calledAtOnce; others > most {
		t.Errorf("between %d messages of it came %d of others, want %d at most", own, others, most)
	}
}

// calledAtOnce is about how many publications may pass a publisher that waits.
const calledAtOnce = 32

// A publisher that has lost patience has no place among those that wait any more.
func TestPublisherThatLosesPatienceLeavesItsPlace(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1, MaxMessage: 1 << 10, ChannelBuffer: 8 << 10})
	h := s.holdFull("x", 1<<10)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := s.Publish(ctx, Message{Channel: "x", Payload: []byte(stars(1 << 10))})
		done <- err
	}()
	waitFor(t, "it to wait", func() bool { return s.publishersWaiting("x") == 1 })
	cancel()
	if err := receive(t, "the end of its patience", done); !errors.Is(err, ErrPushedBack) {
		t.Errorf("%v, want ErrPushedBack", err)
	}
	if n := s.publishersWaiting("x"); n != 0 {
		t.Errorf("%d wait", n)
	}
	s.space.Leave(&h.Reader)
}
