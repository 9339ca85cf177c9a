package main

import (
	"context"
	"runtime/debug"
)

// allClients gives the six. stop ends those that are processes.
func allClients(ctx context.Context, g *gateway, cert *certificate) (clients []*client, stop func(), err error) {
	clients = []*client{
		{name: "gorilla/websocket", dial: dialGorilla},
		{name: "coder/websocket", dial: dialCoder},
		{name: "lxzan/gws", dial: dialGws, lacks: map[ability]string{
			emptyClose:  "WriteClose sends 1000 for any code below it",
			closeAnswer: "WriteClose hangs up at once",
		}},
		{name: "gobwas/ws", dial: dialGobwas},
	}
	for _, c := range clients {
		c.version = moduleVersion("github.com/" + c.name)
	}
	node, err := startScript(ctx, "ws", cert)
	if err != nil {
		return nil, nil, err
	}
	browser, err := startScript(ctx, "chromium", cert, g.url("http", ""), g.url("https", ""))
	if err != nil {
		node.stop()
		return nil, nil, err
	}
	clients = append(clients,
		&client{name: "npm ws", version: node.version, dial: node.dial},
		&client{name: "Chromium", version: browser.version, dial: browser.dial, lacks: map[ability]string{
			fragments: "the API has no fragments",
			pings:     "the API has no pings",
			badText:   "strings of the API are always valid",
		}})
	return clients, func() { node.stop(); browser.stop() }, nil
}

// moduleVersion is the version that was linked in.
func moduleVersion(path string) string {
	info, _ := debug.ReadBuildInfo() // without it: no module is found
	if info != nil {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "unknown"
}
