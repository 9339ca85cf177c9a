package nats

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/engine/nats/natstest"
	"sluice/gateway/presence"

	natsgo "github.com/nats-io/nats.go"
)

// namespace is that of a channel: those that begin with "none" keep no history, those with "few" a short
// one.
func namespace(name string) string {
	switch enginetest.Keep(name).Count {
	case 0:
		return "none"
	case enginetest.Keep("few").Count:
		return "few"
	}
	return "kept"
}

// engineConfig is what an engine in a test has. It waits for acknowledgements as long as a busy machine takes.
func engineConfig(n *enginetest.Node) Config {
	return Config{
		test:  tests{patience: clienttest.Patience},
		Space: n.Space, Present: n.Present, Keep: enginetest.Keep, NamespaceOf: namespace,
		Histories: []HistoryOf{
			{Namespace: "kept", Size: enginetest.Keep("x").Count, TTL: time.Hour, Durable: true},
			{Namespace: "few", Size: enginetest.Keep("few").Count, TTL: time.Hour, Durable: true},
		},
		DataMax:    1 << 30,
		MaxMessage: 64 << 10,
		Logger:     slog.New(slog.DiscardHandler),
	}
}

// newNode returns a node with an engine, which may not be ready yet.
func newNode(t testing.TB, change func(*Config)) *enginetest.Node {
	t.Helper()
	return newNodeIn(t, enginetest.NewSpace(), change)
}

// newNodeIn returns a node with this space.
func newNodeIn(t testing.TB, space *channel.Space, change func(*Config)) *enginetest.Node {
	t.Helper()
	n := &enginetest.Node{Space: space, Present: presence.New()}
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
	return n
}

// ready waits until nodes are ready.
func ready(t testing.TB, nodes ...*enginetest.Node) {
	t.Helper()
	for _, n := range nodes {
		clienttest.WaitFor(t, "the engine", func() bool {
			select {
			case err := <-n.Engine.(*Engine).Failed():
				t.Fatal(err)
			default:
			}
			return n.Engine.(*Engine).Ready()
		})
	}
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
		n := newNode(t, func(c *Config) { c.DataDir = natstest.Dir(t) })
		ready(t, n)
		return &enginetest.Rig{Nodes: []*enginetest.Node{n}, TimesOut: true, Attached: func() []string { return attached(n) }}
	})
}

// cluster is nodes with the same servers.
type cluster struct {
	t      testing.TB
	urls   []string
	prefix string
	nodes  []*enginetest.Node
	drops  []*drops
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
	return startClusterWith(t, n, func(*Config) {}, urls...)
}

func startClusterWith(t testing.TB, n int, change func(*Config), urls ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, urls: urls, prefix: "t" + strconv.FormatUint(rand.Uint64(), 36)}
	for i := range n {
		d := &drops{of: make(map[string]int)}
		node := newNode(t, func(cfg *Config) {
			cfg.Servers, cfg.NodeID, cfg.test.drop = Servers{URLs: urls, Prefix: c.prefix}, uint64(i+1), d.drop
			change(cfg)
		})
		c.nodes, c.drops = append(c.nodes, node), append(c.drops, d)
	}
	ready(t, c.nodes...)
	return c
}

// rig is what enginetest needs.
func (c *cluster) rig() *enginetest.Rig {
	return &enginetest.Rig{
		Nodes: c.nodes, TimesOut: true, Fills: true, PerNode: func(name string) bool { return namespace(name) == "none" },
		Attached: func() (names []string) {
			for _, n := range c.nodes {
				names = append(names, attached(n)...)
			}
			return names
		},
		Lose:  func(node int, name string, n int) { c.drops[node].lose(name, n) },
		Reset: c.reset,
	}
}

// reset makes the streams of channels anew, and waits until the nodes know that.
func (c *cluster) reset(names ...string) {
	nc := natstest.Connect(c.t, strings.Join(c.urls, ","))
	js, err := nc.JetStream()
	if err != nil {
		c.t.Fatal(err)
	}
	epochs := make(map[*stream]channel.Epoch)
	for _, name := range names {
		for _, n := range c.nodes {
			st := n.Engine.(*Engine).stream(name)
			epochs[st] = st.epoch()
		}
		st := c.nodes[0].Engine.(*Engine).stream(name)
		info, err := js.StreamInfo(st.name)
		if err == nil {
			err = js.DeleteStream(st.name)
		}
		if err == nil {
			_, err = js.AddStream(&info.Config)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	for _, n := range c.nodes {
		for _, name := range names {
			e := n.Engine.(*Engine)
			st := e.stream(name)
			e.lookAt(st, func() {})
			clienttest.WaitFor(c.t, "another epoch", func() bool { return st.epoch() != epochs[st] })
		}
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			t.Parallel()
			enginetest.Run(t, func(t *testing.T) *enginetest.Rig {
				s := natstest.Start(t, natstest.Options{JetStream: true})
				rig := startCluster(t, n, s.URL()).rig()
				rig.Away = func() (back func()) {
					s.Stop()
					return s.Restart
				}
				return rig
			})
		})
	}
}

// Debian's server is the oldest that is supported.
func TestOldServer(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) *enginetest.Rig {
		s := natstest.StartChild(t)
		rig := startCluster(t, 2, s.URL()).rig()
		rig.Stall = func() (resume func()) {
			s.Suspend()
			return s.Resume
		}
		return rig
	})
}

// Three servers keep three copies of each stream.
func TestThreeServers(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{JetStream: true})
	i := 0
	c := startClusterWith(t, 3, func(c *Config) { // one node at each
		c.Servers.URLs, c.test.patience = servers.URLs()[i:i+1], 0
		i++
	}, servers.URLs()...)
	t.Run("order", func(t *testing.T) { enginetest.Order(t, c.rig()) })
	t.Run("what is published as soon as somebody is subscribed", func(t *testing.T) {
		near, far := newSender(t, c.nodes[0]), newSender(t, c.nodes[1])
		for i := range clienttest.Scaled(100, 20) {
			for _, name := range []string{"soon", "none"} {
				name = fmt.Sprint(name, i)
				r := watch(t, c.nodes[2], name)
				far.publishes(name, "a")
				near.publishes(name, "b")
				if name[0] == 's' {
					r.wants(name, "a", "b")
				} else {
					clienttest.WaitFor(t, name, func() bool { return len(r.lines()) == 2 })
				}
				r.leave()
			}
		}
	})
}

// Whatever is lost between a server and a node is read from the stream, or is a gap.
func TestForcedDrops(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Options{JetStream: true})
	c := startClusterWith(t, 2, func(c *Config) { c.test.live = 1 }, s.URL())
	enginetest.Order(t, c.rig())
	var caughtUp, gaps uint64
	for _, n := range c.nodes {
		s := n.Engine.(*Engine).Stats()
		caughtUp += s.CaughtUp
		gaps += s.Gaps[engine.GapSlow] + s.Gaps[engine.GapChain]
	}
	if caughtUp == 0 || gaps == 0 {
		t.Errorf("%d channels were read again, and there were %d gaps: nothing was dropped", caughtUp, gaps)
	}
}

// Where answers are missing, publishers get ErrUnavailable, and subscribers all that was stored.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	lose := func(c *Config) {
		c.test.patience = 200 * time.Millisecond
		c.test.withhold = func(m *natsgo.Msg) bool { return rand.IntN(30) == 0 && len(m.Data) > 0 }
	}
	t.Run("of a single node", func(t *testing.T) {
		t.Parallel()
		n := newNode(t, func(c *Config) {
			c.DataDir = natstest.Dir(t)
			lose(c)
		})
		ready(t, n)
		enginetest.Order(t, &enginetest.Rig{Nodes: []*enginetest.Node{n}, TimesOut: true})
		if n.Engine.(*Engine).Stats().CaughtUp == 0 {
			t.Error("no channel was read again: no answer was lost")
		}
	})
	t.Run("of a cluster", func(t *testing.T) {
		t.Parallel()
		s := natstest.Start(t, natstest.Options{JetStream: true})
		enginetest.Order(t, startClusterWith(t, 2, lose, s.URL()).rig())
	})
}

// Nodes with another prefix share nothing, not even a name.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	var all []*cluster
	for range 2 {
		all = append(all, startClusterWith(t, 1, func(c *Config) { c.Name = "one" }, srv.URL()))
	}
	for _, name := range []string{"x", "none"} {
		var readers []*watcher
		for _, c := range all {
			readers = append(readers, watch(t, c.nodes[0], name))
			defer readers[len(readers)-1].leave()
		}
		for i, c := range all {
			newSender(t, c.nodes[0]).publishes(name, fmt.Sprint(name, i))
		}
		for i, r := range readers {
			r.wants("its own only", fmt.Sprint(name, i))
		}
	}
	for i, c := range all {
		e := c.nodes[0].Engine
		nodes, err := engine.Wait(t.Context(), e.Info)
		if err != nil || len(nodes.List) > 0 || e.(*Engine).Stats().Nodes != 1 {
			t.Errorf("nodes: %+v, %v", nodes, err)
		}
		q := engine.HistoryQuery{Channel: "x", Most: channel.Bounds{Count: -1}, Now: time.Now().UnixMilli()}
		got, err := engine.Wait(t.Context(), func(done func(channel.Collected, error)) { e.History(q, done) })
		if err != nil || len(got.Publications) != 1 || string(got.Publications[0].Payload) != fmt.Sprint("x", i) {
			t.Errorf("history: %+v, %v", got, err)
		}
	}
}
