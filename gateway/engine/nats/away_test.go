package nats

import (
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
)

// A node whose server is alone has a connection, and no store: also if it publishes nothing.
func TestStoreIsAwayWithoutAMajority(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{JetStream: true})
	e := startCluster(t, 1, servers.URLs()[0]).nodes[0].Engine.(*Engine)
	up := func() (connection, store bool) {
		parts := e.Stats().Parts
		return parts[0].Up, parts[1].Up
	}
	clienttest.WaitFor(t, "the store", func() bool { _, store := up(); return store })
	servers.Servers[1].Stop()
	servers.Servers[2].Stop()
	clienttest.WaitFor(t, "the store is away", func() bool { _, store := up(); return !store })
	if connection, _ := up(); !connection {
		t.Error("the connection is away, too")
	}
	servers.Servers[1].Restart()
	clienttest.WaitFor(t, "the store is back", func() bool { _, store := up(); return store })
}

// Servers answer questions about streams that cannot store anything, so opening one again proves nothing.
func TestStreamThatIsOpenedAgainIsAwayStill(t *testing.T) {
	old := &streams{all: []*stream{{name: "A"}, {name: "B"}}}
	old.all[0].flow.away.Store(true)
	again := &streams{all: []*stream{{name: "A"}, {name: "B"}, {name: "C"}}}
	again.inherit(old.all)
	for i, want := range []bool{true, false, false} {
		if got := again.all[i].flow.away.Load(); got != want {
			t.Errorf("stream %s: away %v, want %v", again.all[i].name, got, want)
		}
	}
}
