package main

import (
	"slices"
	"time"
)

// killedServer: one of three NATS servers is killed and started again, over and over.
func killedServer(r *Run) error {
	gateways := Param(r, "gateways", 2, 3)
	servers := Param(r, "nats_servers", 3, 3)
	o := r.crowd(crowdOptions{120, 2, 60, 200}, crowdOptions{6000, 20, 120, 200})
	kills := Param(r, "kills", 1, 30)
	between := Param(r, "between", 200*time.Millisecond, 5*time.Second)
	away := Param(r, "away", 200*time.Millisecond, 6*time.Second)
	caughtUp := Param(r, "caught_up_within", 30*time.Second, 5*time.Second)
	p := r.StartCluster(gateways, servers, 5000).populate(o)
	var took []time.Duration
	for i := range kills {
		noError(r.Pause(between))
		p.KillServer(i % servers)
		noError(r.Pause(away))
		p.StartServer(i % servers)
		took = append(took, p.AwaitCurrent(p.clients))
	}
	p.finish(currentWithin)
	r.Check("caught up", slices.Max(took) <= caughtUp, "at most %v after all servers were healthy, at most %v allowed", slices.Max(took), caughtUp)
	return nil
}
