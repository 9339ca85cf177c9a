package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/bench/sys"
)

// StormOptions are the settings of [Storm]. Zero means the default.
type StormOptions struct {
	Options
	Connections int           // 10,000
	Outstanding int           // upgrades in progress at a time; 512
	Hold        time.Duration // how long the connections are kept after the last upgrade; not at all
}

// Storm measures many clients that connect at once. Each connection is opened, upgraded
// and kept until the last one has connected. The error is as of [Fanout].
func Storm(ctx context.Context, o StormOptions) (*Result, error) {
	setDefault(&o.Connections, 10_000)
	setDefault(&o.Outstanding, 512)
	r, err := o.Begin("storm", 0, func(f *Faults) {
		f.AtLeast("--connections", o.Connections, 1)
		f.AtLeast("--outstanding", o.Outstanding, 1)
	})
	if err != nil {
		return nil, err
	}
	fl, err := newFleet(r.target, o.Loops)
	if err != nil {
		return r.End(ctx, err)
	}
	defer fl.close() // ignored: the figures have been taken
	d := &dialing{connections: o.Connections, outstanding: min(o.Outstanding, o.Connections), keepGoing: true}
	overflows, before := sys.ListenOverflows(), r.Usage()
	if err := r.dial(ctx, fl, "upgraded", d); err != nil {
		return r.End(ctx, err)
	}
	used, res := r.Since(before), r.Result
	res.Set("listen_overflows", float64(sys.ListenOverflows()-overflows))
	res.Set("connections", float64(d.connections))
	res.setUpgrades(d)
	res.setLatency("", d.latency)
	res.Set("elapsed", d.elapsed.Seconds())
	r.SetUsage(used, d.elapsed, "server_cpu_per_upgrade", d.done.Load())
	if _, err = r.rss(); err == nil {
		wait(ctx, o.Hold)
	}
	res.setConnections(fl)
	if err == nil && d.done.Load() == 0 && d.firstErr != nil {
		err = fmt.Errorf("no connection was upgraded: %w", d.firstErr)
	} else {
		res.noteFailure(d.firstErr)
	}
	return r.End(ctx, errors.Join(err, fl.err()))
}

func (r *Result) setUpgrades(d *dialing) {
	n := float64(d.done.Load())
	r.Set("upgraded", n)
	r.Set("failed", float64(d.failed))
	r.Set("upgrades_per_second", n/d.elapsed.Seconds())
}
