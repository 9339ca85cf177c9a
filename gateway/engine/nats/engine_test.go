package nats

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/engine/nats/natstest"
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
		MaxMessage: 64 << 10,
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

// cluster is nodes with the same servers.
type cluster struct {
	nodes []*enginetest.Node
	drops []*drops
}

// drops says which messages do not come to a node.
type drops struct {
	mu sync.Mutex
	of map[string]int // guarded by mu: by channel, how many
}

func (d *drops) lose(name string, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of[name] += n
}

func (d *drops) drop(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of[name] == 0 {
		return false
	}
	d.of[name]--
	return true
}

// startCluster starts nodes that use the servers at urls.
func startCluster(t testing.TB, n int, urls ...string) *cluster {
	t.Helper()
	c := new(cluster)
	for i := range n {
		d := &drops{of: make(map[string]int)}
		node := startNode(t, func(c *Config) {
			c.Servers.URLs, c.NodeID = urls, uint64(i+1)
			c.drop = d.drop
		})
		c.nodes, c.drops = append(c.nodes, node), append(c.drops, d)
	}
	return c
}

// rig is what enginetest needs. What is lost is noticed, as what the client reports to be lost.
func (c *cluster) rig() *enginetest.Rig {
	return &enginetest.Rig{
		Nodes: c.nodes, TimesOut: true, PerNode: func(name string) bool { return namespace(name) == "none" },
		Attached: func() (names []string) {
			for _, n := range c.nodes {
				names = append(names, attached(n)...)
			}
			return names
		},
		Lose: func(node int, name string, n int) { c.drops[node].lose(name, n) },
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			t.Parallel()
			enginetest.Run(t, func(t *testing.T) *enginetest.Rig {
				s := natstest.Start(t, natstest.Options{JetStream: true})
				return startCluster(t, n, s.URL()).rig()
			})
		})
	}
}
