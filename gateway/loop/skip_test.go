package loop

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/wire"
)

// skipping returns loops whose slow readers skip, with a log that is soon full.
func skipping(t testing.TB, cfg loopsConfig) *loops {
	t.Helper()
	cfg.SendBuffer, cfg.MaxMessage, cfg.ChannelBuffer, cfg.PingInterval, cfg.WriteTimeout = 4<<10, 16<<10, 64<<10, -1, -1
	cfg.Skips = true
	return startLoops(t, cfg)
}

// A follower reads a channel and counts what it got and what it was told to have
// missed.
type follower struct {
	*clienttest.Client
	stream         bool
	epoch          string
	last           uint64
	got, lost      uint64
	gaps, newWorld int
}

func (f *follower) step() {
	f.T.Helper()
	r := clienttest.Record{}
	if f.stream {
		for r.Offset == 0 && r.Gap == nil {
			for line := range strings.Lines(f.Event()) {
				switch name, value, _ := strings.Cut(strings.TrimSpace(line), ": "); name {
				case "id":
					epoch, offset, _ := strings.Cut(value, ":")
					r.Epoch = epoch
					r.Offset, _ = strconv.ParseUint(offset, 10, 64) // 0 is no offset of a publication
				case "event":
					gap := value == "gap"
					r.Gap = &gap
				}
			}
		}
	} else {
		r = f.Record("it follows")
	}
	if f.epoch != "" && r.Epoch != f.epoch {
		f.newWorld++
		f.last = 0
	}
	f.epoch = r.Epoch
	switch {
	case r.Gap != nil && *r.Gap:
		if r.Offset < f.last {
			f.T.Fatalf("a gap up to %d behind %d", r.Offset, f.last)
		}
		f.lost += r.Offset - f.last
		f.gaps++
	case r.Gap == nil && r.Offset == f.last+1:
		f.got++
	default:
		f.T.Fatalf("got %d behind %d", r.Offset, f.last)
	}
	f.last = r.Offset
}

func (f *follower) until(offset uint64) {
	f.T.Helper()
	for f.last < offset {
		f.step()
	}
}

// follow connects a follower whose socket is soon full.
func follow(t testing.TB, s *loops, target string) *follower {
	c := clienttest.ConnectWith(t, s, 4<<10)
	if strings.HasPrefix(target, "/sse") {
		c.Stream(target)
		return &follower{Client: c, stream: true}
	}
	c.Upgrade(target)
	return &follower{Client: c}
}

// flood publishes until a condition holds, and gives the number of publications.
func (s *loops) floodUntil(why string, holds func() bool) (n uint64) {
	s.t.Helper()
	for end := time.Now().Add(clienttest.Patience); !holds(); n++ {
		if s.publish("x", clienttest.Stars(2<<10)); time.Now().After(end) {
			s.t.Fatal("waited for " + why)
		}
	}
	return n
}

func TestSlowReaderSkipsToTheNewest(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/ws/x?format=json", "/sse/x", "/sse/x?format=json", "/ws/x?format=json&echo=off"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			s := skipping(t, loopsConfig{Loops: 2})
			slow, good := follow(t, s, target), clienttest.Dial(t, s, "/ws/x")
			go func() {
				for {
					if _, _, err := good.Next(); err != nil {
						return
					}
				}
			}()
			var n uint64
			for round := uint64(1); round <= 2; round++ {
				n += s.floodUntil("a skip", func() bool { return s.skips() == round })
				for range 7 { // while it is out
					s.publish("x", "missed")
					n++
				}
				at := slow.gaps
				for slow.gaps == at { // what was begun, and then the gap
					slow.step()
				}
				slow.until(n)
				for range 20 { // live again, and nothing is lost
					s.publish("x", "later")
					n++
					slow.step()
				}
				if slow.last != n || slow.gaps != at+1 {
					t.Fatalf("round %d: at offset %d of %d, %d gaps", round, slow.last, n, slow.gaps)
				}
			}
			s.quiet()
			clienttest.WaitFor(t, "all to be delivered", func() bool { return s.deliveries() == n+slow.got })
			if got := s.dropped(DroppedBySkip); got != slow.lost || slow.got+slow.lost != n {
				t.Errorf("%d publications, %d got, %d missed; %d are counted as dropped", n, slow.got, slow.lost, got)
			}
			s.wantConnections(2)
		})
	}
}

// It stays slow: it reads a little, comes back, and has to skip again.
func TestSlowReaderSkipsAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := skipping(t, loopsConfig{Loops: 1})
	slow := follow(t, s, "/ws/x?format=json")
	stay := follow(t, s, "/sse/x")
	var n uint64
	for round := uint64(1); round <= 3; round++ {
		n += s.floodUntil("skips", func() bool { return s.skips() >= 2*round })
		for at := slow.gaps; slow.gaps == at; {
			slow.step()
		}
		for at := stay.gaps; stay.gaps == at; {
			stay.step()
		}
	}
	slow.until(n)
	stay.until(n)
	s.quiet()
	if got := s.dropped(DroppedBySkip); got != slow.lost+stay.lost || slow.got+slow.lost != n || stay.got+stay.lost != n {
		t.Errorf("%d publications: %d+%d got, %d+%d missed; %d are counted as dropped", n, slow.got, stay.got, slow.lost, stay.lost, got)
	}
	if got := s.deliveries(); got != slow.got+stay.got {
		t.Errorf("%d deliveries are counted, want %d", got, slow.got+stay.got)
	}
}

func TestSkippedReaderMayVanish(t *testing.T) {
	t.Parallel()
	s := skipping(t, loopsConfig{Loops: 1})
	gone, good := follow(t, s, "/ws/x?format=json"), clienttest.Dial(t, s, "/ws/x")
	go func() {
		for {
			if _, _, err := good.Next(); err != nil {
				return
			}
		}
	}()
	n := s.floodUntil("a skip", func() bool { return s.skips() == 1 })
	clienttest.WaitFor(t, "what is delivered to be counted", func() bool { return s.deliveries()+s.dropped(DroppedBySkip) >= 2*n-3 })
	gone.Vanish()
	clienttest.WaitFor(t, "it to be gone", func() bool { return s.connections() == 1 })
	s.publish("x", "later")
	s.quiet()
	if d := s.dropped(DroppedBySkip); d == 0 || d > n {
		t.Errorf("%d of %d are counted as dropped", d, n)
	}
}

// Without a history its channel ends when the only subscriber steps out of it.
func TestOnlySubscriberOfAChannelWithoutHistorySkips(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/ws/x?format=json", "/sse/x"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			s := skipping(t, loopsConfig{Loops: 1, History: -1})
			slow := follow(t, s, target)
			n := s.floodUntil("a skip", func() bool { return s.skips() == 1 })
			for slow.gaps == 0 {
				slow.step()
			}
			s.publish("x", "later")
			slow.step()
			s.quiet()
			if slow.gaps != 1 || slow.got == 0 {
				t.Errorf("%d gaps, %d got", slow.gaps, slow.got)
			}
			if d := s.dropped(DroppedBySkip); d == 0 || d > n {
				t.Errorf("%d of %d publications are counted as dropped", int64(d), n)
			}
		})
	}
}

// Whoever reads the raw protocol could not be told of a gap.
func TestRawReaderIsClosedUnderSkipToo(t *testing.T) {
	t.Parallel()
	s := skipping(t, loopsConfig{Loops: 2})
	slow, noEcho := clienttest.DialSmall(t, s, "/ws/x"), clienttest.DialSmall(t, s, "/ws/x?echo=off")
	due := uint64(0)
	for s.closingFor(ReasonSlow) < 2 {
		due += uint64(s.publish("x", clienttest.Stars(2<<10)).Subscribers)
	}
	got := 0
	for _, c := range []*clienttest.Client{slow, noEcho} {
		all, code, err := c.Texts()
		if code != 1013 {
			t.Errorf("close code %d, %v; want 1013", code, err)
		}
		got += len(all)
		c.EndClose("it is told")
	}
	s.wantClosed(ReasonSlow, 2)
	if d := s.dropped(ReasonSlow); d+s.deliveries() != due || s.skips() != 0 || s.deliveries() != uint64(got) {
		t.Errorf("%d were due: %d deliveries, %d got, %d dropped, %d skips", due, s.deliveries(), got, d, s.skips())
	}
}

// What is not for a client is not missed by it.
func TestOwnMessagesAreNotCountedAsDropped(t *testing.T) {
	t.Parallel()
	s := skipping(t, loopsConfig{Loops: 1})
	slow := clienttest.DialSmall(t, s, "/ws/x?echo=off")
	others := uint64(0)
	for ; s.blocked() == 0; others++ {
		s.publish("x", clienttest.Stars(4<<10))
		s.quiet()
	}
	published := s.sum(func(st *Stats) uint64 { return st.Publications() })
	for range 5 {
		slow.Send(clienttest.Text("my own"))
	}
	clienttest.WaitFor(t, "them to be published", func() bool {
		return s.sum(func(st *Stats) uint64 { return st.Publications() }) == published+5
	})
	slow.Vanish()
	s.wantConnections(0)
	if d := s.dropped(ReasonReset) + s.dropped(ReasonClientGone); d+s.deliveries() != others { // as the kernel tells it
		t.Errorf("%d are counted as dropped and %d as delivered of %d", d, s.deliveries(), others)
	}
}

// A client that does not read publishes until its message waits for room, which there is
// only once it has skipped.
func TestSkippedClientPublishesWhatWaited(t *testing.T) {
	t.Parallel()
	s := skipping(t, loopsConfig{Loops: 1})
	slow, good := follow(t, s, "/ws/x?format=json"), clienttest.Dial(t, s, "/ws/x")
	lasts := make(chan string, 16)
	go func() {
		defer close(lasts)
		for {
			_, p, err := good.Next()
			if err != nil {
				return
			}
			if strings.HasPrefix(p, "last") {
				lasts <- p
			}
		}
	}()
	for round := uint64(1); round <= 2; round++ {
		s.floodUntil("it to be blocked", func() bool { return s.blocked() > 0 })
		for parked := false; !parked && s.skips() < round; {
			slow.Send(clienttest.Text(clienttest.Stars(2 << 10)))
			s.do(func(l *Loop) {
				for _, c := range l.conns {
					parked = parked || c.Parked()
				}
			})
		}
		last := "last " + strconv.FormatUint(round, 10)
		slow.Send(clienttest.Text(last))
		clienttest.WaitFor(t, "a skip", func() bool { return s.skips() >= round })
		for at := slow.gaps; slow.gaps == at; { // it reads
			slow.step()
		}
		if got := clienttest.Receive(t, "the last message", lasts); got != last {
			t.Fatalf("got %q, want %q", got, last)
		}
	}
	s.wantConnections(2)
}

// A skip is no recovery. Who ends before it is back has missed what came meanwhile: each
// publication is delivered or dropped, and in one of the counters.
func TestWhatASkippedReaderMissesIsCountedAtItsEnd(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/ws/x?format=json", "/sse/x"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			s := skipping(t, loopsConfig{Loops: 1})
			slow := follow(t, s, target)
			s.quiet()
			told := func() uint64 {
				return s.sum(func(st *Stats) uint64 { return st.Recoveries.Load() + st.Gaps.Load() })
			}
			before := told() // a stream begins like a recovery
			n := s.floodUntil("a skip", func() bool { return s.skips() == 1 })
			for slow.gaps == 0 {
				slow.step()
			}
			slow.until(n)
			s.quiet()
			if got := told() - before; got != 0 {
				t.Errorf("nobody asked for what was missed: %d recoveries and gaps are counted", got)
			}
			n += s.floodUntil("a skip", func() bool { return s.skips() == 2 })
			for range 100 {
				s.publish("x", "while it is out")
				n++
			}
			if _, err := s.publisher.Publish(t.Context(), 0, "x", channel.Publication{Payload: []byte("it has no offset"), Passing: true}); err != nil {
				t.Fatal(err)
			}
			n++
			s.quiet()
			slow.Vanish()
			s.wantConnections(0)
			delivered, dropped := s.deliveries(), uint64(0)
			for why := range ReasonCount {
				dropped += s.dropped(why)
			}
			if dropped += s.dropped(DroppedBySkip); delivered+dropped != n {
				t.Errorf("%d publications: %d deliveries, %d dropped", n, delivered, dropped)
			}
		})
	}
}

// While others publish, a subscriber skips and comes back again and again. Each publication is counted once.
func TestSkipCountsWhatIsPublishedMeanwhileOnce(t *testing.T) {
	l := loopBare(t, loopsConfig{Skips: true, PingInterval: -1})
	c, stays := loopConn(l), loopConn(l)
	loopJoin(t, stays, "x") // else the channel would end
	c.JoinFrom("x", wire.Record{}, channel.Ask{}, false, 0)
	c.Out.buf = nil // it has no socket
	ch := l.space.Find("x")
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		var scratch channel.Scratch
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := ch.Publish(&channel.Publication{Payload: []byte("m")}, &scratch, nil); err != nil && !errors.Is(err, channel.ErrFull) {
				done <- err
				return
			}
		}
	}()
	skip := func() {
		c.SkipAhead(c.sub.group)
		c.catchUp()
		c.Out.buf, l.catching = nil, nil
		l.inbox.take()
		for _, c := range l.conns {
			r := c.Ref(0)
			if c == stays {
				r.sub().cursor = r.group.Log().Head()
			}
			r.group.Clear()
			r.group.Served(r.sub().cursor)
		}
	}
	for range clienttest.Scaled(50_000, 5000) {
		skip()
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	skip()
	if got, want := l.stats.Dropped[DroppedBySkip].Load(), ch.Taken(); got != want || want == 0 {
		t.Errorf("of %d publications %d are counted as dropped", want, got)
	}
	for _, c := range []*Conn{c, stays} {
		l.leaveAll(c)
		c.dropOutput()
		l.remove(c)
	}
}
