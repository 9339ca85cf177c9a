package loop

import (
	"slices"

	"sluice/gateway/channel"
)

// subscriptions is a connection's part that knows its channels. Most connections have one, so the
// others are in extra.
type subscriptions struct {
	sub Ref // the first; sub.group is nil when there is none
}

// Ref is a connection's side of a subscription: the place of a sub in its group.
type Ref struct {
	group *Group
	index int32
	// cut counts the bytes of the frame at the sub's cursor that are out: taken by
	// the socket, or encrypted. The rest lies in the log and goes before anything else.
	// Invariant: at most one of a connection's refs has a cut, and then it is blocked.
	cut uint32
}

// sub returns the group's side of the subscription.
func (r *Ref) sub() *sub { return &r.group.subs[r.index] }

// noEcho reports whether the subscriber is not sent what it published itself.
func (r *Ref) noEcho() bool { return r.sub().flags&FlagNoEcho != 0 }

// Group returns the group of the channel's subscribers.
func (r *Ref) Group() *Group { return r.group }

// Channel returns the name of the channel.
func (r *Ref) Channel() string { return r.group.key.channel }

// Flags returns the subscription's bits that its protocol defines.
func (r *Ref) Flags() *uint8 { return &r.sub().flags }

// Refs counts the subscriptions, for a range over them with Ref.
func (c *Conn) Refs() int {
	switch {
	case c.sub.group == nil:
		return 0
	case c.ext == nil:
		return 1
	}
	return 1 + len(c.ext.more)
}

// Ref returns the i-th subscription. It is valid until the next one begins or ends.
func (c *Conn) Ref(i int) *Ref {
	if i == 0 {
		return &c.sub
	}
	return &c.ext.more[i-1]
}

// Format returns the format of the first subscription, or of the one that has not begun; nil for none.
func (c *Conn) Format() channel.Format {
	switch {
	case c.sub.group != nil:
		return c.sub.group.Format()
	case c.catchingUp():
		return c.Out.catch.format
	}
	return nil
}

// CatchesUp returns the channel and the format of the subscription with which the connection catches up, and which is not one
// of Ref; nil for none.
func (c *Conn) CatchesUp() (name string, f channel.Format) {
	if !c.catchingUp() {
		return "", nil
	}
	return c.Out.catch.channel, c.Out.catch.format
}

// Join makes the connection a subscriber of a channel in a format, from its head on, with these
// flags. The subscriber may skip (Protocol.Lagging) if f has the method TellsGaps of Format and it
// returns true.
func (c *Conn) Join(name string, f channel.Format, flags uint8) error {
	g, err := c.Group(name, f)
	if err == nil {
		c.Enter(g, g.Log().Head(), flags)
	}
	return err
}

// Enter makes the connection a subscriber from a cursor on: the log's head, or one that was
// the head while the group was there to hold it. The subscription is the last of Ref.
func (c *Conn) Enter(g *Group, cursor uint64, flags uint8) {
	if c.loop.enter(c, g, cursor, flags) {
		if !c.catchingUp() { // else it has begun before
			c.subscribed(g.Channel())
		}
		c.protocol().Joined(c, c.Ref(c.Refs()-1))
	}
}

// Drop takes one subscription from the connection; what its log still has for it is
// counted as dropped for that reason. The last subscription takes its index. Where the rest of a
// cut frame cannot be kept, the connection ends, and all of its subscriptions with it.
func (c *Conn) Drop(i int, why Reason) { c.DropAs(i, why, 0, "") }

// DropAs is Drop with the code and the text for which the subscription ends, for the application; 0 if the client has asked for
// that.
func (c *Conn) DropAs(i int, why Reason, code uint32, text string) {
	if !c.keepRest(c.Ref(i)) {
		c.kill(ReasonBudget)
		return
	}
	l, r := c.loop, *c.Ref(i)
	l.stats.Dropped[why].Add(c.unsent(&r, r.group.Log().Head()))
	c.unsubscribed(r.Channel(), code, text)
	c.protocol().Left(c, c.Ref(i))
	l.leave(r)
	c.unindex(i)
	last := c.Refs() - 1
	*c.Ref(i) = *c.Ref(last)
	if last == 0 {
		c.sub = Ref{}
	} else {
		c.ext.more = slices.Delete(c.ext.more, last-1, last)
		if len(c.ext.more) == 0 {
			c.ext.more = nil
		}
	}
	if last <= 1 { // else nothing changes for the others
		c.mark()
	}
}
