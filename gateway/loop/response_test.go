package loop

import (
	"strings"
	"testing"
)

// What is held of responses is the same for all that differ in the client's own bytes alone.
func TestHeldResponsesShareWhatTheyHaveInCommon(t *testing.T) {
	const (
		upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %\r\nSec-WebSocket-Protocol: x\r\n\r\n"
		stream  = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: %\ndata: hello\n\n"
	)
	for name, test := range map[string]struct {
		text, one, other string
		shares           bool
	}{
		"WebSocket":             {upgrade, strings.Repeat("a", 28), strings.Repeat("b", 28), true},
		"SSE":                   {stream, "1000", "2999", true},
		"too short":             {"\r\nSec-WebSocket-Accept: %", "abc", "def", false},
		"something else":        {"HTTP/1.1 200 OK\r\nX: %\r\n\r\n", "1", "2", false},
		"nothing":               {"%", "", "", true},
		"far behind":            {strings.Repeat("x", 1<<16) + stream, "1000", "2000", false},
		"its time is elsewhere": {"x\nretry: 1000\n%", "1000", "2000", false},
	} {
		one, other := strings.Replace(test.text, "%", test.one, 1), strings.Replace(test.text, "%", test.other, 1)
		a, b := compact([]byte(one)), compact([]byte(other))
		if got := string(a.append([]byte("before"))); got != "before"+one {
			t.Errorf("%s: got %q, want %q", name, got, one)
		}
		if got := string(b.append(nil)); got != other {
			t.Errorf("%s: got %q, want %q", name, got, other)
		}
		if got := a.common == b.common; got != test.shares {
			t.Errorf("%s: they share it: %v", name, got)
		}
	}
}
