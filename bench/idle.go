package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// IdleOptions are the settings of [Idle]. Zero means the default.
type IdleOptions struct {
	Options
	Connections int           // 10,000
	Settle      time.Duration // between connecting and measuring; 30 s, negative: none
	Duration    time.Duration // how long CPU is measured after that; 20 s
	FreshRSS    int64         // the server's VmRSS in bytes before it had connections; read before connecting
	Exchange    int           // size of a message that each connection receives first, at least SizeMin; none
	Each        int           // channels of its own that each connection subscribes to, measured separately; none: one for all
}

// eachMost is well below what fits into one message to the server.
const eachMost = 100

// fixedPartMost bounds a growth of memory of which what a server allocates only once is a
// large part: up to 1 MiB in sluice.
const fixedPartMost = 3 << 20

// exchangeMost is what a socket takes at once.
const exchangeMost = 16 << 10

// Idle measures what idle connections cost the server process PID: its memory beyond that
// of the server without connections, the kernel's, and CPU. The error is as of [Fanout].
func Idle(ctx context.Context, o IdleOptions) (*Result, error) {
	setDefault(&o.Connections, 10_000)
	setDefault(&o.Settle, DefaultSettle)
	setDefault(&o.Duration, DefaultDuration)
	run, err := o.Begin("idle", 0, o.check)
	if err != nil {
		return nil, err
	}
	r := &idle{IdleOptions: o, Run: run}
	if r.target.audience != nil {
		r.target.audience.later = o.Each > 0
	}
	if r.fleet, err = newFleet(r.target, o.Loops); err == nil {
		err = errors.Join(r.run(ctx), r.fleet.err())
		defer r.fleet.close() // ignored: the figures have been taken
	}
	return r.End(ctx, err)
}

func (o *IdleOptions) check(f *Faults) {
	f.AtLeast("--connections", o.Connections, 1)
	if o.PID == 0 {
		f.Add("--pid is missing: specify the ID of the server's process, whose memory is read from /proc")
	}
	if o.FreshRSS < 0 || o.Duration <= 0 {
		f.Add("--fresh-rss and --duration must be above zero")
	}
	if least := o.Protocol.sizeMin(); o.Exchange != 0 && (o.Exchange < least || o.Exchange > exchangeMost) {
		f.Add("--exchange is %d: use %d to %d bytes", o.Exchange, least, exchangeMost)
	}
	switch {
	case o.Each < 0 || o.Each > eachMost:
		f.Add("--channels-each is %d: use 1 to %d", o.Each, eachMost)
	case o.Each > 0 && (o.Protocol.dialect() == nil || o.Channels > 1 || o.Exchange > 0):
		f.Add("--channels-each needs --protocol centrifugo, and cannot be combined with --channels or --exchange")
	case o.Exchange > 0 && o.Channels > 1:
		f.Add("--exchange publishes to one channel, and cannot be combined with --channels")
	}
}

// idle is a run under way.
type idle struct {
	IdleOptions
	*Run
	fleet *fleet
}

func (r *idle) run(ctx context.Context) error {
	fresh := r.FreshRSS
	if fresh == 0 {
		var err error
		if fresh, err = r.rss(); err != nil {
			return err
		}
	}
	slabBefore, err := slab()
	if err != nil {
		return err
	}
	r.Result.Set("rss_fresh", float64(fresh))

	if err := r.dial(ctx, r.fleet, "connected", &dialing{connections: r.Connections, outstanding: r.Dialing}); err != nil {
		return err
	}
	if err := r.exchange(ctx); err != nil {
		return err
	}
	r.Show(func() string { return fmt.Sprintf("settling for %s", r.Settle) })
	wait(ctx, r.Settle)
	if err := r.memory(fresh, slabBefore); err != nil || ctx.Err() != nil {
		return err
	}
	if r.Each > 0 {
		if err := r.subscribe(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	r.Show(func() string { return fmt.Sprintf("measuring idle CPU for %s", r.Duration) })
	return r.cpu(ctx)
}

// exchange returns each connection a message: its own on a path that ends in /echo, else
// one that is published to all.
func (r *idle) exchange(ctx context.Context) error {
	if r.Exchange == 0 || ctx.Err() != nil {
		return nil
	}
	r.Show(func() string { return fmt.Sprintf("received %d", r.fleet.delivered()) })
	p := phase{mark: newMark().inPhase(1), streams: 1, count: 1}
	r.fleet.begin(p, 0)
	payload, at := blank(r.Exchange, r.fleet.target.audience != nil)
	stamp{scheduled: r.fleet.clock.now()}.put(payload[at:], p.mark)
	send := r.sendAll
	if !strings.HasSuffix(r.fleet.target.url.Path, "/echo") {
		send = r.publishOne
	}
	if err := send(ctx, payload); err != nil {
		return err
	}
	for end := time.Now().Add(r.Timeout); r.fleet.delivered() < r.fleet.live() && ctx.Err() == nil; wait(ctx, 5*time.Millisecond) {
		if time.Now().After(end) {
			break
		}
	}
	got := r.fleet.delivered()
	r.Result.Set("exchanged", float64(got))
	if got < int64(r.Connections) && ctx.Err() == nil {
		return fmt.Errorf("--exchange: only %d of %d connections received a message; use --path /echo, where each connection gets its own message back, or the path of a channel", got, r.Connections)
	}
	return nil
}

// sendAll sends the message on every connection.
func (r *idle) sendAll(_ context.Context, payload []byte) (err error) {
	for _, l := range r.fleet.loops {
		var conns []*conn
		l.do(func() { conns = l.conns })
		for _, c := range conns {
			l.do(func() { // one for each, so that what comes back is read meanwhile
				if err == nil && !c.cut {
					err = c.write(maskedFrame(ws.OpText, payload))
				}
			})
		}
	}
	if err != nil {
		err = fmt.Errorf("--exchange: %w", err)
	}
	return err
}

// publishOne sends the message on a connection of its own.
func (r *idle) publishOne(ctx context.Context, payload []byte) error {
	p, err := newSocketPublisher(ctx, r.fleet.target)
	if err != nil {
		return err
	}
	defer p.close()
	_, err = p.send(ctx, 0, payload)
	return err
}

func (r *idle) memory(fresh, slabBefore int64) error {
	rss, err := r.rss()
	if err != nil {
		return err
	}
	slabAfter, err := slab()
	if err != nil {
		return err
	}
	n := float64(max(r.fleet.live(), 1))
	r.Result.Set("connections", float64(r.fleet.live()))
	r.Result.Set("rss", float64(rss))
	r.Result.Set("rss_per_connection", float64(rss-fresh)/n)
	r.Result.Set("slab_per_connection", float64(slabAfter-slabBefore)/n)
	if grown := rss - fresh; grown < fixedPartMost {
		r.Result.Notes = append(r.Result.Notes, fmt.Sprintf("memory grew by only %s in total: buffers that the server allocates once are a large part of that. Use more --connections (10000) for a meaningful figure per connection", formatBytes(float64(grown))))
	}
	return nil
}

func (r *idle) cpu(ctx context.Context) error {
	begin, before := time.Now(), r.Usage()
	wait(ctx, r.Duration)
	if _, err := r.rss(); err != nil {
		return err
	}
	r.SetUsage(r.Since(before), time.Since(begin), "", 0)
	r.Result.setConnections(r.fleet)
	return nil
}

// setConnections reports what happened to the connections of a run that publishes nothing.
func (r *Result) setConnections(f *fleet) {
	var cut, foreign int64
	for _, l := range f.loops {
		l.do(func() {
			for _, c := range l.conns {
				if c.cut && !c.refused {
					cut++
				}
			}
			foreign += l.foreign
			r.addCloses(l.closes)
		})
	}
	r.Set("cut", float64(cut))
	if _, ok := findMetric(r.Scenario, "foreign"); ok {
		r.Set("foreign", float64(foreign))
	}
}

// wait passes the time; a run that is interrupted goes on at once.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
