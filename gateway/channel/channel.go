package channel

import (
	"container/list"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"sluice/gateway/rate"
)

// ErrFull is returned if a log has no room for a publication: some subscriber, or its
// loop, is behind by the whole log, or the process's budget is used up. The publisher's
// Waiter is called when it is worth trying again.
var ErrFull = errors.New("channel: log is full")

// ErrTurn is returned while another publication is being encoded. It wraps ErrFull: the
// Waiter is called when its turn has come.
var ErrTurn = fmt.Errorf("%w: another publisher has the turn", ErrFull)

// ErrLarge is returned for a publication that may encode to more than its Scratch's Limit.
// The Waiter is not called: use another Scratch.
var ErrLarge = errors.New("channel: publication is too large to be encoded here")

// ErrTooBig is returned for a publication that, once encoded, does not fit even an empty
// log.
var ErrTooBig = errors.New("channel: publication does not fit the channel's buffer")

// ErrGone is returned if the channel has ended meanwhile: another one of that name may
// exist, or can be opened.
var ErrGone = errors.New("channel: channel has ended")

// Kind is the kind of a publication.
type Kind uint8

const (
	KindMessage Kind = iota
	// KindJoin and KindLeave announce that a client has subscribed or unsubscribed.
	// They have no offset, are not kept, and go only to the formats that carry
	// them; Extra says which client.
	KindJoin
	KindLeave
	// KindGap and KindReset stand in a log where publications are missing: those up to Prev, and with
	// KindReset all of the epochs before Epoch. They have no offset. A format that appends nothing
	// for them cannot tell: its subscribers stop there (View.Fence).
	KindGap
	KindReset
)

// Publication is one message published to a channel.
type Publication struct {
	Payload []byte // the caller's; it is copied before Publish returns
	Binary  bool   // else the payload is text: the publisher has checked that it is UTF-8
	From    uint64 // connection that sent it, 0 for none
	At      int64  // when it was published: milliseconds of Unix time
	Kind    Kind
	// Passing publications go to the present subscribers only, have no offset and are not kept.
	Passing bool
	// Extra is what some formats send beside the payload, and is kept with it: which client
	// published it (AppendWho), and its tags (AppendTags). Owned as Payload is.
	Extra []byte
	// ID is the message's, for engines that may be handed it twice (engine.Engine); "" for none. It
	// is not kept.
	ID string

	// Set by Publish, for formats: its position in the order. Offset is 0 for what has
	// none. Prev is the offset of the publication before it in the channel, 0 for the
	// epoch's first: offsets grow, and may have holes.
	Channel      string
	Epoch        Epoch
	Offset, Prev uint64
}

// ordered reports whether p gets an offset.
func (p *Publication) ordered() bool { return p.Kind == KindMessage && !p.Passing }

// Epoch names one life of a channel's order. Offsets of different epochs have
// nothing to do with each other.
type Epoch uint64

// String returns the epoch as clients see it, "" for the zero Epoch.
func (e Epoch) String() string {
	if e == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(e), 36)
}

// Append appends the epoch to dst, in the form of String.
func (e Epoch) Append(dst []byte) []byte {
	if e == 0 {
		return dst
	}
	return strconv.AppendUint(dst, uint64(e), 36)
}

// MarshalText implements encoding.TextMarshaler, in the form of String.
func (e Epoch) MarshalText() ([]byte, error) { return e.Append(nil), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Epoch) UnmarshalText(text []byte) error {
	parsed, ok := ParseEpoch(string(text))
	if !ok && len(text) > 0 {
		return errors.New("channel: malformed epoch")
	}
	*e = parsed
	return nil
}

// ParseEpoch parses the form of String.
func ParseEpoch(s string) (Epoch, bool) {
	e, err := strconv.ParseUint(s, 36, 64)
	return Epoch(e), err == nil && e != 0
}

// Receipt is the result of a publication.
type Receipt struct {
	// Epoch and Offset are the publication's position in its channel, of which the first has
	// the offset 1. Both are zero if the channel has neither subscribers nor a history; Offset
	// is, if the publication has no position in the channel's order.
	Epoch  Epoch  `json:"epoch"`
	Offset uint64 `json:"offset"`
	// Subscribers is how many subscribers this node had at that moment.
	Subscribers int `json:"subscribers"`
}

// Format is a wire format: the same bytes for every subscriber.
type Format interface {
	// Append adds p's frame to dst, or nothing where the format does not carry what p
	// is. A publisher calls it in its turn, without the channel's lock; Recall calls it under
	// the lock, for publications that are not large.
	Append(dst []byte, p *Publication) []byte
}

// Waiter is a publisher that was refused with ErrFull.
type Waiter interface {
	// Released is called when it is worth trying again, once for each refusal, from any
	// goroutine and under the channel's lock: it must only post. The publisher must then
	// publish with the same Waiter or call Forget: room is kept for it until then.
	Released()
}

// Channel has one order of publications and a log for each wire format that has
// subscribers.
type Channel struct {
	// Set at construction.
	name  string
	space *Space
	keep  Keep
	class int // see Space.Classify
	// The same from the construction on, guarded by mu. nil in a local channel.
	remote *attachment

	// Atomic: changed by loops as their subscribers come and go.
	subscribers atomic.Int64
	// Atomic: changed under mu. A publisher is at work: see turn.go.
	turn atomic.Bool

	mu sync.Mutex
	// Guarded by mu.
	epoch   Epoch // of a local channel it never changes
	given   bool  // publications were appended with their positions
	offset  uint64
	taken   uint64 // messages ever published, those without an offset included
	logs    []*Log
	waiters []waiting // refused publishers, in the order of their coming: see waiting.go
	called  int       // of them, how many were called
	history history
	dead    bool // out of the space: a later channel of that name is another
	rate    rate.Meter
	joins   rate.Meter
	limited bool // publishers wait because of the rate
	held    bool // in space.held
	broke   bool // the first that is not called waits because the budget lets no ring grow
	// Guarded by the shard: the number of the last Snapshot that has copied it. It lies here because it takes no room.
	snapshot uint32
	stall    stall

	// Guarded by the space's shard: since when nobody reads the channel, and its
	// place among those; nil while somebody does.
	idleSince int64
	idle      *list.Element
	// Guarded by the shard, too: how many messages there were when trim was here last, and how many
	// of them had come since the time before.
	counted, recent uint64
}

// Name returns the channel's name.
func (c *Channel) Name() string { return c.name }

// Class returns the channel's class, see Space.Classify.
func (c *Channel) Class() int { return c.class }

// Epoch returns the epoch of the channel's order.
func (c *Channel) Epoch() Epoch { return c.Newest().Epoch }

// Newest returns the position (epoch and offset) of the newest publication.
func (c *Channel) Newest() Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Position{c.epoch, c.offset}
}

// Taken returns how many messages were ever published to the channel.
func (c *Channel) Taken() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

// Subscribers returns the number of subscriptions on this node.
func (c *Channel) Subscribers() int { return int(c.subscribers.Load()) }

// Joined adds a subscription to the count. The loop calls it with its own bookkeeping.
func (c *Channel) Joined() { c.subscribers.Add(1) }

// Left removes a subscription from the count.
func (c *Channel) Left() { c.subscribers.Add(-1) }
