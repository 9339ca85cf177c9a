package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
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
	*Run
}

// Reconnect disconnects all clients of a channel, publishes, and measures the time until
// all of them have reconnected and recovered what they missed. It checks that each got all
// of it, once and in order. The error is as of [Fanout].
func Reconnect(ctx context.Context, o ReconnectOptions) (*Result, error) {
	setDefault(&o.Protocol, Centrifugo)
	setDefault(&o.Connections, 10_000)
	setDefault(&o.Outstanding, 512)
	setDefault(&o.Missed, 20)
	setDefault(&o.Size, 64)
	setDefault(&o.Settle, DefaultAway)
	run, err := o.Begin("reconnect", 0, o.check)
	if err != nil {
		return nil, err
	}
	r := &reconnect{o, run}
	return r.End(ctx, r.run(ctx))
}

func (o *ReconnectOptions) check(f *Faults) {
	f.HTTP("--publish-url", o.PublishURL)
	if o.Protocol.dialect() == nil {
		f.Add("--protocol is %s: use centrifugo or centrifugo-protobuf", o.Protocol)
	}
	if o.Channels > 1 {
		f.Add("--channels is %d: this scenario uses one channel", o.Channels)
	}
	f.AtLeast("--connections", o.Connections, 1)
	f.AtLeast("--outstanding", o.Outstanding, 1)
	f.AtLeast("--missed", o.Missed, 1)
	f.Between("--size", o.Size, objectMin, sizeMax)
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
	d := &dialing{connections: r.Connections, outstanding: min(r.Outstanding, r.Connections), keepGoing: true}
	before := r.Usage()
	if err := r.dial(ctx, fl, "reconnected", d); err != nil {
		return err
	}
	a.used = r.Since(before)
	fl.settle(a)
	r.report(a, d)
	r.Result.setConnections(fl)
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
	if err := r.dial(ctx, fl, "connected", &dialing{connections: r.Connections, outstanding: r.Dialing}); err != nil || ctx.Err() != nil {
		return at, err
	}
	for _, l := range fl.loops {
		l.do(func() {
			for _, c := range l.conns {
				own := position{c.session.subs[0].epoch, c.stands.offset}
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
	fl.await(ctx, a, r.Timeout, 0)
	if n := fl.delivered(); n < int64(a.published) && ctx.Err() == nil {
		return fmt.Errorf("only %d of %d messages arrived: do the publisher and the clients use the same channel (--channel, --publish-url)?", n, a.published)
	}
	return nil
}

func (r *reconnect) report(a *account, d *dialing) {
	res, n := r.Result, d.done.Load()
	res.SetCounts(map[string]int64{
		"connections": int64(d.connections), "returned": n, "failed": d.failed, "published": int64(a.published), "delivered": a.delivered,
		"lost": a.lost, "repeated": a.repeated, "reordered": a.reordered, "holes": a.holes, "repeats": a.repeats, "gaps": a.gaps,
	})
	res.Set("elapsed", d.elapsed.Seconds())
	res.Set("returns_per_second", float64(n)/d.elapsed.Seconds())
	res.setLatency("", d.latency)
	r.SetUsage(a.used, d.elapsed, "server_cpu_per_return", n)
	res.noteFailure(d.firstErr)
	if a.gaps > 0 {
		res.Notes = append(res.Notes, "gaps: the server keeps fewer messages than the clients missed. Raise history_size of the namespace, or lower --missed")
	}
}
