package gateway

import (
	"strconv"
	"strings"
	"time"

	"sluice/gateway/channel"
)

// A subscriber that asks for what it missed is sent that first, from the channel's
// history, a piece at a time: the next one when its socket has taken the one
// before. The last piece is taken together with the position in the channel's log
// where live delivery goes on, while the channel's lock is held once; so nothing
// lies between the two. Until then it holds nothing in the log, and its own
// messages wait in the kernel. Memory for it is one piece, however much it missed.

// parseSince reads "epoch:offset", or "now".
func parseSince(s string) (channel.Ask, bool) {
	if s == "now" {
		return channel.Ask{Kind: channel.AskNow}, true
	}
	name, number, found := strings.Cut(s, ":")
	epoch, ok := channel.ParseEpoch(name)
	offset, err := strconv.ParseUint(number, 10, 64)
	return channel.Ask{Kind: channel.AskSince, At: channel.Place{Epoch: epoch, Offset: offset}}, found && ok && err == nil
}

// askSince returns what a client means that names an epoch and an offset. Without an epoch it
// means the offset in whatever epoch the channel has, as a client does that has no position yet.
func askSince(epoch string, offset uint64) channel.Ask {
	if epoch == "" {
		return channel.Ask{Kind: channel.AskOffset, At: channel.Place{Offset: offset}}
	}
	e, _ := channel.ParseEpoch(epoch) // 0, which no channel has, where it is malformed
	return channel.Ask{Kind: channel.AskSince, At: channel.Place{Epoch: e, Offset: offset}}
}

// catchUp is a subscription that begins in the past.
type catchUp struct {
	channel string
	format  format
	ask     channel.Ask // for the next piece
	blind   bool        // it may not see what it missed: it is notified of a gap
	begun   bool        // the first piece was queued
	queued  bool        // in loop.catching

	skipped bool          // it was too slow, and goes on with the newest
	last    channel.Place // ... behind this one
}

// skippedUntil counts what was published since the subscriber was skipped.
func (cu *catchUp) skippedUntil(at channel.Place) uint64 {
	if at.Epoch != cu.last.Epoch {
		return at.Offset // the channel has ended and begun again meanwhile
	}
	return at.Offset - cu.last.Offset
}

// giveUpSkipped counts what a subscriber that is skipping has missed, when it ends.
func (c *conn) giveUpSkipped() {
	if !c.catchingUp() || !c.out.catch.skipped {
		return
	}
	cu := c.out.catch
	cu.skipped = false
	if ch := c.loop.space.Find(cu.channel); ch != nil {
		c.loop.stats.dropped[droppedBySkip].Add(cu.skippedUntil(ch.Newest()))
	}
}

// catchingUp reports whether the connection is not at live delivery yet.
func (c *conn) catchingUp() bool { return c.out != nil && c.out.catch != nil }

// catchUp queues the next piece of what a subscriber missed. With the last one it
// joins the channel.
func (c *conn) catchUp() {
	c.plant("catchUp")
	l, cu := c.loop, c.out.catch
	g, err := l.group(cu.channel, cu.format)
	if err != nil {
		c.out.catch = nil
		c.close(reasonChannels)
		return
	}
	r, live := g.Recall(l.recalled[:0], cu.ask, corkBytes, time.Now().UnixMilli(), &l.encode)
	if cu.skipped {
		r.Gap = true
		l.stats.dropped[droppedBySkip].Add(cu.skippedUntil(r.To))
	}
	r.Gap = r.Gap || cu.blind
	if r.More {
		l.endIfEmpty(g)
	} else {
		l.enter(c, g, live)
	}
	if c.queueRecalled(r) && !r.More {
		c.out.catch = nil
		if !cu.skipped {
			l.stats.recoveries.Add(1)
		}
	}
}

// sendPiece goes on with catching up.
func (c *conn) sendPiece() {
	c.catchUp()
	c.flush()
	c.settle()
}

// queueRecalled queues a piece, behind the record that tells where it begins when
// that is due. false: the connection ends, because it cannot be told that
// something is missing.
func (c *conn) queueRecalled(r channel.Recalled) bool {
	c.plant("queueRecalled")
	l, o, cu := c.loop, c.out, c.out.catch
	kind, first := cu.ask.Kind, !cu.begun
	cu.begun, cu.ask = true, channel.Ask{Kind: channel.AskSince, At: r.To}
	if r.Gap && !cu.skipped {
		l.stats.gaps.Add(1)
		if !cu.format.TellsGaps() {
			o.catch = nil
			c.close(reasonSlow)
			return false
		}
	}
	if r.Gap || first {
		known := !r.Gap && kind != channel.AskNow && (kind != channel.AskNewest || r.Count > 0)
		o.buf = cu.format.appendPlace(o.buf, &place{channel: cu.channel, at: r.From, gap: r.Gap, known: known, conn: c.id})
	}
	o.buf = append(o.buf, r.Frames...)
	l.stats.recalled.Add(uint64(r.Count))
	if l.recalled = r.Frames[:0]; cap(l.recalled) > 4*corkBytes {
		l.recalled = nil // a large frame has made it grow
	}
	return true
}

// catchUpMost is how many pieces a turn sends: about a megabyte. A thousand
// clients that come back at once take turns with everybody else.
const catchUpMost = 16

// catchLater notes that the last piece is sent. Not the next one at once: others'
// turn comes first.
func (c *conn) catchLater() {
	l, o := c.loop, c.out
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
func (l *loop) catchUpSome() {
	n := min(len(l.catching), catchUpMost)
	for i, c := range l.catching[:n] {
		l.catching[i] = nil
		if c.phase != phaseOpen || !c.catchingUp() {
			continue
		}
		if c.out.catch.queued = false; c.pending() == 0 {
			c.step((*conn).sendPiece)
		}
	}
	rest := copy(l.catching, l.catching[n:]) // with those that were added meanwhile
	clear(l.catching[rest:])
	l.catching = l.catching[:rest]
	if rest > 0 {
		l.poller.Wake()
	}
}
