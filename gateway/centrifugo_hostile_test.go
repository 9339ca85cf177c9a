package gateway

import (
	"strings"
	"testing"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/gobwas/ws"
)

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
			epoch = s.publish(name, strings.Repeat("\x01", 60<<10)).Epoch.String()
		}
	}
	first := s.publish("all:x", "x").Epoch.String()
	user := tokens(t, auth.Claims{User: "42"})
	c := member(t, s, user)
	if reply := c.Joins("all:x", `"recover":true,"offset":0,"epoch":"`+first+`"`); strings.Contains(reply, `"recovered":true`) {
		t.Errorf("more than a reply holds was recovered: %.300s", reply)
	}
	if reply := c.Joins("one:x", `"recover":true,"offset":0,"epoch":"`+epoch+`"`); strings.Contains(reply, `"recovered":true`) {
		t.Errorf("more than a reply holds was recovered: %.300s", reply)
	}
	c.Does(`{"id":3,"history":{"channel":"all:x","limit":2}}`)
	c.WantTold("the first is too large for a reply", `{"id":3,"error":{"code":106,"message":"limit exceeded"}}`)
	c.Does(`{"id":4,"history":{"channel":"all:x","limit":2,"reverse":true}}`)
	if reply := c.Told("newest first"); !strings.HasPrefix(reply, `{"id":4,"history":{"publications":[{"data":"x","offset":4}],`) {
		t.Errorf("the reply lists what fits: got %.300s", reply)
	}

	// Infos of tokens are for the presence what payloads are for the history.
	large := tokens(t, auth.Claims{User: "43", Info: []byte(`"` + strings.Repeat("i", 5000) + `"`)})
	for range 60 {
		member(t, s, large).Joins("who:x")
	}
	c.Does(`{"id":5,"presence":{"channel":"who:x"}}`)
	c.WantTold("a presence that is too large for a reply", `{"id":5,"error":{"code":106,"message":"limit exceeded"}}`)

	// What one connection's channels recover is one reply.
	var names, subs []string
	for i := range 10 {
		name := "all:s" + string(rune('0'+i))
		r := s.publish(name, strings.Repeat("m", 60<<10))
		names, subs = append(names, name), append(subs, `"`+name+`":{"recover":true,"offset":0,"epoch":"`+r.Epoch.String()+`"}`)
	}
	c = clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{"token":"` + tokens(t, auth.Claims{User: "42", Channels: names}) + `","subs":{` + strings.Join(subs, ",") + `}}}`)
	if reply := c.Told("connect"); !strings.Contains(reply, `"recovered":true`) || strings.Count(reply, `"was_recovering":true`) != 10 {
		t.Errorf("connect: got %d bytes, %.300s", len(reply), reply)
	}
	s.WantClosed(loop.ReasonPendingFull, 0)
}

// What says nothing costs as much to read as what says something: empty commands and the
// messages of clients that are only sent to count too.
func TestEmptyCommandsCount(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, "")
	cfg.MessageRate = 10
	s := start(t, cfg)
	expired := tokens(t, auth.Claims{User: "42", ExpiresAt: 5})
	for why, test := range map[string]struct {
		path, before, frame string
		code                ws.StatusCode
	}{
		"pongs":                            {pathClient, `{"id":1,"connect":{}}`, "{}", 3013},
		"pongs before a connect":           {pathClient, "{}", "{}", 3013},
		"expired tokens":                   {pathClient, "{}", `{"id":1,"connect":{"token":"` + expired + `"}}`, 3013},
		"from a client only sent to":       {pathUniClient, "{}", "{}", 3013},
		"and its expired tokens end it so": {pathUniClient, `{"token":"` + expired + `"}`, "{}", 3005},
	} {
		c := clienttest.Dial(t, s, test.path)
		c.Send(clienttest.Text(test.before), strings.Repeat(clienttest.Text(test.frame), 100))
		if _, code, err := c.Texts(); code != test.code {
			t.Errorf("%s: code %d, %v, want %d", why, code, err, test.code)
		}
	}
}
