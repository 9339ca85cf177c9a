package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// ReloadOptions are the settings of [Reload]. Zero means the default. Of Options, those that say how to connect are used,
// and not those that name a server: the scenario starts its own.
type ReloadOptions struct {
	Options
	Program     string        // the gateway's; this one
	Serve       []string      // more flags of the gateway
	Connections int           // 10,000, of the Centrifugo protocol
	Each        int           // subscriptions of each connection; 10
	Rate        float64       // messages per second to all connections; none
	Size        int           // payload bytes; 64
	Reloads     int           // in a row; 20
	Every       time.Duration // from one to the next, if it has ended by then; 1.2 s
	CatchUp     time.Duration // without any delivery, after which missing messages are lost; 5 s
}

// reloadChannels is how many channels the subscriptions beyond the first of each connection are spread over.
const reloadChannels = 1000

// reloadRun is a run under way: as of upgrades, but for what happens meanwhile.
type reloadRun struct {
	upgradeRun
	each    int
	dir     string
	reloads []reloaded
}

// reloaded is what the gateway says of a reload, and how long the request has taken.
type reloaded struct {
	Changed      []struct{ Name string } `json:"changed"`
	Unsubscribed int                     `json:"unsubscribed"`
	Disconnected int                     `json:"disconnected"`
	Took         time.Duration           `json:"took_ns"`

	answered time.Duration
}

// Reload starts a gateway, connects clients to it, and has it reload its configuration, in which the namespaces have changed
// each time, while publishers go on. It counts lost and repeated messages and connections that end, and compares how long
// clients waited with how long they did for an equally long time before. The error is as of [Fanout].
func Reload(ctx context.Context, o ReloadOptions) (*Result, error) {
	setDefault(&o.Connections, 10_000)
	setDefault(&o.Each, 10)
	setDefault(&o.Size, 64)
	setDefault(&o.Reloads, 20)
	setDefault(&o.Every, DefaultEvery)
	setDefault(&o.CatchUp, DefaultUpgradeCatchUp)
	o.Channel, o.Channels = upgradeChannel, 1
	setDefault(&o.Timeout, DefaultTimeout)
	of := UpgradeOptions{
		Options: o.Options, Program: o.Program, Serve: o.Serve, Connections: o.Connections, Protocols: []Protocol{Centrifugo},
		Rate: o.Rate, Size: o.Size, Upgrades: o.Reloads, Every: o.Every, CatchUp: o.CatchUp,
	}
	run, err := o.Begin("reload", o.Connections+probeConnections+3, func(f *Faults) {
		f.Between("--reloads", o.Reloads, 1, 1000)
		f.Between("--subscriptions", o.Each, 1, eachMost)
		of.check(f)
	})
	if err != nil {
		return nil, err
	}
	r := &reloadRun{upgradeRun: upgradeRun{UpgradeOptions: of, Run: run, clock: newClock(), mark: newMark()}, each: o.Each}
	defer withThreads(o.Loops + 3)()
	return r.End(ctx, r.run(ctx))
}

func (r *reloadRun) run(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "sluice-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir) // ignored: it is a temporary directory
	r.Show(func() string { return "starting the gateway" })
	if err := r.startGateway(ctx); err != nil {
		return err
	}
	defer r.gateway.stop()
	defer r.disconnect()
	if err := errors.Join(r.connect(ctx), r.subscribeAll(ctx)); err != nil || ctx.Err() != nil {
		return err
	}
	base, err := r.phase(ctx, 1, "baseline", nil)
	if err != nil || ctx.Err() != nil {
		return err
	}
	then, err := r.phase(ctx, 2, "reloading", r.reloadAll)
	r.reportReloads(base, then)
	if err == nil && then.probes.latency.TotalCount() == 0 {
		err = errors.New("no probe came back")
	}
	for _, f := range r.fleets {
		err = errors.Join(err, f.err())
	}
	return err
}

// write writes the configuration. Each number makes other ones of all namespaces' options, and of a limit.
func (r *reloadRun) write(number int) error {
	const allowed = `"allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true,"allow_publish_for_client":true,"allow_publish_for_anonymous":true,"allow_raw_publish":true`
	conf := fmt.Sprintf("namespaces = %s\nmax-per-address = %d\n", filepath.Join(r.dir, "namespaces"), 100_000+number)
	text := fmt.Sprintf(`{"without_namespace":{%s,"history_size":%d,"history_ttl":"60s"},"namespaces":[{"name":"more",%[1]s,"history_size":%[2]d,"history_ttl":"60s"}]}`, allowed, 1+number)
	return errors.Join(os.WriteFile(filepath.Join(r.dir, "conf"), []byte(conf), 0o600), os.WriteFile(filepath.Join(r.dir, "namespaces"), []byte(text), 0o600))
}

// startGateway starts the gateway.
func (r *reloadRun) startGateway(ctx context.Context) (err error) {
	if err := r.write(0); err != nil {
		return err
	}
	program := r.Program
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return err
		}
	}
	flags := []string{"--config", filepath.Join(r.dir, "conf"), "--raw", "publish", "--drain-duration", "off", "--log-format", "json", "--max-connections", fmt.Sprint(r.Connections + probeConnections + 10)}
	if r.gateway, err = startLineage(ctx, program, append(flags, r.Serve...)); err == nil {
		r.server = processes{r.gateway.pid}
	}
	return err
}

// subscribeAll subscribes each connection to more channels.
func (r *reloadRun) subscribeAll(ctx context.Context) error {
	var conns []*conn
	for _, l := range r.fleets[0].loops {
		l.do(func() { conns = append(conns, l.conns...) })
	}
	var channels []*channel
	for i := range reloadChannels {
		channels = append(channels, newChannel(fmt.Sprintf("more:%d", i)))
	}
	var done atomic.Int64
	r.Show(func() string { return fmt.Sprintf("%d of %d have all subscriptions", done.Load(), len(conns)) })
	return parallel(ctx, 64, len(conns), func(ctx context.Context, i int) (err error) {
		c := conns[i]
		c.loop.do(func() {
			for k := range r.each - 1 {
				c.session.join(channels[(i*(r.each-1)+k)%reloadChannels], nil)
			}
			if frame := c.session.flush(); c.cut {
				err = errClosed
			} else if len(frame) > 0 {
				err = c.write(frame)
			}
		})
		if err == nil && r.each > 1 {
			err = c.session.wait(ctx, r.Timeout)
		}
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, len(conns), err)
		}
		done.Add(1)
		return nil
	})
}

// reloadAll makes the reloads, one after the other.
func (r *reloadRun) reloadAll(ctx context.Context) error {
	begin := time.Now()
	for i := range r.Upgrades {
		wait(ctx, time.Until(begin.Add(time.Duration(i)*r.Every+r.Every/4)))
		if ctx.Err() != nil {
			return nil
		}
		if err := r.write(i + 1); err != nil {
			return err
		}
		var one reloaded
		asked := time.Now()
		if err := r.gateway.post(ctx, "/api/reload", "", &one); err != nil {
			return fmt.Errorf("reload %d: %w", i+1, err)
		}
		one.answered = time.Since(asked)
		if len(one.Changed) != 2 {
			return fmt.Errorf("reload %d has changed %v, want the namespaces and a limit", i+1, one.Changed)
		}
		r.reloads = append(r.reloads, one)
	}
	wait(ctx, r.Every/2)
	return nil
}

// reportReloads turns both phases into figures.
func (r *reloadRun) reportReloads(base, then *upgradePhase) {
	res, a := r.Result, then.all
	res.SetCounts(map[string]int64{
		"connections": int64(a.subscribers), "subscriptions": int64(a.subscribers * r.each), "reloads": int64(len(r.reloads)), "disconnected": a.cut + then.probes.cut,
		"published": int64(a.published), "delivered": a.delivered, "lost": a.lost + then.probes.lost, "repeated": a.repeated + then.probes.repeated,
		"reordered": a.reordered, "holes": a.holes + a.gaps, "foreign": a.foreign,
	})
	res.setLatency("baseline_", base.all.latency)
	res.setLatency("", a.latency)
	res.setLatency("baseline_probe_", base.probes.latency)
	res.setLatency("probe_", then.probes.latency)
	beyond := func(base, then int64) float64 { return max(0, float64(then-base)/1e6) }
	res.Set("pause_beyond", max(beyond(base.probes.latency.Max(), then.probes.latency.Max()), beyond(base.all.latency.Max(), a.latency.Max())))
	var took, answered []time.Duration
	ended := 0
	for _, one := range r.reloads {
		took, answered, ended = append(took, one.Took), append(answered, one.answered), ended+one.Unsubscribed+one.Disconnected
	}
	if n := len(took); n > 0 {
		slices.Sort(took)
		slices.Sort(answered)
		res.Set("took_p50", took[(n-1)/2].Seconds())
		res.Set("took_max", took[n-1].Seconds())
		res.Set("answered_max", answered[n-1].Seconds())
		res.Set("ended", float64(ended))
	}
	res.Set("baseline_cpu_percent", 100*base.all.used.server.Seconds()/base.all.elapsed.Seconds())
	res.Set("server_cpu_percent", 100*a.used.server.Seconds()/a.elapsed.Seconds())
	res.Set("generator_cpu_percent", 100*a.used.own.Seconds()/a.elapsed.Seconds())
	for _, l := range r.fleets[0].loops {
		l.do(func() { res.addCloses(l.closes) })
	}
	res.setGenerator(a)
	res.judgeGenerator(a)
}
