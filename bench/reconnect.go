package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/poller"
)

// ReconnectOptions are the settings of [Reconnect]. Zero means the default; Protocol must
// be one of Centrifugo's.
type ReconnectOptions struct {
	Options
	Connections int           // 10,000
	Outstanding int           // clients that reconnect at a time; 512
	Missed      int           // messages published while the clients are away; 20
	PublishURL  string        // publish by POST to this URL instead of over WebSocket; none
	Size        int           // payload bytes; 64
	Settle      time.Duration // between leaving, publishing and reconnecting; 2 s, negative: none
}

// DefaultAway is the default of ReconnectOptions.Settle.
const DefaultAway = 2 * time.Second

// reconnect is a run under way.
type reconnect struct {
	ReconnectOptions
	target   target
	result   *Result
	server   *process
	progress *progress
}

// Reconnect disconnects all clients of a channel, publishes, and measures the time until
// all of them have reconnected and recovered what they missed. It checks that each got all
// of it, once and in order. The error is as of [Fanout].
func Reconnect(ctx context.Context, o ReconnectOptions) (*Result, error) {
	setDefault(&o.Protocol, Centrifugo)
	o.setDefaults()
	setDefault(&o.Connections, 10_000)
	setDefault(&o.Outstanding, 512)
	setDefault(&o.Missed, 20)
	setDefault(&o.Size, 64)
	setDefault(&o.Settle, DefaultAway)
	var f faults
	t := o.target(&f)
	if t.audience == nil {
		f.add("--protocol is %s: use centrifugo or centrifugo-protobuf", o.Protocol)
	}
	if o.Channels > 1 {
		f.add("--channels is %d: this scenario uses one channel", o.Channels)
	}
	f.atLeast("--connections", o.Connections, 1)
	f.atLeast("--outstanding", o.Outstanding, 1)
	f.atLeast("--missed", o.Missed, 1)
	f.atLeast("--size", o.Size, objectMin)
	if err := f.err(); err != nil {
		return nil, err
	}
	o.Outstanding = min(o.Outstanding, o.Connections)
	server, err := watch(o.PID)
	if err != nil {
		return nil, err
	}
	r := &reconnect{o, t, newResult("reconnect"), server, newProgress(o.Progress)}
	defer r.progress.stop()
	return r.result.end(ctx, r.run(ctx))
}

func (r *reconnect) run(ctx context.Context) error {
	since, err := r.stood(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	wait(ctx, r.Settle)
	r.target.audience.since = []position{since}
	fl, err := newFleet(r.target, r.Loops)
	if err != nil {
		return err
	}
	defer fl.close() // ignored: the figures have been taken
	a := &account{schedule: schedule{
		phase: phase{mark: newMark().inPhase(1), streams: 1, count: r.Missed},
		clock: fl.clock, size: r.Size, publishers: 1, object: true,
	}, sendings: make([]sending, 1)}
	if err := r.publish(ctx, a); err != nil || ctx.Err() != nil {
		return err
	}
	wait(ctx, r.Settle)
	fl.begin(a.phase, r.Connections)
	d := dialing{connections: r.Connections, outstanding: r.Outstanding, keepGoing: true}
	r.progress.show(func() string { return fmt.Sprintf("reconnected %d of %d", d.done.Load(), d.connections) })
	serverBefore := r.server.cpu()
	ownBefore, _ := poller.ProcessCPU(0) // ignored: a process may always ask for its own time
	if err := fl.dial(ctx, &d); err != nil {
		return err
	}
	a.serverCPU = r.server.cpu() - serverBefore
	ownAfter, _ := poller.ProcessCPU(0) // ignored: as above
	a.generatorCPU, a.elapsed = ownAfter-ownBefore, d.elapsed
	(&fanout{fleet: fl}).settle(a)
	r.report(a, &d)
	r.result.setConnections(fl)
	if d.done.Load() == 0 && d.firstErr != nil {
		return fmt.Errorf("no client reconnected: %w", d.firstErr)
	}
	return fl.err()
}

// stood connects all clients, sees where they stand, and lets them go.
func (r *reconnect) stood(ctx context.Context) (at position, err error) {
	fl, err := newFleet(r.target, r.Loops)
	if err != nil {
		return at, err
	}
	defer fl.close() // ignored: they are to leave
	d := dialing{connections: r.Connections, outstanding: r.Dialing}
	r.progress.show(func() string { return fmt.Sprintf("connected %d of %d", d.done.Load(), d.connections) })
	if err := fl.dial(ctx, &d); err != nil || ctx.Err() != nil {
		return at, err
	}
	for _, l := range fl.loops {
		l.do(func() {
			for _, c := range l.conns {
				own := position{c.session.subs[0].epoch, c.next - 1}
				switch {
				case own.epoch == "":
					err = errors.New("a subscription has no position: does the channel keep a history that clients can recover from (history_size, history_ttl and force_recovery in its namespace)?")
				case at.epoch != "" && own != at:
					err = fmt.Errorf("one client is at position %v, another at %v: is another client publishing to the channel (--channel)?", at, own)
				}
				at = own
			}
		})
	}
	return at, err
}

// publish sends what the clients miss. A witness stays for it: what the server has taken
// from a publisher is not yet published.
func (r *reconnect) publish(ctx context.Context, a *account) (err error) {
	witness := r.target
	staying := *r.target.audience
	staying.since, witness.audience = nil, &staying
	fl, err := newFleet(witness, 1)
	if err != nil {
		return err
	}
	defer fl.close() // ignored: it has seen what it was there for
	if err := fl.dial(ctx, &dialing{connections: 1, outstanding: 1}); err != nil || ctx.Err() != nil {
		return err
	}
	fl.begin(a.phase, 0)
	p, err := newPublisher(ctx, r.target, r.PublishURL)
	if err != nil {
		return err
	}
	defer p.close()
	a.start = a.clock.now()
	a.sendings[0] = a.schedule.publish(ctx, p, 0)
	a.published = int(a.sendings[0].published)
	if err := a.sendings[0].err; err != nil {
		return err
	}
	(&fanout{FanoutOptions: FanoutOptions{CatchUp: r.Timeout}, fleet: fl}).await(ctx, a, 0)
	if n := fl.delivered(); n < int64(a.published) && ctx.Err() == nil {
		return fmt.Errorf("only %d of %d messages arrived: do the publisher and the clients use the same channel (--channel, --publish-url)?", n, a.published)
	}
	return nil
}

func (r *reconnect) report(a *account, d *dialing) {
	res := r.result
	n := float64(d.done.Load())
	res.set("connections", float64(d.connections))
	res.set("returned", n)
	res.set("failed", float64(d.failed))
	res.set("published", float64(a.published))
	res.set("delivered", float64(a.delivered))
	res.set("lost", float64(a.lost))
	res.set("repeated", float64(a.repeated))
	res.set("reordered", float64(a.reordered))
	res.set("holes", float64(a.holes))
	res.set("repeats", float64(a.repeats))
	res.set("gaps", float64(a.gaps))
	res.set("elapsed", d.elapsed.Seconds())
	res.set("returns_per_second", n/d.elapsed.Seconds())
	res.setLatency("", d.latency)
	res.setHandshakes(r.target)
	res.set("generator_cpu_percent", 100*a.generatorCPU.Seconds()/d.elapsed.Seconds())
	if d.firstErr != nil {
		res.Notes = append(res.Notes, "first failure: "+d.firstErr.Error())
	}
	if a.gaps > 0 {
		res.Notes = append(res.Notes, "gaps: the server keeps fewer messages than the clients missed. Raise history_size of the namespace, or lower --missed")
	}
	if r.server == nil {
		return
	}
	res.set("server_cpu", a.serverCPU.Seconds())
	res.set("server_cpu_percent", 100*a.serverCPU.Seconds()/d.elapsed.Seconds())
	if n > 0 {
		res.set("server_cpu_per_return", a.serverCPU.Seconds()/n)
	}
	if rss, err := r.server.rss(); err == nil { // else it has died, and the figure is absent
		res.set("server_rss", float64(rss))
	}
}
