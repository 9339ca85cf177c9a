package gateway

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"

	"github.com/gobwas/ws"
)

// fill publishes n messages of so many bytes.
func (s *server) fill(name string, n, size int) (last Receipt) {
	s.t.Helper()
	for range n {
		last = s.publish(name, strings.Repeat("x", size))
	}
	return last
}

// A client that is gone while it catches up has sent something before: it goes to
// its channel, and ends nothing but its own connection.
func TestClientThatGoesWhileItCatchesUp(t *testing.T) {
	t.Parallel()
	for why, early := range map[string]string{"sent later": "", "sent with its request": text("early")} {
		s := start(t, Config{Loops: 1})
		s.fill("x", 15, 60_000)
		live := dial(t, s, "/ws/x")
		c := connectWith(t, s, 4<<10)
		c.write(upgradeTo("/ws/x?history=100") + early)
		waitFor(t, "its socket to be full", func() bool { return s.blocked() == 1 })
		if early == "" {
			c.send(text("early"))
		}
		c.fin()
		s.quiet()
		c.vanish()
		live.wantText(why, "early")
		s.wantConnections(1)
	}
}

// Very many come back at once, and all read: nobody is cut for memory that others
// wait with.
func TestRecoveryStormCutsNobody(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1, MaxBuffered: 32 << 20, MaxHandshakes: 512})
	s.fill("x", 100, 8000)
	var clients sync.WaitGroup
	var served atomic.Int64
	total := scaled(600, 200)
	for range total {
		clients.Go(func() {
			c := dial(t, s, "/ws/x?history=100&format=json")
			for range 100 {
				if _, _, err := c.next(); err != nil {
					return
				}
			}
			served.Add(1)
		})
	}
	clients.Wait()
	if n := served.Load(); n != int64(total) || s.closedFor(reasonBudget) > 0 {
		t.Errorf("%d of %d got everything, %d were closed for the budget", n, total, s.closedFor(reasonBudget))
	}
}

// A channel that exists needs no other one's place, least of all its own.
func TestJoiningWhatExistsEndsNoChannel(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxChannels: 1})
	r := s.fill("x", 3, 10)
	c := dial(t, s, "/ws/x?format=json&since="+r.Epoch.String()+":1")
	c.wantData("it is kept", 2, strings.Repeat("x", 10))
}

// A log that a large frame went into alone gives its readers the time that its bytes
// need; any other the usual one.
func TestLargeFrameGivesItsReadersTime(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]time.Duration{
		strings.Repeat("x", DefaultMaxMessage):    pressGrace,
		strings.Repeat("\x1b", DefaultMaxMessage): 6 * pressGrace, // 393 KB as JSON, of a log of 256 KiB
	} {
		s := start(t, Config{Loops: 1})
		c := dial(t, s, "/ws/x?format=json")
		s.do(func(l *loop) {
			g := l.groups[groupKey{"x", jsonFormat{}}]
			g.low = g.Log().Head()
			if _, err := g.Log().Channel().Publish(&channel.Publication{Payload: []byte(payload)}, new(channel.Scratch), nil); err != nil {
				t.Error(err)
			}
			if got := g.grace(); got != want {
				t.Errorf("%q and so on: readers have %v, want %v", payload[:1], got, want)
			}
		})
		c.wantData("it is sent", 1, payload)
	}
}

// What could never go into the logs of all formats in use is refused at once.
func TestMessageThatNeverFitsIsToldSo(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1, MaxMessage: 127 << 10, ChannelBuffer: 256 << 10, MaxBuffered: 2 << 20})
	events := stream(t, s, "/sse/x")
	events.wantBegin("it is there", 0)
	c := dial(t, s, "/ws/x?echo=off")
	c.send(text(strings.Repeat("\n", 127<<10)))
	c.wantClose("seven times as much for the stream is more than all logs may have", 1009)
	s.publish("x", "the channel goes on")
	if got := events.event(); !strings.HasSuffix(got, "data: the channel goes on\n") {
		t.Errorf("got %q", got)
	}
}

// The time-out by TCP must not be there before the one that tells why.
func TestEventStreamIsToldThatItIsSlow(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1, PingInterval: time.Second, PongTimeout: time.Second, WriteTimeout: 4 * time.Second})
	s.fill("x", 15, 60_000)
	c := connectWith(t, s, 4<<10)
	c.stream("/sse/x?history=100")
	told := func() bool { return s.closing(reasonWriteTimeout) == 1 || s.closedFor(reasonWriteTimeout) == 1 }
	waitFor(t, "it to be closed", func() bool { return s.connections.Load() == 0 || told() })
	if !told() {
		t.Error("TCP cut it off before the write time-out")
	}
}

// Where a subscription begins is decided together with what it gets: whatever is
// published meanwhile, whoever asks for now or for the newest misses nothing of it.
func TestNewcomersAreNotToldOfGaps(t *testing.T) {
	t.Parallel()
	off, one := start(t, Config{History: -1, Loops: 1}), start(t, Config{History: 1, Loops: 1})
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	for _, s := range []*server{off, one} {
		publishing.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				default:
					s.publish("x", strconv.Itoa(i))
				}
			}
		})
	}
	for range scaled(400, 100) {
		c := dial(t, off, "/ws/x?format=json&since=now")
		r := c.record("where it begins")
		if r.Gap == nil || *r.Gap {
			t.Fatalf("a newcomer is told %+v", r)
		}
		for i := range uint64(3) {
			if next := c.record("one after the other"); next.Gap != nil || next.Offset != r.Offset+1+i {
				t.Fatalf("got %+v behind %d", next, r.Offset+i)
			}
		}
		c.vanish()

		raw := dial(t, one, "/ws/x?history=1")
		last := 0
		for range 3 {
			op, p, err := raw.next()
			n, _ := strconv.Atoi(p)
			if err != nil || op != ws.OpText || last != 0 && n != last+1 {
				t.Fatalf("after %d: opcode %#x, %q, %v", last, op, p, err)
			}
			last = n
		}
		raw.vanish()
	}
	close(stop)
	publishing.Wait()
}
