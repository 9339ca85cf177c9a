package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"
)

// secureBack is how long clients with TLS have to come back after an upgrade: each makes a handshake.
const secureBack = 2 * time.Minute

// secureUpgrade is a run under way whose clients have TLS: they cannot travel, and come back.
type secureUpgrade struct {
	upgradeRun
	crowd *Crowd
}

// upgradeSecure is Upgrade for clients with TLS, which speak the Centrifugo protocol.
func upgradeSecure(ctx context.Context, o UpgradeOptions) (*Result, error) {
	var f Faults
	if o.check(&f); f.err() != nil {
		return nil, f.err()
	}
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // ignored: it is a temporary directory
	gateway, err := o.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer gateway.stop()
	o.URL, o.TLS.Insecure, o.Protocol = "wss://"+gateway.secure, true, Centrifugo
	c, err := Gather(ctx, CrowdOptions{Options: o.Options, Clients: o.Connections, Publishers: 1, Rate: o.Rate, Size: o.Size, scenario: "upgrade"})
	if err != nil {
		return nil, err
	}
	defer c.Close() // ignored: the figures have been taken
	u := &secureUpgrade{upgradeRun{UpgradeOptions: o, Run: c.run, gateway: gateway}, c}
	return u.End(ctx, u.run(ctx))
}

func (u *secureUpgrade) run(ctx context.Context) error {
	c := u.crowd
	u.Show(func() string {
		return fmt.Sprintf("%d of %d upgrades, %d of %d clients are connected", len(u.upgrades), u.Upgrades, c.Connected(), u.Connections+1)
	})
	c.Publish()
	wait(ctx, u.length())
	u.Result.setTimes("baseline_", c.Report().Latency)
	c.ResetTimes()
	err := u.upgradeAll(ctx)
	c.Pause(ctx)
	current := c.Await(ctx, secureBack)
	u.report()
	if rep := c.Report(); err == nil && !current && ctx.Err() == nil {
		err = fmt.Errorf("%d of %d clients are connected, or some have not got everything (%v)", rep.Connected, rep.Clients, rep.Failure)
	}
	return err
}

// upgradeAll makes the upgrades: each when all clients are back.
func (u *secureUpgrade) upgradeAll(ctx context.Context) error {
	for i := range u.Upgrades {
		wait(ctx, u.Every)
		if !u.crowd.Await(ctx, secureBack) {
			return fmt.Errorf("before upgrade %d: %d of %d clients are connected after %v (%v)", i+1, u.crowd.Connected(), u.Connections+1, secureBack, u.crowd.Report().Failure)
		}
		r, err := u.gateway.upgrade(ctx)
		if err != nil {
			return fmt.Errorf("upgrade %d: %w", i+1, err)
		}
		u.upgrades = append(u.upgrades, r)
	}
	return nil
}

func (u *secureUpgrade) report() {
	res, rep := u.Result, u.crowd.Report()
	var ended, told int64
	for _, l := range u.crowd.fleet.loops {
		l.do(func() {
			ended += l.journal.ended
			res.addCloses(l.closes)
		})
	}
	for _, code := range []int{1012, 3001} { // service restart; shutdown, in the Centrifugo protocol
		told += res.Closes[strconv.Itoa(code)]
	}
	res.SetCounts(map[string]int64{
		"connections": int64(u.Connections), "upgrades": int64(len(u.upgrades)), "closed": ended, "asked": told,
		"returned": rep.Back.Count, "recovered": rep.Recovered, "unrecovered": rep.Unrecovered + rep.Outside,
		"published": rep.Acknowledged, "refused": rep.Refused, "unknown": rep.Unknown, "delivered": rep.Delivered,
		"lost": rep.Missing, "told": rep.Told, "repeated": rep.Repeated, "reordered": rep.Reordered,
	})
	res.setTimes("back_", rep.Back)
	res.setTimes("", rep.Latency)
	u.reportHandovers()
}
