package nats

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"
)

// eachItsServer returns n nodes, of which each is connected to another server of a cluster.
func eachItsServer(t *testing.T, servers *natstest.Cluster, n int) *cluster {
	t.Helper()
	c := startClusterWith(t, n, func(cfg *Config) {
		cfg.Servers.URLs = servers.URLs()[cfg.NodeID-1 : cfg.NodeID]
		cfg.test.patience = patience // what goes to a leader that is cut off is lost
	}, servers.URLs()...)
	for _, node := range c.nodes {
		clienttest.WaitFor(t, "the nodes to know each other", func() bool { return node.Engine.(*Engine).nodes.Load().live.Load() == int64(n) })
	}
	return c
}

// publishesSoon publishes until that is acknowledged: a stream may have lost its leader.
func (s *sender) publishesSoon(name, payload string) {
	s.t.Helper()
	clienttest.WaitFor(s.t, "a leader that stores "+payload, func() bool {
		return s.sends(name, payload) == engine.ErrPending && clienttest.Receive(s.t, "an answer", s.answers).err == nil
	})
}

// A server is cut off from the others, and its clients stay connected to it. What they have missed comes when the
// server is back, although nothing is published any more. Without a history it is a gap.
func TestServerThatIsCutOff(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{JetStream: true, Cuttable: true})
	c := eachItsServer(t, servers, 2)
	r, live := watch(t, c.nodes[0], "x"), watch(t, c.nodes[0], "none")
	defer r.leave()
	defer live.leave()
	for i := range 120 { // so that the round of checks takes longer
		defer watch(t, c.nodes[0], fmt.Sprint("other", i)).leave()
	}
	s := newSender(t, c.nodes[1])
	s.publishes("x", "before")
	s.publishes("none", "before")
	r.has("before")
	live.has("before")
	servers.Cut(0)
	s.publishesSoon("x", "meanwhile")
	s.publishes("none", "meanwhile")
	since := time.Now()
	servers.Rejoin(0)
	r.has("meanwhile")
	if took := time.Since(since); took > 50*time.Second { // a few seconds, on any machine; the round takes a minute
		t.Errorf("it took %v: a comparison with a replica that was behind must not be the last before the round", took)
	}
	live.has("gap")
	s.publishesSoon("x", "after")
	s.publishes("none", "after")
	r.has("after")
	live.has("after")
	if got := r.lines(); slices.Contains(got, "gap") {
		t.Errorf("got %q, and all is stored", got)
	}
	if got := live.lines(); slices.Contains(got, "meanwhile") {
		t.Errorf("got %q: nothing was cut off", got)
	}
}

// A server in lame duck mode hands over what it leads, and then its clients. Nothing of a history is lost.
func TestServerThatLeaves(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{JetStream: true})
	c := startClusterWith(t, 2, func(cfg *Config) { cfg.test.patience = patience }, servers.URLs()...)
	r, live := watch(t, c.nodes[0], "x"), watch(t, c.nodes[0], "none")
	defer r.leave()
	defer live.leave()
	s := newSender(t, c.nodes[1])
	s.publishes("x", "before")
	s.publishes("none", "before")
	r.has("before")
	live.has("before")
	e, published := c.nodes[0].Engine.(*Engine), 0
	for _, leaving := range []*natstest.Server{servers.Leader(e.stream("x").name), servers.Named(e.link.main.ConnectedServerName())} {
		left := make(chan struct{})
		go func() {
			defer close(left)
			leaving.Leave()
		}()
		for over := false; !over; {
			select {
			case <-left:
				over = true
			case <-time.After(20 * time.Millisecond):
			}
			s.publishesSoon("x", "meanwhile")
			s.publishesSoon("none", "meanwhile")
			published++
		}
		leaving.Restart()
		servers.Settle()
	}
	s.publishesSoon("x", "after")
	s.publishesSoon("none", "after")
	r.has("after")
	live.has("after")
	got := func(w *watcher, what string) (n int) {
		for _, line := range w.lines() {
			if line == what {
				n++
			}
		}
		return n
	}
	if n := got(r, "meanwhile"); n < published || got(r, "gap") > 0 { // one without an answer may be stored, too
		t.Errorf("%d of %d came, and %d gaps, and all is stored", n, published, got(r, "gap"))
	}
	clienttest.WaitFor(t, "all that was published without a history, or a gap", func() bool { return got(live, "meanwhile") >= published || got(live, "gap") > 0 })
}
