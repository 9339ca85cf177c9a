// Package engine assigns publications their order and their history.
//
// [Local] orders them on this node. An engine that shares channels between
// nodes would stand beside it and answer later, which is why every call takes a
// [Caller].
//
// The package does not know connections, loops or wire formats.
package engine

import (
	"errors"
	"time"

	"sluice/gateway/channel"
)

// ErrPending is returned if the result comes later, through the Caller.
var ErrPending = errors.New("engine: answer is pending")

// Caller is a publisher. Its methods may be called from any goroutine, perhaps under a lock:
// they must only post.
type Caller interface {
	// Released: a publish that was refused with channel.ErrFull may be tried again.
	channel.Waiter
	// Published: the answer to a publish that returned ErrPending.
	Published(channel.Receipt, error)
}

// Engine assigns publications their order.
type Engine interface {
	// Publish publishes p to the channel called name. ch is that channel on this
	// node, nil where nobody here has it. p is not kept. The errors
	// are channel.ErrFull, after which c.Released is called when to try again (if c is
	// not nil), channel.ErrTooBig and ErrPending.
	Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c Caller) (channel.Receipt, error)
}

// goneMost is how many channels that end one after the other Publish tries.
const goneMost = 4

// Publish has e publish p into the channel called name, as of now. The channel is ch or, where
// that is nil, the one that this node has, or one that is opened because channels of its name
// keep a history; where there is no room for one more, nothing is kept. If the channel has ended
// meanwhile, another of its name takes its place. Publish returns the channel that it tried last,
// in which c waits after channel.ErrFull; the other results are those of e.Publish.
func Publish(e Engine, space *channel.Space, name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c Caller) (*channel.Channel, channel.Receipt, error) {
	p.At = time.Now().UnixMilli()
	for tries := 1; ; tries++ {
		if ch == nil {
			ch = space.Find(name)
		}
		if ch == nil && !p.Passing && space.Keeps(name) {
			ch, _ = space.Open(name) // ignored: see above
		}
		receipt, err := e.Publish(name, ch, p, s, c)
		if tries == goneMost || !errors.Is(err, channel.ErrGone) {
			return ch, receipt, err
		}
		ch = nil
	}
}

// Local is the engine of a single node: a publication's place is the one it gets
// in this node's channel, and the answer comes at once.
type Local struct{}

// Publish implements Engine. Where nobody on this node has the channel nothing is
// created, and the receipt is zero.
func (Local) Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c Caller) (channel.Receipt, error) {
	if ch == nil {
		return channel.Receipt{}, nil
	}
	if c == nil {
		return ch.Publish(p, s, nil) // not c: a nil Caller in a Waiter would not be nil
	}
	return ch.Publish(p, s, c)
}
