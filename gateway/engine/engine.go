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
