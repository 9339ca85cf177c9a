package nats

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/presence"
)

// namespace is that of a channel: those that begin with "none" keep no history, and those that begin
// with "memory" one that is not stored.
func namespace(name string) string {
	switch enginetest.Keep(name).Count {
	case 0:
		return "none"
	}
	return "kept"
}

// engineConfig is what an engine in a test has.
func engineConfig(n *enginetest.Node) Config {
	return Config{
		Space: n.Space, Present: n.Present, Keep: enginetest.Keep, NamespaceOf: namespace,
		Histories:  []HistoryOf{{Namespace: "kept", Size: enginetest.Keep("x").Count, TTL: time.Hour, Durable: true}},
		DataMax:    1 << 30,
		MaxMessage: 1 << 20,
		Logger:     slog.New(slog.DiscardHandler),
	}
}

// startNode starts a node with an engine.
func startNode(t testing.TB, change func(*Config)) *enginetest.Node {
	t.Helper()
	n := &enginetest.Node{Space: enginetest.NewSpace(), Present: presence.New()}
	c := engineConfig(n)
	change(&c)
	e, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	n.Engine = e
	n.Space.Remote(e, e.Remote)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	clienttest.WaitFor(t, "the engine", e.Ready)
	return n
}

// attached returns the channels that are attached.
func attached(n *enginetest.Node) (names []string) {
	for _, l := range n.Engine.(*Engine).lanes {
		done := make(chan struct{})
		l.post(func() {
			for _, r := range l.list {
				if r.ch != nil {
					names = append(names, r.name)
				}
			}
			close(done)
		})
		<-done
	}
	return names
}

func TestSingleNode(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) *enginetest.Rig {
		n := startNode(t, func(c *Config) { c.DataDir = t.TempDir() })
		return &enginetest.Rig{Nodes: []*enginetest.Node{n}, TimesOut: true, Attached: func() []string { return attached(n) }}
	})
}
