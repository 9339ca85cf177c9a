package loop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/wire"
	"sluice/poller"

	"github.com/gobwas/ws"
)

// manyRig is clients with more and fewer subscriptions than an index is for. Each publication is a channel's name and its
// number, so that what a client gets can be compared with what it is due.
type manyRig struct {
	*testing.T
	l         *Loop
	random    *rand.Rand
	conns     []*manyConn
	published map[string]int
}

type manyConn struct {
	*Conn
	fd   int
	in   []byte
	next map[string]int // the number of the channel's next publication for it, while it is subscribed
	got  int
}

// newManyRig is called on the loop.
func newManyRig(t *testing.T, l *Loop, seed uint64) *manyRig {
	m := &manyRig{T: t, l: l, random: rand.New(rand.NewPCG(seed, 1)), published: make(map[string]int)}
	for i := range 4 {
		pair := loopSockets(t, []int{0, 4 << 10}[i%2])
		m.conns = append(m.conns, &manyConn{Conn: loopWatched(t, l, pair[0]), fd: pair[1], next: make(map[string]int)})
	}
	return m
}

// read reads what a client was sent, and checks that it comes in order and that nothing is missing.
func (m *manyRig) read(c *manyConn) {
	part := make([]byte, 64<<10)
	for {
		n, _ := poller.Read(c.fd, part) // its error shows in what is missing
		if n <= 0 {
			break
		}
		c.in = append(c.in, part[:n]...)
	}
	for len(c.in) >= 2 {
		head, n := 2, int(c.in[1])
		if n == 126 && len(c.in) >= 4 {
			head, n = 4, int(binary.BigEndian.Uint16(c.in[2:]))
		}
		if len(c.in) < head+n {
			return
		}
		text := string(bytes.TrimRight(c.in[head:head+n], "."))
		c.in = c.in[head+n:]
		if text == "reply" {
			continue
		}
		name, number, _ := strings.Cut(text, " ")
		want, subscribed := c.next[name]
		if subscribed && number != fmt.Sprint(want) {
			m.Errorf("connection %d got %q, want number %d", c.id, text, want)
		}
		if subscribed { // else it was on its way when the client left
			c.next[name]++
			c.got++
		}
	}
}

// step does one random thing.
func (m *manyRig) step() {
	c := m.conns[m.random.IntN(len(m.conns))]
	name := fmt.Sprint("c", m.random.IntN(120))
	switch m.random.IntN(12) {
	case 0, 1, 2:
		if c.Find(name) == nil {
			loopJoin(m, c.Conn, name)
			c.next[name] = m.published[name]
		}
	case 3:
		if n := c.Refs(); n > 0 && m.random.IntN(3) == 0 {
			i := m.random.IntN(n)
			left := c.Ref(i).Channel()
			m.read(c) // what it has got by now has come in order
			delete(c.next, left)
			c.Drop(i, ReasonUnsubscribed)
		}
	case 4, 5, 6, 7:
		if m.l.space.Find(name) == nil {
			return
		}
		text := fmt.Sprint(name, " ", m.published[name], strings.Repeat(".", m.random.IntN(200)))
		if err := loopPublish(m.l, name, text, 0); err != nil {
			m.Error(err)
		}
		m.published[name]++
	case 8:
		loopDeliver(m.l)
		m.l.sweep()
	case 9:
		c.step(func(c *Conn) {
			c.Reply(ws.OpText, []byte("reply"))
			c.Flush()
			c.Settle()
		})
	case 10:
		m.read(c)
		if c.has(bitBlocked) {
			c.Ready(poller.Writable)
		}
	case 11:
		if m.random.IntN(50) == 0 {
			for range 60 { // many at once, in one turn
				if name := fmt.Sprint("c", m.random.IntN(120)); c.Find(name) == nil {
					loopJoin(m, c.Conn, name)
					c.next[name] = m.published[name]
				}
			}
		}
	}
	for _, c := range m.conns {
		if c.Phase != phaseOpen {
			m.Errorf("connection %d ends: %v", c.id, c.reason)
		}
		if err := c.check(); err != nil {
			m.Error(err)
		}
	}
}

// What is published reaches clients with many subscriptions too, in order, whatever was looked at to write it.
func TestManySubscriptionsGetEverything(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1, WriteTimeout: -1, ChannelBuffer: 1 << 20, MaxBuffered: 1 << 30})
	for seed := range uint64(20) {
		s.do(func(l *Loop) { newManyRig(t, l, seed).run(seed) })
		if t.Failed() {
			return
		}
	}
}

func (m *manyRig) run(seed uint64) {
	for range 3000 {
		if m.step(); m.Failed() {
			m.Errorf("seed %d", seed)
			break
		}
	}
	for quiet := 0; quiet < 3; quiet++ {
		loopDeliver(m.l)
		m.l.sweep()
		for _, c := range m.conns {
			before := c.got
			if m.read(c); c.has(bitBlocked) {
				c.Ready(poller.Writable)
			}
			if c.got != before {
				quiet = 0
			}
		}
	}
	most := 0
	for _, c := range m.conns {
		for name, next := range c.next {
			if next != m.published[name] {
				m.Errorf("seed %d: connection %d has %d publications of %s, of %d", seed, c.id, next, name, m.published[name])
			}
		}
		most = max(most, c.Refs())
	}
	if err := m.l.check(); err != nil || most <= manyRefs {
		m.Errorf("seed %d: at most %d subscriptions, %v", seed, most, err)
	}
	for _, c := range m.conns {
		c.kill(ReasonReset)
	}
	m.l.bury()
	if len(m.l.indexes) > 0 {
		m.Errorf("%d indexes are left", len(m.l.indexes))
	}
}

// BenchmarkManySubscriptions is a client with so many subscriptions: a publication to one of them, and a reply.
func BenchmarkManySubscriptions(b *testing.B) {
	for _, n := range []int{1, 2, 32, 128, 1024} {
		for _, what := range []string{"publication", "reply", "find"} {
			b.Run(fmt.Sprintf("subscriptions=%d/%s", n, what), func(b *testing.B) { benchmarkMany(b, n, what) })
		}
	}
}

func benchmarkMany(b *testing.B, n int, what string) {
	l := loopBare(b, loopsConfig{PingInterval: -1, MaxChannels: 2048, MaxBuffered: 1 << 30})
	pair := loopSockets(b, 0)
	c := loopWatched(b, l, pair[0])
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint("channel:", i))
	}
	loopJoin(b, c, names...)
	p, part := &channel.Publication{Payload: bytes.Repeat([]byte("x"), 64)}, make([]byte, 64<<10)
	format := wire.Raw{}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		switch name := names[i%n]; what {
		case "publication":
			g := loopGroupIn(l, name, format)
			if _, err := g.Log().Channel().Publish(p, &l.encode, nil); err != nil {
				b.Fatal(err)
			}
			l.inbox.take()
			g.again()
			l.sweep()
		case "reply":
			c.Reply(ws.OpText, p.Payload)
			c.Flush()
		case "find":
			if c.Find(name) == nil {
				b.Fatal(name)
			}
		}
		if i++; i%50 == 0 && what != "find" {
			for m := 1; m > 0; {
				m, _ = poller.Read(pair[1], part) // its error shows in the deliveries
			}
		}
	}
	if got := l.stats.Deliveries.Load(); what == "publication" && got != uint64(i) {
		b.Errorf("%d deliveries of %d publications", got, i)
	}
	c.kill(ReasonReset)
	l.bury()
}
