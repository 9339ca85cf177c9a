package interop

import (
	"context"
	"testing"
)

// allClients returns the six. Those that are processes end with the test.
func allClients(ctx context.Context, t *testing.T, g *gateway, cert *certificate) []*client {
	t.Helper()
	clients := []*client{
		{name: "gorilla/websocket", dial: dialGorilla},
		{name: "coder/websocket", dial: dialCoder},
		{name: "lxzan/gws", dial: dialGws, lacks: map[ability]string{
			emptyClose:  "WriteClose sends 1000 for any code below it",
			closeAnswer: "WriteClose hangs up at once",
		}},
		{name: "gobwas/ws, ours", dial: dialOurs},
	}
	node := startScript(ctx, t, "ws", cert)
	browser := startScript(ctx, t, "chromium", cert, g.URL("http", ""), g.URL("https", ""))
	return append(clients,
		&client{name: "npm ws", dial: node.dial},
		&client{name: "Chromium", dial: browser.dial, lacks: map[ability]string{
			fragments: "the API has no fragments",
			pings:     "the API has no pings",
			badText:   "strings of the API are always valid",
		}})
}
