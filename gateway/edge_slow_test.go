package gateway

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestSlowPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "x", true}, {"", "", true}, {"", "x", false}, {"x", "x", true}, {"x", "xy", false}, {"x", "", false},
		{"a*", "a", true}, {"a*", "abc", true}, {"a*", "ba", false}, {"*a", "ba", true}, {"*a", "ab", false}, {"*a", "aa", true},
		{"a*c", "abbbc", true}, {"a*c", "ac", true}, {"a*c", "acb", false}, {"a*b*c", "axxbyyc", true}, {"a*b*c", "acb", false},
		{"**", "x", true}, {"*ab*", "aab", true}, {"*aab", "aaab", true}, {"a*a", "a", false}, {"频*", "频道", true}, {"?", "x", false}, {"[x]", "x", false},
		{strings.Repeat("*a", 30), strings.Repeat("a", 255), true}, {strings.Repeat("a*", 100) + "b", strings.Repeat("a", 255), false},
	} {
		if got := matches(c.pattern, c.name); got != c.want {
			t.Errorf("%q fits %q: %v", c.pattern, c.name, got)
		}
	}
	cfg := Config{SlowPolicy: []SlowRule{{"a*", false}, {"*", true}, {"b", false}}}
	if cfg.skips("ab", jsonFormat{}) || !cfg.skips("b", jsonFormat{}) || !cfg.skips("b", streamFormat{}) || cfg.skips("b", rawFormat{}) {
		t.Error("the first rule whose pattern fits is not the one that holds")
	}
}

// skipping is a server whose slow readers skip, with a log that is soon full.
func skipping(t testing.TB, cfg Config) *server {
	t.Helper()
	cfg.SendBuffer, cfg.MaxMessage, cfg.ChannelBuffer, cfg.PingInterval, cfg.WriteTimeout = 4<<10, 16<<10, 64<<10, -1, -1
	cfg.SlowPolicy = []SlowRule{{"*", true}}
	return start(t, cfg)
}

// A follower reads a channel and counts what it got and what it was told to have
// missed.
type follower struct {
	*client
	stream         bool
	epoch          string
	last           uint64
	got, lost      uint64
	gaps, newWorld int
}

func (f *follower) step() {
	f.t.Helper()
	r := record{}
	if f.stream {
		for r.Offset == 0 && r.Gap == nil {
			for line := range strings.Lines(f.event()) {
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
		r = f.record("it follows")
	}
	if f.epoch != "" && r.Epoch != f.epoch {
		f.newWorld++
		f.last = 0
	}
	f.epoch = r.Epoch
	switch {
	case r.Gap != nil && *r.Gap:
		if r.Offset < f.last {
			f.t.Fatalf("a gap up to %d behind %d", r.Offset, f.last)
		}
		f.lost += r.Offset - f.last
		f.gaps++
	case r.Gap == nil && r.Offset == f.last+1:
		f.got++
	default:
		f.t.Fatalf("got %d behind %d", r.Offset, f.last)
	}
	f.last = r.Offset
}

func (f *follower) until(offset uint64) {
	f.t.Helper()
	for f.last < offset {
		f.step()
	}
}

// follow connects a follower whose socket is soon full.
func follow(t testing.TB, s *server, target string) *follower {
	c := connectWith(t, s, 4<<10)
	if strings.HasPrefix(target, "/sse") {
		c.stream(target)
		return &follower{client: c, stream: true}
	}
	c.upgrade(target)
	return &follower{client: c}
}

func (s *server) skips() uint64 { return s.sum(func(st *loopStats) uint64 { return st.skips.Load() }) }

func (s *server) dropped(why reason) uint64 {
	return s.sum(func(st *loopStats) uint64 { return st.dropped[why].Load() })
}

// flood publishes until a condition holds, and gives the number of publications.
func (s *server) floodUntil(why string, holds func() bool) (n uint64) {
	s.t.Helper()
	for end := time.Now().Add(patience); !holds(); n++ {
		if s.publish("x", stars(2<<10)); time.Now().After(end) {
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
			s := skipping(t, Config{Loops: 2})
			slow, good := follow(t, s, target), dial(t, s, "/ws/x")
			go func() {
				for {
					if _, _, err := good.next(); err != nil {
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
			waitFor(t, "all to be delivered", func() bool { return s.deliveries() == n+slow.got })
			if got := s.dropped(droppedBySkip); got != slow.lost || slow.got+slow.lost != n {
				t.Errorf("%d publications, %d got, %d missed; %d are counted as dropped", n, slow.got, slow.lost, got)
			}
			s.wantConnections(2)
		})
	}
}

// It stays slow: it reads a little, comes back, and has to skip again.
func TestSlowReaderSkipsAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := skipping(t, Config{Loops: 1})
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
	if got := s.dropped(droppedBySkip); got != slow.lost+stay.lost || slow.got+slow.lost != n || stay.got+stay.lost != n {
		t.Errorf("%d publications: %d+%d got, %d+%d missed; %d are counted as dropped", n, slow.got, stay.got, slow.lost, stay.lost, got)
	}
	if got := s.deliveries(); got != slow.got+stay.got {
		t.Errorf("%d deliveries are counted, want %d", got, slow.got+stay.got)
	}
}

func TestSkippedReaderMayVanish(t *testing.T) {
	t.Parallel()
	s := skipping(t, Config{Loops: 1})
	gone, good := follow(t, s, "/ws/x?format=json"), dial(t, s, "/ws/x")
	go func() {
		for {
			if _, _, err := good.next(); err != nil {
				return
			}
		}
	}()
	n := s.floodUntil("a skip", func() bool { return s.skips() == 1 })
	waitFor(t, "what is delivered to be counted", func() bool { return s.deliveries()+s.dropped(droppedBySkip) >= 2*n-3 })
	gone.vanish()
	waitFor(t, "it to be gone", func() bool { return s.connections.Load() == 1 })
	s.publish("x", "later")
	s.quiet()
	if d := s.dropped(droppedBySkip); d == 0 || d > n {
		t.Errorf("%d of %d are counted as dropped", d, n)
	}
}

// Without a history its channel ends when the only subscriber steps out of it.
func TestOnlySubscriberOfAChannelWithoutHistorySkips(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/ws/x?format=json", "/sse/x"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			s := skipping(t, Config{Loops: 1, History: -1})
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
			if d := s.dropped(droppedBySkip); d == 0 || d > n {
				t.Errorf("%d of %d publications are counted as dropped", int64(d), n)
			}
		})
	}
}

// Whoever reads the raw protocol could not be told of a gap.
func TestRawReaderIsClosedUnderSkipToo(t *testing.T) {
	t.Parallel()
	s := skipping(t, Config{Loops: 2})
	slow, noEcho := dialSmall(t, s, "/ws/x"), dialSmall(t, s, "/ws/x?echo=off")
	due := uint64(0)
	for s.closing(reasonSlow) < 2 {
		due += uint64(s.publish("x", stars(2<<10)).Subscribers)
	}
	got := 0
	for _, c := range []*client{slow, noEcho} {
		all, code, err := c.texts()
		if code != 1013 {
			t.Errorf("close code %d, %v; want 1013", code, err)
		}
		got += len(all)
		c.endClose("it is told")
	}
	s.wantClosed(reasonSlow, 2)
	if d := s.dropped(reasonSlow); d+s.deliveries() != due || s.skips() != 0 || s.deliveries() != uint64(got) {
		t.Errorf("%d were due: %d deliveries, %d got, %d dropped, %d skips", due, s.deliveries(), got, d, s.skips())
	}
}

// What is not for a client is not missed by it.
func TestOwnMessagesAreNotCountedAsDropped(t *testing.T) {
	t.Parallel()
	s := skipping(t, Config{Loops: 1})
	slow := dialSmall(t, s, "/ws/x?echo=off")
	others := uint64(0)
	for ; s.blocked() == 0; others++ {
		s.publish("x", stars(4<<10))
		s.quiet()
	}
	published := s.sum(func(st *loopStats) uint64 { return st.publications.Load() })
	for range 5 {
		slow.send(text("my own"))
	}
	waitFor(t, "them to be published", func() bool {
		return s.sum(func(st *loopStats) uint64 { return st.publications.Load() }) == published+5
	})
	slow.vanish()
	s.wantConnections(0)
	if d := s.dropped(reasonReset) + s.dropped(reasonClientGone); d+s.deliveries() != others { // as the kernel tells it
		t.Errorf("%d are counted as dropped and %d as delivered of %d", d, s.deliveries(), others)
	}
}

// A client that does not read publishes until its message waits for room, which there is
// only once it has skipped.
func TestSkippedClientPublishesWhatWaited(t *testing.T) {
	t.Parallel()
	s := skipping(t, Config{Loops: 1})
	slow, good := follow(t, s, "/ws/x?format=json"), dial(t, s, "/ws/x")
	lasts := make(chan string, 16)
	go func() {
		defer close(lasts)
		for {
			_, p, err := good.next()
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
			slow.send(text(stars(2 << 10)))
			s.do(func(l *loop) {
				for _, c := range l.conns {
					parked = parked || c.has(bitParked)
				}
			})
		}
		last := "last " + strconv.FormatUint(round, 10)
		slow.send(text(last))
		waitFor(t, "a skip", func() bool { return s.skips() >= round })
		for at := slow.gaps; slow.gaps == at; { // it reads
			slow.step()
		}
		if got := receive(t, "the last message", lasts); got != last {
			t.Fatalf("got %q, want %q", got, last)
		}
	}
	s.wantConnections(2)
}
