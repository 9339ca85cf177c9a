package nats

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"
)

// A node's clock jumps by days, there and back. Its connections, other nodes and live messages do not depend on
// it. A history that is read with a wrong clock may seem to be older than it is kept: that is a gap, and
// nothing is missing without one.
func TestClockThatJumps(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	var ahead [2]atomic.Int64 // of each node's clock, in ns
	c := startClusterWith(t, 2, func(cfg *Config) {
		mine := &ahead[cfg.NodeID-1]
		cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(mine.Load())) }
	}, srv.URL())
	var readers []*watcher
	var senders []*sender
	for _, n := range c.nodes {
		clienttest.WaitFor(t, "the nodes to know each other", func() bool { return n.Engine.(*Engine).nodes.Load().live.Load() == 2 })
		for _, name := range []string{"x", "none"} {
			w := watch(t, n, name)
			defer w.leave()
			readers = append(readers, w)
		}
		senders = append(senders, newSender(t, n))
	}
	first := senders[0].publishes("x", "0")
	senders[0].publishes("none", "0")
	want := []string{"0"}
	for i, jump := range []time.Duration{48 * time.Hour, 0, -48 * time.Hour, 0} {
		ahead[0].Store(int64(jump))
		for j, s := range slices.Backward(senders) { // so that what is older by the wrong clock comes first
			s.at = time.Now().Add(time.Duration(ahead[j].Load()))
			payload := fmt.Sprint(i+1, "-", j)
			s.publishes("x", payload)
			s.publishes("none", payload)
			want = append(want, payload)
			for _, r := range readers {
				r.wants(fmt.Sprintf("%v ahead", jump), want...)
			}
		}
		for _, n := range c.nodes {
			compared(t, n.Engine.(*Engine), "x")
			if live := n.Engine.(*Engine).nodes.Load().live.Load(); live != 2 {
				t.Errorf("%v ahead: %d nodes are live", jump, live)
			}
		}
		for j, n := range c.nodes {
			got, err := engine.Wait(t.Context(), func(done func(channel.Collected, error)) {
				n.Engine.History(engine.HistoryQuery{Channel: "x", Since: &channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: first.Epoch, Offset: first.Offset}},
					Most: channel.Bounds{Count: -1}, Now: time.Now().UnixMilli() + ahead[j].Load()/int64(time.Millisecond)}, done)
			})
			if err != nil {
				t.Fatal(err)
			}
			if k := len(got.Publications); k < len(want)-1 != got.Gap {
				t.Errorf("%v ahead: node %d has %d of %d publications, gap: %v", jump, j, k, len(want)-1, got.Gap)
			}
		}
	}
	for _, r := range readers {
		r.wants("after all", want...)
	}
}
