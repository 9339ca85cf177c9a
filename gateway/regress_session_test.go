package gateway

import (
	"fmt"
	"strings"
	"testing"
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
