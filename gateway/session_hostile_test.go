package gateway

import (
	"strings"
	"testing"

	"sluice/gateway/auth"
)

// What a namespace keeps from clients of the protocol it keeps from raw ones too: who may
// subscribe, and neither recover nor read the history, is not shown what came before.
func TestRawClientsSeeNoHistoryThatTheyMayNot(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, `{"namespaces": [
		{"name": "now", "history_size": 5, "history_ttl": "60s", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true},
		{"name": "back", "history_size": 5, "history_ttl": "60s", "allow_subscribe_for_client": true, "allow_recovery": true},
		{"name": "list", "history_size": 5, "history_ttl": "60s", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_history_for_subscriber": true}
	]}`))
	user := "token=" + tokens(t, auth.Claims{User: "42"})
	for _, test := range []struct {
		channel, token string
		may            bool
	}{
		{"now:x", user, false},
		{"now:x", "", false},
		{"now:x", "token=" + tokens(t, auth.Claims{User: "42", Channel: "now:x"}), false},
		{"back:x", user, true},
		{"list:x", user, true},
		{"list:x", "", false}, // the right to the history is not for anonymous ones
	} {
		receipt := s.publish(test.channel, "before")
		for _, target := range []string{
			"/ws/" + test.channel + "?format=json&history=5&" + test.token,
			"/ws/" + test.channel + "?history=5&" + test.token,
			"/ws/" + test.channel + "?format=json&since=" + receipt.Epoch + ":0&" + test.token,
		} {
			c := connect(t, s)
			c.write(upgradeTo(target))
			if got, want := c.status(t) == 101, test.may; got != want {
				t.Errorf("%s %.5s: let in: %t, want %t", target, test.token, got, want)
			}
		}
		for _, target := range []string{"/sse/" + test.channel + "?history=5&" + test.token, "/sse/" + test.channel + "?since=" + receipt.Epoch + ":0&" + test.token} {
			c := connect(t, s)
			c.write("GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if got, want := c.status(t) == 200, test.may; got != want {
				t.Errorf("%s %.5s: let in: %t, want %t", target, test.token, got, want)
			}
		}
	}
	// A browser comes back with what it had, and would not come again after a refusal: it is
	// told of a gap, and shown nothing of it.
	receipt := s.publish("now:x", "before")
	c := connect(t, s)
	c.write("GET /sse/now:x HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: " + receipt.Epoch + ":0\r\n\r\n")
	if got := c.status(t); got != 200 {
		t.Fatalf("it comes back: status %d", got)
	}
	s.publish("now:x", "after")
	got := c.lines(t, "data: after")
	if strings.Contains(got, "before") || !strings.Contains(got, `"gap":true`) {
		t.Errorf("it comes back: got %q", got)
	}
}

// lines reads up to a line, and gives all of them.
func (c *client) lines(t testing.TB, last string) (all string) {
	t.Helper()
	for {
		c.patience()
		line, err := c.in.ReadString('\n')
		if all += line; err != nil {
			t.Fatalf("no line %q: %v, in %q", last, err, all)
		}
		if strings.TrimSpace(line) == last {
			return all
		}
	}
}
