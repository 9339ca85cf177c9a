package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/centrifugo"

	"github.com/gobwas/ws"
)

// cutModel is the dumb side of a connection whose writes the kernel cuts wherever it likes:
// what was published to its channels, and what the client has got.
type cutModel struct {
	*testing.T
	s         *server
	client    *client
	conn      *conn
	speaks    speech
	rnd       *rand.Rand
	published map[string][]string // by channel, as long as it is subscribed to
	got       map[string]int
	pings     int
	lastPong  int
	untold    string // the channel of which the client still has to be told that it is out
	ended     ws.StatusCode
}

// speech is a protocol over a transport.
type speech struct {
	name     string
	secure   bool
	channels []string
	open     func(c *client, channels []string)
	next     func(m *cutModel) error // reads a frame or an event, and notes what is in it
}

var speeches = []speech{
	{name: "raw", channels: []string{"x"}, open: openRaw, next: (*cutModel).nextFrame},
	{name: "raw over TLS", secure: true, channels: []string{"x"}, open: openRaw, next: (*cutModel).nextFrame},
	{name: "event stream", channels: []string{"x"}, open: openStream, next: (*cutModel).nextEvent},
	{name: "two channels", channels: []string{"a", "b"}, open: openSession, next: (*cutModel).nextFrame},
	{name: "two channels over TLS", secure: true, channels: []string{"a", "b"}, open: openSession, next: (*cutModel).nextFrame},
}

func openRaw(c *client, channels []string)    { c.upgrade("/ws/" + channels[0]) }
func openStream(c *client, channels []string) { c.stream("/sse/" + channels[0]); c.event() }
func openSession(c *client, channels []string) {
	c.upgrade(pathClient)
	c.connects("")
	for _, name := range channels {
		c.joins(name)
	}
}

// A socket that is full cuts frames anywhere. Whatever happens to the connection
// meanwhile, the client gets whole frames, each channel's in their order and without a
// hole, and behind them how it ends.
func TestCutFramesAreFinishedWhateverComesBetween(t *testing.T) {
	for _, speech := range speeches {
		t.Run(speech.name, func(t *testing.T) {
			begin := start
			if speech.secure {
				begin = startTLS
			}
			s := begin(t, Config{Loops: 1, SendBuffer: 4 << 10, MaxMessage: 128 << 10, ChannelBuffer: 8 << 20, MaxPending: 1 << 20, PingInterval: -1, WriteTimeout: -1})
			t.Parallel() // not before: startTLS changes what all servers would do
			cuts := 0
			for seed := range uint64(scaled(25, 8)) {
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
func runCutModel(t *testing.T, s *server, speech speech, seed uint64) (cuts int) {
	m := &cutModel{T: t, s: s, speaks: speech, rnd: rand.New(rand.NewPCG(seed, 1)), published: map[string][]string{}, got: map[string]int{}, lastPong: -1}
	m.client = connectWith(t, s, 4<<10)
	speech.open(m.client, speech.channels)
	s.do(func(l *loop) { m.conn = l.conns[len(l.conns)-1] })
	channels := slices.Clone(speech.channels)
	for range 30 {
		switch m.rnd.IntN(8) {
		case 0, 1, 2:
			for range 1 + m.rnd.IntN(8) {
				m.publish(channels[m.rnd.IntN(len(channels))])
			}
		case 3, 4:
			for range m.rnd.IntN(6) {
				m.read()
			}
		case 5:
			if speech.name != "event stream" {
				m.client.send(ping(fmt.Sprint(m.pings)))
				m.pings++
			}
		case 6:
			if len(channels) == 2 && m.rnd.IntN(4) == 0 {
				cuts += m.leave(channels[1], m.rnd.IntN(2) == 0)
				channels = channels[:1]
			}
		case 7: // whatever it is, it may not find the frame half sent
			s.do(func(*loop) { m.conn.write(); m.conn.settle() })
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
	text := fmt.Sprint(name, len(m.published[name]), strings.Repeat("*", n))
	m.published[name] = append(m.published[name], text)
	m.s.publish(name, text)
}

// read reads a frame, where one must be on its way.
func (m *cutModel) read() {
	due := 0
	for name, all := range m.published {
		due += len(all) - m.got[name]
	}
	if due > 0 && m.untold == "" {
		if err := m.speaks.next(m); err != nil {
			m.Fatalf("read: %v", err)
		}
	}
}

// leave takes the client out of a channel: the rest of a cut frame comes, and nothing
// behind it.
func (m *cutModel) leave(name string, byAPI bool) (cuts int) {
	m.s.do(func(*loop) {
		if r := m.conn.cut(); r != nil && r.group.key.channel == name {
			cuts++
		}
		if byAPI {
			m.conn.unsubscribe(name, centrifugo.UnsubscribeServer)
			m.conn.flush()
			m.conn.settle()
		}
	})
	if !byAPI {
		m.client.does(fmt.Sprintf(`{"id":9,"unsubscribe":{"channel":%q}}`, name))
	}
	for m.untold = name; m.untold != ""; {
		if err := m.speaks.next(m); err != nil {
			m.Fatalf("leaving: %v", err)
		}
	}
	delete(m.published, name)
	delete(m.got, name)
	return cuts
}

// end closes the connection, for a reason that cuts or one that does not, and reads
// everything.
func (m *cutModel) end() (cuts int) {
	why := []reason{reasonSlow, reasonShutdown, reasonNoPong, reasonBudget, reasonDisconnected}[m.rnd.IntN(5)]
	code := ws.StatusCode(0)
	m.s.do(func(*loop) {
		if m.conn.cut() != nil {
			cuts++
		}
		code, _ = m.conn.protocol().closeText(m.conn, why)
		m.conn.close(why)
		m.conn.settle()
	})
	for m.ended == 0 {
		if err := m.speaks.next(m); err != nil {
			m.Fatalf("closed for %v: %v", why, err)
		}
	}
	if m.ended != code {
		m.Fatalf("closed for %v with %d, want %d", why, m.ended, code)
	}
	for name, all := range m.published {
		if n := m.got[name]; !reasons[why].cut && n != len(all) {
			m.Fatalf("closed for %v: %d of %d messages of channel %s have come", why, n, len(all), name)
		}
	}
	m.client.endClose("nothing follows")
	return cuts
}

// note takes a channel's message.
func (m *cutModel) note(name, text string) error {
	n := m.got[name]
	if all := m.published[name]; n >= len(all) || text != all[n] {
		return fmt.Errorf("%s comes where message %d of %d is due", brief(text), n, len(all))
	}
	m.got[name]++
	return nil
}

func (m *cutModel) nextFrame() error {
	op, p, err := m.client.next()
	switch {
	case err != nil:
		return err
	case op == ws.OpClose && len(p) >= 2:
		m.ended = ws.StatusCode(p[0])<<8 | ws.StatusCode(p[1])
		return nil
	case op == ws.OpPong:
		var i int
		if _, err := fmt.Sscan(p, &i); err != nil || i <= m.lastPong || i >= m.pings {
			return fmt.Errorf("pong %s behind %d of %d", brief(p), m.lastPong, m.pings)
		}
		m.lastPong = i
		return nil
	case op != ws.OpText:
		return fmt.Errorf("a frame of opcode %#x with %s", op, brief(p))
	case len(m.speaks.channels) == 1:
		return m.note("x", p)
	}
	d := json.NewDecoder(strings.NewReader(p))
	for {
		var r struct {
			ID   int
			Push struct {
				Channel     string
				Pub         *struct{ Data string }
				Unsubscribe *struct{ Code int }
			}
		}
		switch err := d.Decode(&r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w in %s", err, brief(p))
		case r.ID == 9, r.Push.Unsubscribe != nil && r.Push.Channel == m.untold:
			m.untold = ""
		case r.Push.Pub != nil:
			if err := m.note(r.Push.Channel, r.Push.Pub.Data); err != nil {
				return err
			}
		default:
			return fmt.Errorf("got %s", brief(p))
		}
	}
}

func (m *cutModel) nextEvent() error {
	var event, data string
	for line := range strings.Lines(m.client.event()) {
		switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); name {
		case "data":
			data = value
		case "event":
			event = value
		}
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
	s := start(t, Config{SendBuffer: 4 << 10, MaxBuffered: 2 << 20, MaxPending: 256 << 10, PingInterval: -1, WriteTimeout: -1})
	var all []*client
	for range clients {
		all = append(all, dialSmall(t, s, "/ws/x"))
	}
	texts := numbered(3, size)
	for _, text := range texts {
		s.publish("x", text)
	}
	waitFor(t, "all to be blocked", func() bool { return s.blocked() == clients })
	if n := s.held(); n > 0 && !*overTLS { // with TLS a record each
		t.Errorf("%d bytes are held for them", n)
	}
	for i, c := range all {
		for _, text := range texts {
			c.wantText(fmt.Sprintf("client %d loses nothing", i), text)
		}
	}
}

// The rest of a cut frame is kept for those who leave as far as there is room. Without
// it nothing sensible can be sent any more: they are reset.
func TestThoseWhoLeaveWithinAFrameAreResetWithoutRoom(t *testing.T) {
	t.Parallel()
	const clients, size = 40, 60 << 10
	s := start(t, Config{Loops: 1, SendBuffer: 4 << 10, MaxBuffered: 2 << 20, MaxPending: 256 << 10, PingInterval: -1, WriteTimeout: -1})
	var all []*client
	for range clients {
		all = append(all, dialSmall(t, s, "/ws/x"))
	}
	healthy := dial(t, s, "/ws/x")
	s.publish("x", stars(size))
	waitFor(t, "all to be blocked", func() bool { return s.blocked() == clients })
	s.do(func(l *loop) {
		for _, c := range slices.Clone(l.conns) {
			if c.cut() == nil {
				continue
			}
			if c.close(reasonSlow); l.held > l.heldMax/2 {
				t.Errorf("%d bytes are held, more than half of %d", l.held, l.heldMax)
			}
			c.settle()
		}
	})
	told := 0
	for _, c := range all {
		if texts, code, err := c.texts(); err == nil && code == statusTryAgainLater && len(texts) == 1 && texts[0] == stars(size) {
			told++
			c.endClose("it was told")
		} else if len(texts) > 0 {
			t.Errorf("%d texts, code %d, %v", len(texts), code, err)
		}
	}
	if told == 0 || told == clients {
		t.Errorf("%d of %d were told: want some, and the others reset", told, clients)
	}
	s.wantClosed(reasonSlow, clients)
	healthy.wantText("who reads is not concerned", stars(size))
}
