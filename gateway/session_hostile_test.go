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

// A text of control characters takes six bytes for each in JSON. Whoever publishes such
// must not lock others out, who would be cut off for their own reply whenever they come back.
func TestNobodyIsCutOffForWhatItAsksFor(t *testing.T) {
	t.Parallel()
	const namespaces = `{"namespaces": [
		{"name": "all", "history_size": 50, "history_ttl": "60s", "force_recovery": true, "allow_subscribe_for_client": true, "allow_history_for_client": true},
		{"name": "one", "history_size": 50, "history_ttl": "60s", "force_recovery": true, "force_recovery_mode": "cache", "allow_subscribe_for_client": true},
		{"name": "who", "presence": true, "allow_subscribe_for_client": true, "allow_presence_for_client": true}
	]}`
	s := start(t, guarded(t, namespaces))
	var epoch string
	for _, name := range []string{"all:x", "one:x"} {
		for range 3 {
			epoch = s.publish(name, strings.Repeat("\x01", 60<<10)).Epoch
		}
	}
	first := s.publish("all:x", "x").Epoch
	user := tokens(t, auth.Claims{User: "42"})
	c := member(t, s, user)
	if reply := c.joins("all:x", `"recover":true,"offset":0,"epoch":"`+first+`"`); strings.Contains(reply, `"recovered":true`) {
		t.Errorf("more than a reply holds was recovered: %.300s", reply)
	}
	if reply := c.joins("one:x", `"recover":true,"offset":0,"epoch":"`+epoch+`"`); strings.Contains(reply, `"recovered":true`) {
		t.Errorf("more than a reply holds was recovered: %.300s", reply)
	}
	c.does(`{"id":3,"history":{"channel":"all:x","limit":2}}`)
	c.wantTold("the first is too large for a reply", `{"id":3,"error":{"code":106,"message":"limit exceeded"}}`)
	c.does(`{"id":4,"history":{"channel":"all:x","limit":2,"reverse":true}}`)
	if reply := c.told("newest first"); !strings.HasPrefix(reply, `{"id":4,"history":{"publications":[{"data":"x","offset":4}],`) {
		t.Errorf("what fits is told: got %.300s", reply)
	}

	// Infos of tokens are for the presence what payloads are for the history.
	large := tokens(t, auth.Claims{User: "43", Info: []byte(`"` + strings.Repeat("i", 5000) + `"`)})
	for range 60 {
		member(t, s, large).joins("who:x")
	}
	c.does(`{"id":5,"presence":{"channel":"who:x"}}`)
	c.wantTold("a presence that is too large for a reply", `{"id":5,"error":{"code":106,"message":"limit exceeded"}}`)

	// What one connection's channels recover is one reply.
	var names, subs []string
	for i := range 10 {
		name := "all:s" + string(rune('0'+i))
		r := s.publish(name, strings.Repeat("m", 60<<10))
		names, subs = append(names, name), append(subs, `"`+name+`":{"recover":true,"offset":0,"epoch":"`+r.Epoch+`"}`)
	}
	c = dial(t, s, pathClient)
	c.does(`{"id":1,"connect":{"token":"` + tokens(t, auth.Claims{User: "42", Channels: names}) + `","subs":{` + strings.Join(subs, ",") + `}}}`)
	if reply := c.told("connect"); !strings.Contains(reply, `"recovered":true`) || strings.Count(reply, `"was_recovering":true`) != 10 {
		t.Errorf("connect: got %d bytes, %.300s", len(reply), reply)
	}
	s.wantClosed(reasonPendingFull, 0)
}
