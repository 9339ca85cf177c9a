package loop

import (
	"slices"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/frame"
)

// A subscription to a remote channel waits until that is ready (channel.Space.Prepare), and holds
// nothing in a log meanwhile. A local channel always is.

// Wanted is a channel, and the position from which a subscription will begin.
type Wanted struct {
	Channel string
	Ask     channel.Ask
}

// Prepare has different channels made ready, and then continues: at once if all are local. then
// subscribes; its error is channel.ErrTooManyChannels or the engine's, engine.ErrUnavailable if the
// engine is late.
func (c *Conn) Prepare(then func(error) Wait, want ...Wanted) Wait {
	space := c.loop.space
	if !slices.ContainsFunc(want, func(w Wanted) bool { return !space.Local(w.Channel) }) {
		return then(nil)
	}
	p := &preparation{c: c, want: want, then: then}
	if now, err := p.begin(); now {
		return p.end(err)
	}
	return p
}

// PrepareApart is Prepare beside what the client itself has asked for. pending counts it while it waits. If
// the connection ends before the channel is ready, then is not called.
func (c *Conn) PrepareApart(then func(error), pending *Pending, want Wanted) {
	var unready error
	p := &preparation{c: c, want: []Wanted{want}, apart: true, then: func(err error) Wait { unready = err; then(err); return nil }}
	if now, err := p.begin(); now {
		p.end(err)
		return
	}
	pending.Begin()
	p.ended = func() { pending.End(unready) }
}

// preparation is subscriptions that wait for their channels. It implements Wait and
// channel.Holder.
type preparation struct {
	c     *Conn // set at construction, as want
	want  []Wanted
	then  func(error) Wait
	due   int32  // channels that are not ready
	apart bool   // it is not what its connection waits with
	over  bool   // it does not wait any more
	ended func() // is called when it does not; nil for nothing
}

// begin prepares the channels, and reports whether there is nothing to wait for.
func (p *preparation) begin() (now bool, err error) {
	for i := range p.want {
		w := &p.want[i]
		ready, err := p.c.loop.space.Prepare(w.Channel, &w.Ask, p)
		if err != nil {
			p.want = p.want[:i]
			return true, err
		}
		if !ready {
			p.due++
		}
	}
	return p.due == 0, nil
}

// Prepared implements channel.Holder.
func (p *preparation) Prepared(err error) { p.c.loop.Post(&prepared{p, err}) }

// prepared is posted when a channel is ready, or has failed.
type prepared struct {
	p   *preparation
	err error
}

// Deliver implements Message: it continues after the last one, or the first that has failed.
func (m *prepared) Deliver(*Loop) {
	p := m.p
	if p.over {
		return
	}
	if err := m.err; err != nil {
		then := p.then
		p.then = func(error) Wait { return then(err) }
	} else if p.due--; p.due > 0 {
		return
	}
	if p.apart {
		p.c.stepPrepared(p)
	} else if !p.c.Resume() {
		p.Cancel() // that panicked
	}
}

// stepPrepared continues with what a connection does not wait with.
func (c *Conn) stepPrepared(p *preparation) {
	defer c.contain()
	if c.Phase != phaseOpen {
		p.Cancel()
		return
	}
	p.end(nil)
	c.Flush()
	c.Settle()
}

// end continues, and holds the channels until then.
func (p *preparation) end(err error) Wait {
	defer p.Cancel()
	return p.then(err)
}

// Resume implements Wait.
func (p *preparation) Resume(*Conn) Wait { return p.end(nil) }

// Late implements Wait.
func (p *preparation) Late(*Conn) Wait { return p.end(engine.ErrUnavailable) }

// Cancel implements Wait.
func (p *preparation) Cancel() {
	p.over = true
	for _, w := range p.want {
		p.c.loop.space.Release(w.Channel, p)
	}
	if p.ended != nil {
		p.ended()
		p.ended = nil
	}
}

// Moot implements Wait.
func (*preparation) Moot(*Conn) bool { return true }

// wantedBytes is about what a channel takes that is wanted, where it holds the channel, too.
const wantedBytes = 128

// Size implements Wait.
func (p *preparation) Size() int { return wantedBytes * len(p.want) }

// Again implements Wait: the protocol knows what it was for.
func (*preparation) Again(*Conn) (frame.Message, bool) { return frame.Message{}, false }
