package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// subscribe returns each connection channels of its own, and measures what memory they
// take beyond the connections.
func (r *idle) subscribe(ctx context.Context) error {
	before, err := r.server.rss()
	if err != nil {
		return fmt.Errorf("the server has exited: %w", err)
	}
	var done atomic.Int64
	r.progress.show(func() string { return fmt.Sprintf("subscribed to %d of %d", done.Load(), r.Connections*r.Each) })
	if err := r.subscribeAll(ctx, &done); err != nil || ctx.Err() != nil {
		return err
	}
	r.progress.show(func() string { return fmt.Sprintf("settling for %s", r.Settle) })
	wait(ctx, r.Settle)
	rss, err := r.server.rss()
	if err != nil {
		return fmt.Errorf("the server has exited: %w", err)
	}
	n := float64(done.Load())
	r.result.set("subscriptions", n)
	r.result.set("rss_subscribed", float64(rss))
	r.result.set("rss_per_subscription", float64(rss-before)/n)
	return nil
}

// subscribeAll subscribes on as many connections at a time as may be connecting.
func (r *idle) subscribeAll(ctx context.Context, done *atomic.Int64) error {
	var conns []*conn
	for _, l := range r.fleet.loops {
		l.do(func() { conns = append(conns, l.conns...) })
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		next atomic.Int64
		wg   sync.WaitGroup
	)
	for range r.Dialing {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(conns) {
					return
				}
				if err := r.subscribeOne(ctx, conns[i], i); err != nil {
					cancel(fmt.Errorf("connection %d of %d: %w", i+1, len(conns), err))
					return
				}
				done.Add(int64(r.Each))
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
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
