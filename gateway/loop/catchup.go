package loop

import (
	"sluice/gateway/channel"
	"sluice/gateway/wire"
)

// A subscriber that asks for what it missed is sent that first, from the channel's
// history, a piece at a time: the next one when its socket has taken the one
// before. The last piece is taken together with the cursor in the channel's log
// where live delivery goes on, while the channel's lock is held once; so nothing
// lies between the two. Until then it holds nothing in the log, and its own
// messages wait in the kernel. Memory for it is one piece, however much it missed.

// AskSince returns what a client means that names an epoch and an offset. Without an epoch it
// means the offset in whatever epoch the channel has, as a client does that has no position yet.
func AskSince(epoch string, offset uint64) channel.Ask {
	if epoch == "" {
		return channel.Ask{Kind: channel.AskOffset, At: channel.Position{Offset: offset}}
	}
	e, _ := channel.ParseEpoch(epoch) // 0, which no channel has, where it is malformed
	return channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: e, Offset: offset}}
}

// Format is a wire format in which a subscriber is sent what it missed: a comparable value, as
// subscribers with equal formats share a log.
type Format interface {
	channel.Format
	gapTeller
	// AppendPosition appends the record of the position where a subscriber begins. It appends nothing
	// in a format without offsets, nor where the subscriber knows the position and the format has
	// no other use of it.
	AppendPosition(dst []byte, p *wire.Position) []byte
}

// catchUp is a subscription that begins in the past.
type catchUp struct {
	channel string
	format  Format
	ask     channel.Ask // for the next piece
	blind   bool        // it may not see what it missed: it is notified of a gap
	flags   uint8       // of the subscription
	begun   bool        // the first piece was queued
	gapped  bool        // it was notified of a gap, which was counted
	queued  bool        // in loop.catching

	observed bool // an observer was notified that the channel has a subscriber

	overtaken bool             // it was live before: what it is not sent any more is dropped
	skipped   *channel.Channel // in which it was too slow, and goes on with the newest; nil for others
	taken     uint64           // ... its messages until then
}

// missed counts the messages since the subscriber was skipped, of all that ch has taken.
func (cu *catchUp) missed(ch *channel.Channel, taken uint64) uint64 {
	if ch != cu.skipped {
		return taken // the channel has ended and begun again meanwhile
	}
	return taken - cu.taken
}

// giveUp counts what a subscriber that was live before has missed and will not be sent, because it ends.
func (c *Conn) giveUp(why Reason) {
	if !c.catchingUp() {
		return
	}
	cu, st := c.Out.catch, &c.loop.stats
	switch ch := c.loop.space.Find(cu.channel); {
	case ch == nil:
	case cu.skipped != nil:
		st.Dropped[DroppedBySkip].Add(cu.missed(ch, ch.Taken()))
	case cu.overtaken:
		from := uint64(0)
		if cu.flags&FlagNoEcho != 0 {
			from = c.id
		}
		st.Dropped[why].Add(ch.KeptSince(cu.ask.At, from))
	}
	cu.skipped, cu.overtaken = nil, false
}

// catchingUp reports whether the connection is not at live delivery yet.
func (c *Conn) catchingUp() bool { return c.Out != nil && c.Out.catch != nil }

// JoinFrom makes the connection a subscriber of a channel from the position that it asks for on.
// blind: it may not see what it missed, and is notified of a gap instead. flags are the subscription's.
func (c *Conn) JoinFrom(name string, f Format, ask channel.Ask, blind bool, flags uint8) {
	c.beginCatchUp(&catchUp{channel: name, format: f, ask: ask, blind: blind, flags: flags})
	c.subscribed(name)
	c.catchUp()
}

// askNow is for what is live, and never changed.
var askNow = channel.Ask{Kind: channel.AskNow}

// beginCatchUp makes the connection catch up. It holds the channel, which is read or prepared.
func (c *Conn) beginCatchUp(cu *catchUp) {
	c.loop.space.Prepare(cu.channel, &askNow, cu) // ready; an error counts when it joins
	c.output().catch = cu
	cu.joins(c.loop)
}

// endCatchUp makes the connection catch up no more: it has joined, or it ends.
func (c *Conn) endCatchUp() {
	if cu := c.Out.catch; cu != nil {
		c.Out.catch = nil
		cu.leaves(c.loop)
		c.loop.space.Release(cu.channel, cu)
	}
}

// Prepared implements channel.Holder. It is not called: the channel is ready.
func (*catchUp) Prepared(error) {}

// catchUp queues the next piece of what a subscriber missed. With the last one it
// joins the channel.
func (c *Conn) catchUp() {
	c.Plant("catchUp")
	l, cu := c.loop, c.Out.catch
	g, err := c.Group(cu.channel, cu.format)
	if err != nil {
		c.endCatchUp()
		c.Close(ReasonChannels)
		return
	}
	r, live := g.Recall(l.recalled[:0], cu.format, cu.ask, corkBytes, l.time.UnixMilli(), &l.encode)
	if cu.skipped != nil {
		r.Gap = true
		l.stats.Dropped[DroppedBySkip].Add(cu.missed(g.Log().Channel(), r.Taken))
	}
	if r.Gap = r.Gap || cu.blind; r.Gap && cu.skipped == nil {
		if !cu.gapped {
			cu.gapped = true
			l.stats.Gaps.Add(1)
		}
		if !cu.format.TellsGaps() {
			c.giveUp(ReasonSlow)
			l.EndIfEmpty(g)
			c.endCatchUp()
			c.Close(ReasonSlow)
			return
		}
	}
	if r.More {
		l.EndIfEmpty(g)
		c.queueRecalled(r)
		return
	}
	l.enter(c, g, live, cu.flags)
	c.queueRecalled(r)
	c.endCatchUp()
	if cu.skipped == nil && !cu.gapped {
		l.stats.Recoveries.Add(1)
	}
	c.protocol().Joined(c, c.Ref(c.Refs()-1))
}

// sendPiece goes on with catching up.
func (c *Conn) sendPiece() {
	c.catchUp()
	c.Flush()
	c.Settle()
}

// queueRecalled queues a piece, behind the record of where it begins when that is due.
func (c *Conn) queueRecalled(r channel.Recalled) {
	c.Plant("queueRecalled")
	l, o, cu := c.loop, c.Out, c.Out.catch
	kind, first, start := cu.ask.Kind, !cu.begun, len(o.buf)
	cu.begun, cu.ask = true, channel.Ask{Kind: channel.AskSince, At: r.To}
	if r.Gap || first {
		known := !r.Gap && kind != channel.AskNow && (kind != channel.AskNewest || r.Count > 0)
		o.buf = cu.format.AppendPosition(o.buf, &wire.Position{Channel: cu.channel, At: r.From, Gap: r.Gap, Known: known, Conn: c.id})
	}
	o.buf = c.seal(append(o.buf, r.Frames...), start)
	l.stats.Recalled.Add(uint64(r.Count))
	if l.recalled = r.Frames[:0]; cap(l.recalled) > 4*corkBytes {
		l.recalled = nil // a large frame has made it grow
	}
}

// catchUpMost is how many pieces a turn sends: about a megabyte. A thousand
// clients that come back at once take turns with everybody else.
const catchUpMost = 16

// catchLater notes that the last piece is sent. Not the next one at once: others'
// turn comes first.
func (c *Conn) catchLater() {
	l, o := c.loop, c.Out
	if o.catch.queued {
		return
	}
	o.catch.queued = true
	if cap(o.buf) > outboxKeep {
		o.buf = nil // there may be many that wait
	}
	l.catching = append(l.catching, c)
	l.poller.Wake()
}

// catchUpSome goes on with those whose last piece is sent.
func (l *Loop) catchUpSome() {
	n := min(len(l.catching), catchUpMost)
	for i, c := range l.catching[:n] {
		l.catching[i] = nil
		if c.Phase != phaseOpen || !c.catchingUp() {
			continue
		}
		if c.Out.catch.queued = false; c.Pending() == 0 {
			c.step((*Conn).sendPiece)
		}
	}
	rest := copy(l.catching, l.catching[n:]) // with those that were added meanwhile
	clear(l.catching[rest:])
	l.catching = l.catching[:rest]
	if rest > 0 {
		l.poller.Wake()
	}
}
