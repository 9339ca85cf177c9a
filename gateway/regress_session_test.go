package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/channel"

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
		for _, kind := range []kind{kindRaw, kindClient} { // the laggard, which makes room; then the guest
			for _, c := range slices.Backward(l.conns) {
				if c.kind == kind {
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
