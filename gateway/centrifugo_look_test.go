package gateway

import (
	"fmt"
	"strings"
	"testing"

	"sluice/gateway/access/auth"
)

// A client that asks for the history of channels that nobody has creates none, and pushes no
// other channel's history out; neither do subscriptions to such channels. What it is told is
// where the channel begins.
func TestLooksCostNobodyTheHistory(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, `{"namespaces":[{"name":"kept","history_size":10,"history_ttl":"5m","allow_history_for_client":true},
		{"name":"open","history_size":10,"history_ttl":"5m","force_recovery":true,"allow_history_for_client":true,"allow_subscribe_for_client":true,"allow_publish_for_client":true}]}`)
	cfg.MaxChannels, cfg.Loops = 200, 1
	s := start(t, cfg)
	for i := range 100 {
		s.publish(fmt.Sprint("kept:", i), "1")
	}
	c := member(t, s, tokens(t, auth.Claims{User: "42"}))
	for i := range 1100 {
		c.Does(fmt.Sprintf(`{"id":3,"history":{"channel":"open:%d","limit":1}}`, i))
		if got := c.Told("an answer"); !strings.Contains(got, `"offset":0`) && !strings.Contains(got, `{"publications":[]`) {
			t.Fatalf("history of a channel that is not there: %s", got)
		}
	}
	if n := s.space.Channels(); n != 100 {
		t.Errorf("%d channels after looking, want 100", n)
	}
	for i := range 300 {
		c.Joins(fmt.Sprint("open:", i))
		c.Does(fmt.Sprintf(`{"id":4,"unsubscribe":{"channel":"open:%d"}}`, i))
		c.Told("unsubscribed")
	}
	left := 0
	for i := range 100 {
		if s.space.Find(fmt.Sprint("kept:", i)) != nil {
			left++
		}
	}
	if left != 100 {
		t.Errorf("%d of 100 kept channels are left", left)
	}
	// Two looks agree, and a client that recovers from what it was told misses nothing.
	epoch := func() string {
		c.Does(`{"id":5,"history":{"channel":"open:new"}}`)
		_, rest, _ := strings.Cut(c.Told("its position"), `"epoch":"`)
		epoch, _, _ := strings.Cut(rest, `"`)
		return epoch
	}
	first := epoch()
	if again := epoch(); again != first || first == "" {
		t.Errorf("the epoch is %q, and then %q", first, again)
	}
	c.Does(`{"id":6,"publish":{"channel":"open:new","data":1}}`)
	c.Told("published")
	if got := c.Joins("open:new", `"recover":true`, `"epoch":"`+first+`"`); !strings.Contains(got, `"recovered":true`) || !strings.Contains(got, `"data":1`) {
		t.Errorf("recovery from that position: %s", got)
	}
}
