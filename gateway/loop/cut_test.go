package loop

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"

	"github.com/gobwas/ws"
)

// cutModel is the dumb side of a connection whose writes the kernel cuts wherever it likes:
// what was published to its channels, and what the client has got.
type cutModel struct {
	*testing.T
	s         *loops
	client    *clienttest.Client
	conn      *Conn
	speaks    speech
	rnd       *rand.Rand
	published map[string][]string // by channel, as long as it is subscribed to
	got       map[string]int
	pings     int
	lastPong  int
	untold    string // the channel of which the client still has to be told that it is out
	lost      bool   // the client is closed when it comes to what its channel has missed
	ended     ws.StatusCode
}

// speech is a framing over a transport.
type speech struct {
	name     string
	secure   bool
	channels []string
	open     func(c *clienttest.Client, channels []string)
	next     func(m *cutModel) error // reads a frame or an event, and notes what is in it
}

func (s *speech) stream() bool { return s.name == "event stream" }

var speeches = []speech{
	{name: "raw", channels: []string{"x"}, open: openRaw, next: (*cutModel).nextFrame},
	{name: "raw over TLS", secure: true, channels: []string{"x"}, open: openRaw, next: (*cutModel).nextFrame},
	{name: "event stream", channels: []string{"x"}, open: openStream, next: (*cutModel).nextEvent},
	{name: "two channels", channels: []string{"a", "b"}, open: openRaw, next: (*cutModel).nextFrame},
	{name: "two channels over TLS", secure: true, channels: []string{"a", "b"}, open: openRaw, next: (*cutModel).nextFrame},
}

func openRaw(c *clienttest.Client, channels []string) {
	c.Upgrade("/ws/" + strings.Join(channels, ","))
}
func openStream(c *clienttest.Client, channels []string) { c.Stream("/sse/" + channels[0]); c.Event() }

// A socket that is full cuts frames anywhere. Whatever happens to the connection
// meanwhile, the client gets whole frames, each channel's in their order and without a
// hole, and behind them how it ends.
func TestCutFramesAreFinishedWhateverComesBetween(t *testing.T) {
	for _, speech := range speeches {
		t.Run(speech.name, func(t *testing.T) {
			s := serveLoops(t, loopsConfig{Loops: 1, SendBuffer: 4 << 10, MaxMessage: 128 << 10, ChannelBuffer: 8 << 20, MaxPending: 1 << 20, PingInterval: -1, WriteTimeout: -1}, speech.secure || *clienttest.OverTLS)
			t.Parallel()
			cuts := 0
			for seed := range uint64(clienttest.Scaled(25, 8)) {
				cuts += runCutModel(t, s, speech, seed)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
			if cuts == 0 {
				t.Error("no connection has left a channel within a frame: the test shows nothing")
			}
		})
	}
}

// runCutModel plays one connection, and counts how often a frame was cut when its
// channel was left.
func runCutModel(t *testing.T, s *loops, speech speech, seed uint64) (cuts int) {
	m := &cutModel{T: t, s: s, speaks: speech, rnd: rand.New(rand.NewPCG(seed, 1)), published: map[string][]string{}, got: map[string]int{}, lastPong: -1}
	m.client = clienttest.ConnectWith(t, s, 4<<10)
	speech.open(m.client, speech.channels)
	s.do(func(l *Loop) { m.conn = l.conns[len(l.conns)-1] })
	channels := slices.Clone(speech.channels)
	for range 30 {
		switch m.rnd.IntN(9) {
		case 0, 1, 2:
			for range 1 + m.rnd.IntN(8) {
				m.publish(channels[m.rnd.IntN(len(channels))])
			}
		case 3, 4:
			for range m.rnd.IntN(6) {
				m.read()
			}
		case 5:
			if !speech.stream() {
				m.client.Send(clienttest.Ping(fmt.Sprint(m.pings)))
				m.pings++
			}
		case 6:
			if len(channels) == 2 && m.rnd.IntN(4) == 0 {
				cuts += m.leave(channels[1])
				channels = channels[:1]
			}
		case 7: // whatever it is, it may not find the frame half sent
			s.do(func(*Loop) { m.conn.write(); m.conn.Settle() })
		case 8:
			m.miss(channels[m.rnd.IntN(len(channels))])
		}
	}
	cuts += m.end()
	return cuts
}

func (m *cutModel) publish(name string) {
	n := m.rnd.IntN(200)
	if m.rnd.IntN(3) == 0 {
		n = m.rnd.IntN(100 << 10)
	}
	text := fmt.Sprint(name, len(m.published[name]), clienttest.Noise(n))
	m.published[name] = append(m.published[name], text)
	m.s.publish(name, text)
}

// miss has a channel miss something. A client of one is told by an event, or closed; one of two is
// told by its protocol, and stays.
func (m *cutModel) miss(name string) {
	if m.rnd.IntN(4) > 0 || m.lost {
		return
	}
	ch := m.s.space.Find(name)
	ch.Append(&channel.Publication{Kind: channel.KindGap, Epoch: ch.Epoch()}, new(channel.Scratch))
	m.published[name] = append(m.published[name], name+missed)
	m.lost = len(m.speaks.channels) == 1 && !m.speaks.stream()
}

// missed is what a client is sent behind the name of a channel that has missed something.
const missed = " gap"

// read reads a frame, where one must be on its way.
func (m *cutModel) read() {
	due := 0
	for name, all := range m.published {
		due += len(all) - m.got[name]
	}
	if due > 0 && m.untold == "" && !m.lost {
		if err := m.speaks.next(m); err != nil {
			m.Fatalf("read: %v", err)
		}
	}
}

// leave takes the client out of a channel: the rest of a cut frame comes, and nothing
// behind it but that it is out.
func (m *cutModel) leave(name string) (cuts int) {
	m.s.do(func(*Loop) {
		c := m.conn
		if r := c.cut(); r != nil && r.Channel() == name {
			cuts++
		}
		for i := range c.Refs() {
			if c.Ref(i).Channel() == name {
				c.Drop(i, ReasonUnsubscribed)
				break
			}
		}
		c.Reply(ws.OpText, []byte(out+name))
		c.Flush()
		c.Settle()
	})
	for m.untold = name; m.untold != ""; {
		if err := m.speaks.next(m); err != nil {
			m.Fatalf("leaving: %v", err)
		}
	}
	delete(m.published, name)
	delete(m.got, name)
	return cuts
}

// out is what a client is sent that is out of a channel.
const out = "out of "

// end closes the connection, for a reason that cuts or one that does not, and reads
// everything.
func (m *cutModel) end() (cuts int) {
	why := []Reason{ReasonSlow, ReasonShutdown, ReasonNoPong, ReasonBudget, ReasonDisconnected}[m.rnd.IntN(5)]
	code := ws.StatusCode(0)
	m.s.do(func(*Loop) {
		if m.conn.cut() != nil {
			cuts++
		}
		code, _ = m.conn.protocol().CloseText(m.conn, why)
		m.conn.Close(why)
		m.conn.Settle()
	})
	for m.ended == 0 {
		if err := m.speaks.next(m); err != nil {
			m.Fatalf("closed for %v: %v", why, err)
		}
	}
	if m.ended != code && !(m.lost && m.ended == statusServiceRestart) {
		m.Fatalf("closed for %v with %d, want %d", why, m.ended, code)
	}
	for name, all := range m.published {
		n := m.got[name]
		if atFence := n < len(all) && all[n] == name+missed && !m.speaks.stream(); !reasons[why].cut && n != len(all) && !atFence {
			m.Fatalf("closed for %v: %d of %d messages of channel %s have come", why, n, len(all), name)
		}
	}
	m.client.EndClose("nothing follows")
	return cuts
}

// note takes a channel's message.
func (m *cutModel) note(name, text string) error {
	n := m.got[name]
	if all := m.published[name]; n >= len(all) || text != all[n] {
		return fmt.Errorf("%s comes where message %d of %d is due", clienttest.Brief(text), n, len(all))
	}
	m.got[name]++
	return nil
}

func (m *cutModel) nextFrame() error {
	op, p, err := m.client.Next()
	switch {
	case err != nil:
		return err
	case op == ws.OpClose && len(p) >= 2:
		m.ended = ws.StatusCode(p[0])<<8 | ws.StatusCode(p[1])
		return nil
	case op == ws.OpPong:
		var i int
		if _, err := fmt.Sscan(p, &i); err != nil || i <= m.lastPong || i >= m.pings {
			return fmt.Errorf("pong %s behind %d of %d", clienttest.Brief(p), m.lastPong, m.pings)
		}
		m.lastPong = i
		return nil
	case op != ws.OpText:
		return fmt.Errorf("a frame of opcode %#x with %s", op, clienttest.Brief(p))
	case m.untold != "" && p == out+m.untold:
		m.untold = ""
		return nil
	}
	return m.note(p[:1], p)
}

func (m *cutModel) nextEvent() error {
	var event, data string
	for line := range strings.Lines(m.client.Event()) {
		switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); name {
		case "data":
			data = value
		case "event":
			event = value
		}
	}
	if event == "gap" {
		return m.note("x", "x"+missed)
	}
	if event == "close" {
		var r struct{ Code ws.StatusCode }
		err := json.Unmarshal([]byte(data), &r)
		m.ended = r.Code
		return err
	}
	return m.note("x", data)
}

// A moment in which nobody reads closes nobody, however many they are: what their
// sockets do not take of a frame is in the log, not in a buffer for each.
func TestMomentWithoutReadingClosesNobody(t *testing.T) {
	t.Parallel()
	const clients, size = 60, 60 << 10 // half of a message each is more than there are buffers
	s := startLoops(t, loopsConfig{SendBuffer: 4 << 10, MaxBuffered: 2 << 20, MaxPending: 256 << 10, PingInterval: -1, WriteTimeout: -1})
	var all []*clienttest.Client
	for range clients {
		all = append(all, clienttest.DialSmall(t, s, "/ws/x"))
	}
	texts := clienttest.Numbered(3, size)
	for _, text := range texts {
		s.publish("x", text)
	}
	clienttest.WaitFor(t, "all to be blocked", func() bool { return s.blocked() == clients })
	if n := s.held(); n > 0 && !*clienttest.OverTLS { // with TLS a record each
		t.Errorf("%d bytes are held for them", n)
	}
	for i, c := range all {
		for _, text := range texts {
			c.WantText(fmt.Sprintf("client %d loses nothing", i), text)
		}
	}
}

// The rest of a cut frame is kept for those who leave as far as there is room. Without
// it nothing sensible can be sent any more: they are reset.
func TestThoseWhoLeaveWithinAFrameAreResetWithoutRoom(t *testing.T) {
	t.Parallel()
	const clients, size = 40, 60 << 10
	s := startLoops(t, loopsConfig{Loops: 1, SendBuffer: 4 << 10, MaxBuffered: 2 << 20, MaxPending: 256 << 10, PingInterval: -1, WriteTimeout: -1})
	var all []*clienttest.Client
	for range clients {
		all = append(all, clienttest.DialSmall(t, s, "/ws/x"))
	}
	healthy := clienttest.Dial(t, s, "/ws/x")
	s.publish("x", clienttest.Stars(size))
	clienttest.WaitFor(t, "all to be blocked", func() bool { return s.blocked() == clients })
	s.do(func(l *Loop) {
		for _, c := range slices.Clone(l.conns) {
			if c.cut() == nil {
				continue
			}
			if c.Close(ReasonSlow); l.held > l.heldMax/2+2+125 { // a Close frame has room beside that
				t.Errorf("%d bytes are held, more than half of %d", l.held, l.heldMax)
			}
			c.Settle()
		}
	})
	told := 0
	for _, c := range all {
		if texts, code, err := c.Texts(); err == nil && code == statusTryAgainLater && len(texts) == 1 && texts[0] == clienttest.Stars(size) {
			told++
			c.EndClose("it was told")
		} else if len(texts) > 0 {
			t.Errorf("%d texts, code %d, %v", len(texts), code, err)
		}
	}
	if told == 0 || told == clients {
		t.Errorf("%d of %d were told: want some, and the others reset", told, clients)
	}
	s.wantClosed(ReasonSlow, clients)
	healthy.WantText("who reads is not concerned", clienttest.Stars(size))
}
