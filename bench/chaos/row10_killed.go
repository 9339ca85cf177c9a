package main

import (
	"path/filepath"
	"time"
)

// killedNode: gateways are killed, one after the other, and start again after a while.
func killedNode(r *Run) error {
	gateways := Param(r, "gateways", 3, 3)
	servers := Param(r, "nats_servers", 1, 3)
	o := r.crowd(crowdOptions{180, 2, 60, 200}, crowdOptions{6000, 20, 120, 200})
	kills := Param(r, "kills", 2, 20)
	between := Param(r, "between", 200*time.Millisecond, 10*time.Second)
	away := Param(r, "away", 300*time.Millisecond, 5*time.Second)
	back := Param(r, "back_within", 30*time.Second, 10*time.Second)
	kill := func(p *populated, back time.Duration) {
		for range kills {
			noError(r.Pause(between))
			i := r.random.IntN(len(p.Gateways))
			p.KillGateway(i)
			noError(r.Pause(away))
			p.StartGateway(i)
			p.AwaitCurrent(p.clients)
		}
		p.finish(back)
		r.Check("the faults happened", r.returns.TotalCount() > 0, "%d clients came back", r.returns.TotalCount())
		p.end()
	}
	r.Phase("one with --data-dir")
	kill(r.StartCluster(1, 0, 5000, "--data-dir", filepath.Join(r.Dir, "data")).populate(o), away+back) // clients cannot come back before it has started
	r.Phase("one of several")
	kill(r.StartCluster(gateways, servers, 5000).populate(o), back)
	return nil
}
