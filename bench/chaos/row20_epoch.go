package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// lostHistories: what is stored is lost again and again, so that the order of each channel begins anew.
func lostHistories(r *Run) error {
	o := r.crowd(crowdOptions{60, 2, 60, 200}, crowdOptions{600, 5, 100, 200})
	times := Param(r, "times_each", 2, 50)
	between := Param(r, "between", 300*time.Millisecond, time.Second)

	r.Phase("a data directory")
	data := filepath.Join(r.Dir, "data")
	p := r.StartCluster(1, 0, 5000, "--data-dir", data).populate(o)
	r.loseHistories(p, times, between, func() {
		p.KillGateway(0)
		noError(os.RemoveAll(data))
		p.StartGateway(0)
	})

	r.Phase("streams")
	p = r.StartCluster(Param(r, "gateways", 2, 3), 1, 5000).populate(o)
	r.loseHistories(p, times, between, func() {
		p.KillServer(0)
		noError(errors.Join(os.RemoveAll(p.Servers[0].Dir), os.MkdirAll(p.Servers[0].Dir, 0o755)))
		p.StartServer(0)
	})
	return nil
}

// loseHistories has every client of a channel with history be notified of each loss.
func (r *Run) loseHistories(p *populated, times int, between time.Duration, lose func()) {
	for range times {
		noError(r.Pause(between))
		lose()
		p.AwaitCurrent(p.clients)
	}
	p.Judge(p.crew, true)
	recovered, _ := r.resumptions()
	r.Check("recovered", recovered == 0, "%d clients came back and were told that they have missed nothing", recovered)
	kept, fewest := 0, times
	for _, c := range p.clients {
		if c.numbers == nil {
			kept++
			fewest = min(fewest, c.account.ends(Gap, -1))
		}
	}
	r.Check("notified", fewest >= times && kept > 0, "each of %d clients of channels with history has at least %d gap records, for %d losses", kept, fewest, times)
	p.end()
}
