package gateway

import (
	"context"
	"time"

	"sluice/gateway/engine"
	"sluice/gateway/engine/backing"
	"sluice/gateway/event/cluster"
)

// Events of several nodes: package cluster counts the subscribers of all of them, over the engine.

// handOverMost is how long a node that shuts down waits for others to own what it owns.
const handOverMost = 3 * time.Second

// neighbors returns the engine of a node that counts together with others; nil for one that is alone, or cannot.
func (e *events) neighbors() engine.Neighbors {
	if !e.shared() {
		return nil
	}
	n, _ := e.server.engine.Engine.(engine.Neighbors)
	return n
}

// shared reports whether other nodes may have the same channels.
func (e *events) shared() bool {
	form, _ := backing.FormOf(&e.server.cfg.Store)
	return form == backing.Servers
}

// bus implements cluster.Bus.
type bus struct{ engine.Neighbors }

// Others implements cluster.Bus.
func (b bus) Others(done func(list []cluster.Node, ok bool)) {
	b.Neighbors.Neighbors(func(all []engine.Neighbor, ok bool) {
		list := make([]cluster.Node, len(all))
		for i, n := range all {
			list[i] = cluster.Node{ID: n.Node, Name: n.Info.Name, Sends: n.Info.Events, Draining: n.Info.Draining}
		}
		done(list, ok)
	})
}

// Ask implements cluster.Bus.
func (b bus) Ask(node uint64, request []byte, done func(answer []byte, err error)) {
	b.AskNode(node, request, done)
}

// answer answers another node. It reports false if the request is not about events.
func (e *events) answer(request []byte, reply func([]byte)) bool {
	if !cluster.IsMessage(request) {
		return false
	}
	go func() { // it takes longer than the engine may be kept
		e.wanted() // another node wants to know which channels have subscribers here
		e.mu.Lock()
		c, over := e.cluster, e.over
		e.mu.Unlock()
		if c == nil || over || !c.Answer(request, reply) {
			reply(nil)
		}
	}()
	return true
}

// tick has the cluster look at other nodes, until stop. The caller holds mu.
func (e *events) tick() {
	if e.cluster == nil || e.stop != nil || e.over {
		return
	}
	var ctx context.Context
	ctx, e.stop = context.WithCancel(context.Background())
	c := e.cluster
	e.ticking.Go(func() {
		t := time.NewTicker(cluster.Tick)
		defer t.Stop()
		for {
			select {
			case now := <-t.C:
				c.Tick(now)
			case <-ctx.Done():
				return
			}
		}
	})
}

// handOver waits, for a while, until other nodes own what this one owns, which shuts down.
func handOver(ctx context.Context, c *cluster.Cluster) {
	ctx, cancel := context.WithTimeout(ctx, handOverMost)
	defer cancel()
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for !c.Idle() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}
