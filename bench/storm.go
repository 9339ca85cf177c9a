package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/poller"
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
	o.setDefaults()
	setDefault(&o.Connections, 10_000)
	setDefault(&o.Outstanding, 512)
	if o.Connections > 0 {
		o.Outstanding = min(o.Outstanding, o.Connections)
	}
	var f faults
	t := o.target(&f)
	f.atLeast("--connections", o.Connections, 1)
	f.atLeast("--outstanding", o.Outstanding, 1)
	if err := f.err(); err != nil {
		return nil, err
	}
	server, err := watch(o.PID)
	if err != nil {
		return nil, err
	}
	res := newResult("storm")
	progress := newProgress(o.Progress)
	defer progress.stop()
	fl, err := newFleet(t, o.Loops)
	if err != nil {
		return nil, err
	}
	defer fl.close() // ignored: the figures have been taken
	d, err := res.storm(ctx, fl, server, o, progress)
	if err == nil {
		wait(ctx, o.Hold)
	}
	res.setConnections(fl)
	switch {
	case d.firstErr == nil:
	case err == nil && d.done.Load() == 0:
		err = fmt.Errorf("no connection was upgraded: %w", d.firstErr)
	default:
		res.Notes = append(res.Notes, "first failure: "+d.firstErr.Error())
	}
	return res.end(ctx, errors.Join(err, fl.err()))
}

func (r *Result) storm(ctx context.Context, fl *fleet, server *process, o StormOptions, p *progress) (*dialing, error) {
	d := &dialing{connections: o.Connections, outstanding: o.Outstanding, keepGoing: true}
	p.show(func() string { return fmt.Sprintf("upgraded %d of %d", d.done.Load(), d.connections) })
	var before time.Duration
	if server != nil {
		var err error
		if before, err = poller.ProcessCPU(server.pid); err != nil {
			return d, err
		}
	}
	own, _ := poller.ProcessCPU(0) // ignored: a process may always ask for its own time
	overflows, counted := listenOverflows()
	if err := fl.dial(ctx, d); err != nil {
		return d, err
	}
	if after, ok := listenOverflows(); ok && counted {
		r.set("listen_overflows", float64(after-overflows))
	}
	r.setHandshakes(fl.target)
	ownAfter, _ := poller.ProcessCPU(0) // ignored: as above
	r.set("connections", float64(d.connections))
	r.set("generator_cpu_percent", 100*(ownAfter-own).Seconds()/d.elapsed.Seconds())
	r.setUpgrades(d)
	r.setLatency("", d.latency)
	r.set("elapsed", d.elapsed.Seconds())
	if server == nil {
		return d, nil
	}
	after, err := poller.ProcessCPU(server.pid)
	if err != nil {
		return d, fmt.Errorf("the server has exited: %w", err)
	}
	r.set("server_cpu", (after - before).Seconds())
	r.set("server_cpu_percent", 100*(after-before).Seconds()/d.elapsed.Seconds())
	if n := d.done.Load(); n > 0 {
		r.set("server_cpu_per_upgrade", (after-before).Seconds()/float64(n))
	}
	if rss, err := server.rss(); err == nil { // else it has died, and the figure is absent
		r.set("server_rss", float64(rss))
	}
	return d, nil
}

func (r *Result) setUpgrades(d *dialing) {
	n := float64(d.done.Load())
	r.set("upgraded", n)
	r.set("failed", float64(d.failed))
	r.set("upgrades_per_second", n/d.elapsed.Seconds())
}
