package bench

import (
	"context"
	"fmt"
	"sync/atomic"
)

// subscribe returns each connection channels of its own, and measures what memory they
// take beyond the connections.
func (r *idle) subscribe(ctx context.Context) error {
	before, err := r.rss()
	if err != nil {
		return err
	}
	var done atomic.Int64
	r.Show(func() string { return fmt.Sprintf("subscribed to %d of %d", done.Load(), r.Connections*r.Each) })
	if err := r.subscribeAll(ctx, &done); err != nil || ctx.Err() != nil {
		return err
	}
	r.Show(func() string { return fmt.Sprintf("settling for %s", r.Settle) })
	wait(ctx, r.Settle)
	rss, err := r.rss()
	if err != nil {
		return err
	}
	n := float64(done.Load())
	r.Result.Set("subscriptions", n)
	r.Result.Set("rss_subscribed", float64(rss))
	r.Result.Set("rss_per_subscription", float64(rss-before)/n)
	return nil
}

// subscribeAll subscribes on as many connections at a time as may be connecting.
func (r *idle) subscribeAll(ctx context.Context, done *atomic.Int64) error {
	var conns []*conn
	for _, l := range r.fleet.loops {
		l.do(func() { conns = append(conns, l.conns...) })
	}
	return parallel(ctx, r.Dialing, len(conns), func(ctx context.Context, i int) error {
		if err := r.subscribeOne(ctx, conns[i], i); err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, len(conns), err)
		}
		done.Add(int64(r.Each))
		return nil
	})
}

func (r *idle) subscribeOne(ctx context.Context, c *conn, number int) error {
	var err error
	c.loop.do(func() {
		for i := range r.Each {
			c.session.join(newChannel(fmt.Sprintf("%s-%d-%d", r.Channel, number, i)), nil)
		}
		frame := c.session.flush()
		if c.cut {
			err = errClosed
			return
		}
		err = c.write(frame)
	})
	if err != nil {
		return err
	}
	return c.session.wait(ctx, r.Timeout)
}
