package gateway

import (
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
)

// Messages of no bytes are counted as others are.
func TestEmptyMessagesCount(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MessageRate: 10, PingInterval: -1})
	for _, empty := range []string{clienttest.Text(""), clienttest.Bin(""), clienttest.Part(0x01, "") + clienttest.Part(0x80, "")} {
		c := member(t, s, "")
		c.Send(strings.Repeat(empty, 19))
		c.Does(`{"id":9,"presence_stats":{"channel":"x"}}`)
		c.WantClose("twice the rate at once is the most", 3013)
	}
}

// A client that comes and goes is announced to others only so often, and then has to come back later.
func TestJoinsHaveARate(t *testing.T) {
	t.Parallel()
	const rate, times = 5, 60
	cfg := guarded(t, `{"without_namespace":{"allow_subscribe_for_client":true,"join_leave":true,"force_push_join_leave":true}}`)
	cfg.JoinRate = rate
	s := start(t, cfg)
	reader, c := member(t, s, tokens(t, auth.Claims{User: "reader"})), member(t, s, tokens(t, auth.Claims{User: "other"}))
	reader.Joins("x")
	begun, refused := time.Now(), 0
	for range times {
		c.Does(`{"id":2,"subscribe":{"channel":"x"}}`, `{"id":3,"unsubscribe":{"channel":"x"}}`)
		for answered := false; !answered; {
			got := c.Told("an answer")
			answered = strings.HasPrefix(got, `{"id":3,`)
			if strings.Contains(got, `{"id":2,"error":{"code":111,`) {
				refused++
			}
		}
	}
	most := rate + int(time.Since(begun)/time.Second+1)*rate
	if got := times - refused; got > most || got == 0 {
		t.Errorf("%d of %d subscriptions were accepted, want at most %d", got, times, most)
	}
	s.publish("x", `"end"`)
	told := 0
	for {
		got := reader.Told("joins, leaves and the end")
		if strings.Contains(got, `"pub":`) {
			break
		}
		told++
	}
	if told > 2*most+1 {
		t.Errorf("%d joins and leaves were told, want at most %d", told, 2*most+1)
	}
}

// An answer to no ping is counted as a control frame is.
func TestPongsNobodyAskedForAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t, Config{ControlRate: 5})
	c := member(t, s, "")
	for range 11 {
		c.Does("{}")
	}
	c.WantClose("too many", 3013)
	s.WantClosed(loop.ReasonControlRate, 1)
}

// What a one-way client sends once it is connected is passed over, but not without end.
func TestOneWayClientsAreHeldToTheMessageRate(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1, MessageRate: 10})
	c := clienttest.Dial(t, s, pathUniClient)
	c.Does(`{}`)
	c.Told("connected")
	for range 18 { // two seconds' worth are the burst, the connect is one of them
		c.Does(`{}`)
	}
	c.WantIdle(s, "within its rate")
	for range 40 {
		c.Does(`{}`)
	}
	c.WantClose("too many", 3013)
	s.WantClosed(loop.ReasonMessageRate, 1)
}
