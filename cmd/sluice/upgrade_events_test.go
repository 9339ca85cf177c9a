package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"sluice/gateway/event/eventtest"
)

// Receivers of events see one gateway over several upgrades: no client that moves raises an event, what waits is sent by the next
// process with its numbers, and a channel whose only client does not come back is vacated.
func TestUpgradeRaisesNoEvents(t *testing.T) {
	r := eventtest.New(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(eventtest.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	l := startLineage(t, "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--tls-self-signed", "--upgrade-tls", "1s",
		"--webhook", r.URL, "--webhook-secret-file", secret, "--webhook-vacated-delay", "100ms", "--webhook-events", "occupied,vacated,subscribed,unsubscribed,connected,disconnected")
	trusting := &websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	dial := func(d *websocket.Dialer, base, path string) *websocket.Conn {
		t.Helper()
		c, _, err := d.Dial("ws"+strings.TrimPrefix(base, "http")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	stays := dial(websocket.DefaultDialer, l.url, "/ws/stays")
	dial(websocket.DefaultDialer, l.url, "/ws/too")
	secure := dial(trusting, l.secureURL(), "/ws/secure")
	back := dial(trusting, l.secureURL(), "/ws/back")
	r.WantOccupied("all are in", "back", "secure", "stays", "too")

	// Events that wait move, too.
	r.Fail(true)
	dial(websocket.DefaultDialer, l.url, "/ws/late")
	if m := l.upgrade(); m.Moved != 3 || m.Secure != 2 {
		t.Errorf("%+v", m)
	}
	r.Fail(false)
	r.WantOf("what waited", "late", "occupied", "subscribed")
	for _, c := range []*websocket.Conn{secure, back} { // they are told to come back
		if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
			t.Error(err)
		}
	}
	dial(trusting, l.secureURL(), "/ws/back")
	r.WantOf("one that has not come back", "secure", "occupied", "subscribed", "unsubscribed", "vacated")
	r.WantOf("one that has", "back", "occupied", "subscribed", "unsubscribed", "subscribed")
	ended := r.Events(func(e *eventtest.Event) bool { return e.Type == "disconnected" })
	if len(ended) != 2 || ended[0].Code != websocket.CloseServiceRestart {
		t.Errorf("disconnected: %+v", ended)
	}
	r.WantOccupied("the others are", "back", "late", "stays", "too")
	l.upgrade()
	stays.Close()
	r.WantOf("no other events", "stays", "occupied", "subscribed", "unsubscribed", "vacated")
	if got := r.Of("too"); !slices.Equal(got, []string{"occupied", "subscribed"}) {
		t.Errorf("%v", got)
	}
	if resets := r.Events(func(e *eventtest.Event) bool { return e.Type == "reset" }); len(resets) != 64 {
		t.Errorf("%d resets", len(resets))
	}
}
