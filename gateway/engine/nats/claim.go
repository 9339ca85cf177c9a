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

// Claims. Servers before 2.10 that are a cluster may take several requests to create the same stream for
// several streams of one name, whose replicas then differ in when it was created, and in more. Nodes
// that start together find it missing together. So each claims to create what is missing, for a while,
// and the one with the lowest number does. Whoever creates answers claims, so that the others wait.
//
// Rejected: to wait for a random time (it would have to be long to be of use), and to have the node
// create that hears no beats (at the start nobody has heard anything).

const (
	claimTime  = time.Second // for which a node claims
	claimEvery = 50 * time.Millisecond
	claimTries = 60 // to find what another node creates
)

// errClaimed is returned while another node creates streams.
var errClaimed = fmt.Errorf("%w: another node creates the streams", errAway)

// claim is a node's claim to create streams.
type claim struct {
	nc      *natsgo.Conn
	subject string
	sub     *natsgo.Subscription
	number  uint64 // of this node: not 0

	// Atomic.
	lost     atomic.Bool
	creating atomic.Bool
}

// claim claims for a time, and returns a claim that holds until it ends, or errClaimed.
func (o *opening) claim(ctx context.Context, most time.Duration) (*claim, error) {
	c := &claim{nc: o.l.reads, subject: o.c.prefix + ".make", number: rand.Uint64() | 1}
	var err error
	if c.sub, err = c.nc.Subscribe(c.subject, c.heard); err != nil {
		return nil, away(err)
	}
	tick := time.NewTicker(claimEvery)
	defer tick.Stop()
	for range most / claimEvery {
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
	c.creating.Store(true)
	return c, c.say(0)
}

// say sends a number; 0 says that this node creates the streams.
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
	case c.creating.Load():
		if number != 0 {
			_ = c.say(0) // ignored: then creating fails, too
		}
	case number < c.number:
		c.lost.Store(true)
	}
}

// end ends a claim.
func (c *claim) end() { _ = c.sub.Unsubscribe() } // ignored: the connection has been closed
