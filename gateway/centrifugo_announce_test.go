package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/google/go-cmp/cmp"
)

// A leave does not overtake the join that waits for room: not even when there is room
// again and the join was told so, but has not been tried yet.
func TestLeaveDoesNotOvertakeTheJoinThatWaited(t *testing.T) {
	t.Parallel()
	s := start(t, Config{ChannelBuffer: 16 << 10, MaxMessage: 4 << 10, PingInterval: -1, Loops: 1, History: -1})
	h := clienttest.HoldFull(t, s.space, "x", 1000)
	wait := func(n int) {
		t.Helper()
		clienttest.WaitFor(t, fmt.Sprintf("%d to wait", n), func() bool { return s.space.Find("x").Waiting() == n })
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Publish(context.Background(), Message{Channel: "x", Payload: []byte(clienttest.Stars(1000))})
		done <- err
	}()
	wait(1)
	watcher := member(t, s, "")
	watcher.Joins("x", `"join_leave":true`)
	member(t, s, "").Joins("x")
	wait(2) // the joins wait as one
	s.Do(func(l *loop.Loop) {
		s.space.Leave(&h.Reader)                                                       // there is room
		for _, d := range l.Describe(func(c *loop.Conn) uint64 { return c.ID() }, 1) { // the guest
			l.End(d.ID)
		}
	})
	if err := clienttest.Receive(t, "the publisher to end", done); err != nil {
		t.Error(err)
	}
	var got []string
	for range 4 {
		switch p := watcher.Told("who comes and goes"); {
		case strings.Contains(p, `"join":`):
			got = append(got, "join")
		case strings.Contains(p, `"leave":`):
			got = append(got, "leave")
		}
	}
	if diff := cmp.Diff([]string{"join", "join", "leave"}, got); diff != "" {
		t.Errorf("who comes and goes (-want +got):\n%s", diff)
	}
}

// Joins that wait for their turn or for room are bounded: a client that joins then is asked to come
// again.
func TestJoinsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	const most = 4096
	cfg := guarded(t, `{"without_namespace":{"allow_subscribe_for_client":true,"join_leave":true}}`)
	cfg.Loops, cfg.JoinRate, cfg.PingInterval = 1, -1, -1
	over := make(chan struct{})
	t.Cleanup(func() { close(over) }) // after the server's end
	s := start(t, cfg)
	clienttest.Dial(t, s, "/ws/x?token="+tokens(t, auth.Claims{User: "reader"}))
	f := clienttest.JoinStuck(t, s.space, "x")
	done := make(chan error, 1)
	go func() {
		_, err := s.Publish(context.Background(), Message{Channel: "x", Payload: []byte("first")})
		done <- err
	}()
	clienttest.Receive(t, "the encoding to begin", f.Entered)
	c := member(t, s, tokens(t, auth.Claims{User: "42"}))
	for range most / 2 {
		c.Joins("x")
		c.Does(`{"id":3,"unsubscribe":{"channel":"x"}}`)
		c.WantTold("it leaves", `{"id":3,"unsubscribe":{}}`)
	}
	c.Does(`{"id":4,"subscribe":{"channel":"x"}}`)
	c.WantTold("too many wait", `{"id":4,"error":{"code":111,"message":"too many requests","temporary":true}}`)
	close(f.Release)
	go func() {
		for {
			select {
			case <-f.Entered:
			case <-over:
				return
			}
		}
	}()
	if err := clienttest.Receive(t, "the publication", done); err != nil {
		t.Error(err)
	}
	s.space.Leave(&f.Reader)
	clienttest.WaitFor(t, "joins to be possible again", func() bool {
		c.Does(`{"id":5,"subscribe":{"channel":"x"}}`)
		return strings.HasPrefix(c.Told("an answer"), `{"id":5,"subscribe":`)
	})
}
