package nats

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// Claims. Nodes must not change streams at the same time: an update replaces what another one has written meanwhile, and
// servers before 2.10 that are a cluster may take several requests to create the same stream for several streams
// of one name, whose replicas then differ in when it was created, and in more. Nodes that start together find the same
// things to be done together. So each claims to do them, for a while, and the one with the lowest number does. The one
// that is at work answers claims, so that the others wait.
//
// Rejected: to wait for a random time (it would have to be long to be of use), to have the node do it that hears no beats
// (at the start nobody has heard anything), and a message with an expected sequence as a lock (a node that ends
// has to be waited for).

const (
	claimTime  = time.Second // for which a node claims
	claimEvery = 50 * time.Millisecond
	claimTries = 60 // while another node is at work
)

// errClaimed is returned while another node changes streams.
var errClaimed = fmt.Errorf("%w: another node changes the streams", errAway)

// claim is a node's claim to change streams.
type claim struct {
	nc      *natsgo.Conn
	subject string
	sub     *natsgo.Subscription
	number  uint64 // of this node: not 0

	// Atomic.
	lost    atomic.Bool
	holding atomic.Bool
}

// claim claims for a time, and returns a claim that holds until it ends, or errClaimed.
func (l *link) claim(ctx context.Context, prefix string) (*claim, error) {
	c := &claim{nc: l.reads, subject: prefix + ".make", number: rand.Uint64() | 1}
	var err error
	if c.sub, err = c.nc.Subscribe(c.subject, c.heard); err != nil {
		return nil, away(err)
	}
	tick := time.NewTicker(claimEvery)
	defer tick.Stop()
	for range l.claims / claimEvery {
		if err = c.say(c.number); err != nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if c.lost.Load() {
			err = again{errClaimed, claimTries}
		}
		if err != nil {
			break
		}
	}
	if err != nil {
		c.end()
		return nil, err
	}
	c.holding.Store(true)
	return c, c.say(0)
}

// say sends a number; 0 says that this node is at work.
func (c *claim) say(number uint64) error {
	if err := c.nc.Publish(c.subject, binary.BigEndian.AppendUint64(nil, number)); err != nil {
		return away(err)
	}
	return nil
}

// heard takes what a node says, perhaps this one.
func (c *claim) heard(m *natsgo.Msg) {
	if len(m.Data) != 8 {
		return
	}
	switch number := binary.BigEndian.Uint64(m.Data); {
	case c.holding.Load():
		if number != 0 {
			_ = c.say(0) // ignored: then what it does fails, too
		}
	case number < c.number:
		c.lost.Store(true)
	}
}

// end ends a claim.
func (c *claim) end() { _ = c.sub.Unsubscribe() } // ignored: the connection has been closed
