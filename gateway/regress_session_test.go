package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// The replies to one frame of commands may be more than may wait for a connection. What is
// left of the frame goes on when the socket has taken what there is, each time.
func TestLargeRepliesToOneFrameAllCome(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1})
	for range 100 {
		s.publish("x", strings.Repeat("a", 500))
	}
	c := member(t, s, "")
	var frame []string
	for i := range 8 {
		frame = append(frame, fmt.Sprintf(`{"id":%d,"history":{"channel":"x","limit":100}}`, i+2))
	}
	c.does(strings.Join(frame, "\n"))
	for i := range 8 {
		if got, want := c.told("a history"), fmt.Sprintf(`{"id":%d,"history":`, i+2); !strings.HasPrefix(got, want) {
			t.Fatalf("got %s, want the reply %s", brief(got), want)
		}
	}
}

// A leave does not overtake the join that waits for room: not even when there is room
// again and the join was told so, but has not been tried yet.
func TestLeaveDoesNotOvertakeTheJoinThatWaited(t *testing.T) {
	t.Parallel()
	s := start(t, Config{ChannelBuffer: 16 << 10, MaxMessage: 4 << 10, SendBuffer: 4 << 10, PingInterval: -1, Loops: 1, History: -1})
	watcher := member(t, s, "")
	watcher.joins("x", `"join_leave":true`)
	watcher.told("its own join")
	laggard := connectWith(t, s, 4<<10)
	laggard.upgrade("/ws/x")
	published := make(chan int)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		n := 0
		for ctx.Err() == nil { // in the end one waits
			if _, err := s.Publish(ctx, Message{Channel: "x", Payload: fmt.Appendf(nil, `"%s"`, strings.Repeat("x", 1000))}); err == nil {
				n++
			}
		}
		published <- n
	}()
	waitFor(t, "the channel to be full", func() bool { return s.Server.stats.pushedBack.Load() > 0 })
	guest := member(t, s, "")
	guest.joins("x")
	cancel() // whoever publishes waits no more, but the join does
	s.do(func(l *loop) {
		for _, v := range []*variant{rawWebSocket, clientWebSocket} { // the laggard, which makes room; then the guest
			for _, c := range slices.Backward(l.conns) {
				if l.variants[c.variant] == v {
					c.kill(reasonReset)
					break
				}
			}
		}
	})
	n := receive(t, "the publisher to end", published)
	var got []string
	for len(got) < 2 {
		switch p := watcher.told("who comes and goes"); {
		case strings.Contains(p, `"join":`):
			got = append(got, "join")
		case strings.Contains(p, `"leave":`):
			got = append(got, "leave")
		default:
			n--
		}
	}
	if diff := cmp.Diff([]string{"join", "leave"}, got); diff != "" {
		t.Errorf("who comes and goes (-want +got):\n%s", diff)
	}
	if n != 0 {
		t.Errorf("%d publications are missing before them", n)
	}
}

// Joins that wait for room are bounded: whoever comes then is told to come again.
func TestJoinsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	member(t, s, "").joins("x")
	ch := s.space.Find("x")
	s.do(func(l *loop) {
		l.waiting[ch] = &announcements{loop: l, ch: ch, waiting: make([]channel.Publication, announcingMax)}
	})
	c := member(t, s, "")
	c.does(`{"id":2,"subscribe":{"channel":"x"}}`)
	c.wantTold("too many wait", `{"id":2,"error":{"code":111,"message":"too many requests","temporary":true}}`)
	s.do(func(l *loop) { delete(l.waiting, ch) })
	c.joins("x")
}

// What was sent of the replies goes before their buffer grows: a client that takes some of
// them and asks for more, so that never all are sent, does not make it grow for good.
func TestRepliesThatAreNeverAllSentStayBounded(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	member(t, s, "")
	var size int
	s.do(func(l *loop) {
		c := l.conns[0]
		c.bits |= bitBlocked // the socket takes nothing by itself
		for range 10_000 {
			c.answer(&protocol.Reply{Id: 1, Ping: &protocol.PingResult{}})
			c.out.sent = len(c.out.buf) - 1 // it took all but the last byte
		}
		size = c.out.size()
		c.bits &^= bitBlocked
		c.kill(reasonReset) // what it was sent is nothing that it can read
	})
	if size > outboxKeep {
		t.Errorf("%d bytes are held for a reply", size)
	}
}

// The hook sees each message once, also where its channel has no room at first.
func TestHookSeesAMessageThatWaitsOnce(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	s := start(t, Config{ChannelBuffer: 16 << 10, MaxMessage: 4 << 10, SendBuffer: 4 << 10, PingInterval: -1, Loops: 1, History: -1,
		OnMessage: func(Message) bool { seen.Add(1); return true }})
	reader := connectWith(t, s, 4<<10)
	reader.upgrade("/ws/x")
	c := member(t, s, "")
	const n = 40
	for i := range n {
		c.does(fmt.Sprintf(`{"id":%d,"publish":{"channel":"x","data":%q}}`, i+2, strings.Repeat("x", 1000)))
	}
	waitFor(t, "the channel to push back", func() bool { return s.pushBacks() > 0 })
	for range n {
		reader.wantText("each once", `"`+strings.Repeat("x", 1000)+`"`)
	}
	for i := range n {
		c.wantTold("published", fmt.Sprintf(`{"id":%d,"publish":{}}`, i+2))
	}
	if got := seen.Load(); got != n {
		t.Errorf("the hook saw %d messages, want %d", got, n)
	}
}

// A client may have more time for its pong than there is between two pings. One that does
// not answer is found all the same.
func TestPongMayTakeLongerThanAnInterval(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: 5 * time.Second, PongTimeout: 8 * time.Second, Loops: 1})
	c := member(t, s, "")
	s.pass(4 + 5) // the first ping comes after half an interval at least
	if n := s.closing(reasonNoPong); n != 0 {
		t.Error("it is closed before its time is over")
	}
	s.pass(6)
	for {
		op, p, err := c.next()
		if err == nil && op == ws.OpText && p == "{}" {
			continue
		}
		if op != ws.OpClose {
			t.Fatalf("got %v, a frame of opcode %#x with %s", err, op, brief(p))
		}
		break
	}
	s.wantClosed(reasonNoPong, 1)
}

// The hook sees what a client publishes after a command that waited for room, and that was
// refused when it was done again: its permission was gone.
func TestHookSeesWhatComesAfterARefusedCommand(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, `{"without_namespace":{"allow_subscribe_for_client":true,"allow_publish_for_subscriber":true}}`)
	cfg.ChannelBuffer, cfg.MaxMessage, cfg.SendBuffer, cfg.PingInterval, cfg.Loops = 16<<10, 4<<10, 4<<10, -1, 1
	cfg.OnMessage = func(m Message) bool { return !strings.Contains(string(m.Payload), "spam") }
	s := start(t, cfg)
	reader := connectWith(t, s, 4<<10)
	reader.upgrade("/ws/x?token=" + tokens(t, auth.Claims{User: "reader"}))
	c := member(t, s, tokens(t, auth.Claims{User: "42"}))
	c.joins("x")
	n := 0
	for parked := false; !parked; n++ {
		c.does(fmt.Sprintf(`{"id":%d,"publish":{"channel":"x","data":%q}}`, n+10, strings.Repeat("x", 1000)))
		s.do(func(l *loop) {
			for _, c := range l.conns {
				if parked = parked || c.has(bitParked); c.has(bitParked) {
					c.unsubscribe("x", centrifugo.UnsubscribeServer)
				}
			}
		})
	}
	reader.vanish() // there is room
	for last := fmt.Sprintf(`{"id":%d,"error":{"code":103,`, n+9); !strings.HasPrefix(c.told("all of them, and the last is refused"), last); {
	}
	c.joins("x")
	c.does(`{"id":3,"publish":{"channel":"x","data":"spam"}}`)
	c.wantTold("the hook does not let it pass", `{"id":3,"error":{"code":103,"message":"permission denied"}}`)
}

// An answer to no ping is counted as a control frame is.
func TestPongsNobodyAskedForAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t, Config{ControlRate: 5})
	c := member(t, s, "")
	for range 11 {
		c.does("{}")
	}
	c.wantClose("too many", 3013)
	s.wantClosed(reasonControlRate, 1)
}

// A fresh token may say something else of a client: whoever asks who is there learns that.
func TestPresenceKnowsWhatAFreshTokenSays(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, `{"without_namespace":{"presence":true,"allow_subscribe_for_client":true,"allow_presence_for_client":true,"allow_presence_for_subscriber":true}}`))
	claims := auth.Claims{User: "42", Info: json.RawMessage(`1`), ExpiresAt: time.Now().Add(time.Hour).Unix()}
	c := member(t, s, tokens(t, claims))
	c.joins("x")
	claims.Info = json.RawMessage(`2`)
	c.does(fmt.Sprintf(`{"id":3,"refresh":{"token":%q}}`, tokens(t, claims)))
	c.told("refresh")
	c.does(`{"id":4,"presence":{"channel":"x"}}`)
	c.wantTold("presence", `{"id":4,"presence":{"presence":{"ID":{"user":"42","client":"ID","conn_info":2}}}}`)
	c.does(fmt.Sprintf(`{"id":5,"sub_refresh":{"channel":"x","token":%q}}`, tokens(t, auth.Claims{User: "42", Channel: "x", Info: json.RawMessage(`3`)})))
	c.told("sub_refresh")
	c.does(`{"id":6,"presence":{"channel":"x"}}`)
	c.wantTold("presence", `{"id":6,"presence":{"presence":{"ID":{"user":"42","client":"ID","conn_info":2,"chan_info":3}}}}`)
	s.wantAPI("refresh", `{"user":"42","info":4}`, `{"result":{}}`)
	c.told("refresh")
	c.does(`{"id":7,"presence":{"channel":"x"}}`)
	c.wantTold("presence", `{"id":7,"presence":{"presence":{"ID":{"user":"42","client":"ID","conn_info":4,"chan_info":3}}}}`)
}

// What a one-way client sends once it is connected is passed over, but not without end.
func TestOneWayClientsAreHeldToTheMessageRate(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1, MessageRate: 10})
	c := dial(t, s, pathUniClient)
	c.does(`{}`)
	c.told("connected")
	for range 18 { // two seconds' worth are the burst, the connect is one of them
		c.does(`{}`)
	}
	c.wantIdle(s, "within its rate")
	for range 40 {
		c.does(`{}`)
	}
	c.wantClose("too many", 3013)
	s.wantClosed(reasonMessageRate, 1)
}
