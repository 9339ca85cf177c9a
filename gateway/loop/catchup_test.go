package loop

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"

	"github.com/gobwas/ws"
)

// fill publishes n messages of so many bytes.
func (s *loops) fill(name string, n, size int) (last channel.Receipt) {
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
	for why, early := range map[string]string{"sent later": "", "sent with its request": clienttest.Text("early")} {
		s := startLoops(t, loopsConfig{Loops: 1})
		s.fill("x", 15, 60_000)
		live := clienttest.Dial(t, s, "/ws/x")
		c := clienttest.ConnectWith(t, s, 4<<10)
		c.Write(clienttest.UpgradeTo("/ws/x?history=100") + early)
		clienttest.WaitFor(t, "its socket to be full", func() bool { return s.blocked() == 1 })
		if early == "" {
			c.Send(clienttest.Text("early"))
		}
		c.Fin()
		s.quiet()
		c.Vanish()
		live.WantText(why, "early")
		s.wantConnections(1)
	}
}

// Very many come back at once, and all read: nobody is cut for memory that others
// wait with.
func TestRecoveryStormCutsNobody(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, MaxBuffered: 32 << 20})
	s.fill("x", 100, 8000)
	var clients sync.WaitGroup
	var served atomic.Int64
	total := clienttest.Scaled(200, 50) // together several times what the loop may hold
	for range total {
		clients.Go(func() {
			c := clienttest.Dial(t, s, "/ws/x?history=100&format=json")
			for range 100 {
				if _, _, err := c.Next(); err != nil {
					return
				}
			}
			served.Add(1)
		})
	}
	clients.Wait()
	if n := served.Load(); n != int64(total) || s.closedFor(ReasonBudget) > 0 {
		t.Errorf("%d of %d got everything, %d were closed for the budget", n, total, s.closedFor(ReasonBudget))
	}
}

// A channel that exists needs no other one's position, least of all its own.
func TestJoiningWhatExistsEndsNoChannel(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{MaxChannels: 1})
	r := s.fill("x", 3, 10)
	c := clienttest.Dial(t, s, "/ws/x?format=json&since="+r.Epoch.String()+":1")
	c.WantData("it is kept", 2, strings.Repeat("x", 10))
}

// Where a subscription begins is decided together with what it gets: whatever is
// published meanwhile, whoever asks for now or for the newest misses nothing of it.
func TestNewcomersAreNotToldOfGaps(t *testing.T) {
	t.Parallel()
	off, one := startLoops(t, loopsConfig{History: -1, Loops: 1}), startLoops(t, loopsConfig{History: 1, Loops: 1})
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	for _, s := range []*loops{off, one} {
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
	for range clienttest.Scaled(40, 20) {
		c := clienttest.Dial(t, off, "/ws/x?format=json&since=now")
		r := c.Record("where it begins")
		if r.Gap == nil || *r.Gap {
			t.Fatalf("a newcomer is told %+v", r)
		}
		for i := range uint64(3) {
			if next := c.Record("one after the other"); next.Gap != nil || next.Offset != r.Offset+1+i {
				t.Fatalf("got %+v behind %d", next, r.Offset+i)
			}
		}
		c.Vanish()

		raw := clienttest.Dial(t, one, "/ws/x?history=1")
		last := 0
		for range 3 {
			op, p, err := raw.Next()
			n, _ := strconv.Atoi(p)
			if err != nil || op != ws.OpText || last != 0 && n != last+1 {
				t.Fatalf("after %d: opcode %#x, %q, %v", last, op, p, err)
			}
			last = n
		}
		raw.Vanish()
	}
	close(stop)
	publishing.Wait()
}
