// Package enginetest holds every engine to what the gateway relies on ([Run]), and has one that
// answers late ([Late]), with which other packages test that they cope.
package enginetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/presence"
)

// Node is a node that uses an engine.
type Node struct {
	Engine  engine.Engine
	Space   *channel.Space
	Present *presence.Table
}

// Rig is engines under test: those of the nodes of a cluster, or the one of a single node. What
// is nil the engine's store cannot do, or there is none.
type Rig struct {
	Nodes []*Node
	Stall func() (resume func())             // it stands still
	Away  func() (back func())               // it is unavailable
	Reset func(names ...string)              // the order of these channels begins anew, perhaps of others too
	Lose  func(node int, name string, n int) // that many deliveries of a channel to a node are lost
	// Attached returns the channels that are attached on some node.
	Attached func() []string
	// PerNode reports whether the order of a channel, which keeps no history, is each node's own: its
	// receipts have no offset, and nodes may have publications of different publishers in different
	// orders. nil: every channel has one order.
	PerNode func(name string) bool
	// Fills: what is lost on its way to a node is read from the store, so that it is a gap only where it
	// is no longer kept.
	Fills bool
	// During is what happens while Order publishes, which it does for as long as that takes.
	During func()
	during chan struct{} // closed when it has ended
	notice time.Duration // 0: noticeMost

	// TimesOut: what the store does not answer in time is answered with ErrUnavailable.
	TimesOut bool
}

func (r *Rig) perNode(name string) bool { return r.PerNode != nil && r.PerNode(name) }

// fails reports whether an error is one that the engine must not return here: any, but where
// requests time out, ErrUnavailable.
func (r *Rig) fails(err error) bool {
	return err != nil && !(r.TimesOut && errors.Is(err, engine.ErrUnavailable))
}

// NewSpace returns a space in which channels keep history, those whose names begin with "few" a short one
// and those with "none" none.
func NewSpace() *channel.Space {
	s := channel.NewSpace(64<<10, 1000, channel.NewBudget(64<<20))
	s.KeepHistory(channel.History{Of: Keep, Bytes: 1 << 20, Budget: channel.NewBudget(64 << 20)}, time.Now().UnixMilli())
	return s
}

// Keep is what channels of a NewSpace keep.
func Keep(name string) channel.Keep {
	switch {
	case strings.HasPrefix(name, "none"):
		return channel.Keep{}
	case strings.HasPrefix(name, "few"):
		return channel.Keep{Count: 3, TTL: time.Hour.Milliseconds()}
	}
	return channel.Keep{Count: 5000, TTL: time.Hour.Milliseconds()}
}

// caller is a publisher that waits for its answer.
type caller struct {
	t        testing.TB
	released chan struct{}
	answers  chan result
}

type result struct {
	channel.Receipt
	err error
}

func newCaller(t testing.TB) *caller {
	return &caller{t: t, released: make(chan struct{}, 1), answers: make(chan result, 2)} // a second answer is a fault
}

func (c *caller) Released() { c.released <- struct{}{} }

func (c *caller) Published(r channel.Receipt, err error) { c.answers <- result{r, err} }

// publish publishes on a node, and waits for the answer.
func (n *Node) publish(t testing.TB, name, payload string) (channel.Receipt, error) {
	t.Helper()
	return n.send(newCaller(t), name, &channel.Publication{Payload: []byte(payload)})
}

func (n *Node) send(c *caller, name string, p *channel.Publication) (channel.Receipt, error) {
	c.t.Helper()
	p.At = time.Now().UnixMilli()
	for {
		_, r, err := engine.Publish(n.Engine, n.Space, name, nil, p, new(channel.Scratch), c)
		switch {
		case err == engine.ErrPending:
			answer := clienttest.Receive(c.t, "the answer to a publication", c.answers)
			return answer.Receipt, answer.err
		case !errors.Is(err, channel.ErrFull):
			return r, err
		}
		clienttest.Receive(c.t, "room", c.released)
	}
}

// subscribe subscribes to a channel. While the engine is unavailable it tries again.
func (n *Node) subscribe(t testing.TB, name string, ask channel.Ask) (s *subscriber) {
	t.Helper()
	available(t, "a subscription to "+name, func() (err error) {
		s, err = n.try(t, name, ask)
		return err
	})
	return s
}

// available does something, again and again while the engine is unavailable.
func available(t testing.TB, what string, do func() error) {
	t.Helper()
	clienttest.WaitFor(t, what, func() bool {
		err := do()
		if err != nil && !errors.Is(err, engine.ErrUnavailable) {
			t.Fatalf("%s: %v", what, err)
		}
		return err == nil
	})
}

func (n *Node) history(t testing.TB, q engine.HistoryQuery) (channel.Collected, error) {
	t.Helper()
	q.Now = time.Now().UnixMilli()
	return wait(t, func(done func(channel.Collected, error)) { n.Engine.History(q, done) })
}

// wait asks, and fails the test if there is no answer.
func wait[T any](t testing.TB, ask func(done func(T, error))) (value T, err error) {
	t.Helper()
	answered := make(chan struct{})
	ask(func(v T, e error) {
		value, err = v, e
		close(answered)
	})
	clienttest.Receive(t, "an answer", answered)
	return value, err
}

func (n *Node) remove(t testing.TB, name string) error {
	t.Helper()
	_, err := wait(t, func(done func(struct{}, error)) {
		n.Engine.Remove(name, func(err error) { done(struct{}{}, err) })
	})
	return err
}

func (n *Node) presence(t testing.TB, name string, most int) (engine.Presence, error) {
	t.Helper()
	return wait(t, func(done func(engine.Presence, error)) { n.Engine.Presence(name, most, done) })
}

// publishAgain publishes a text. While the engine is unavailable it tries again, so the channel may
// have it more than once.
func (n *Node) publishAgain(t testing.TB, name, payload string) {
	t.Helper()
	available(t, "a publication to "+name, func() error {
		_, err := n.publish(t, name, payload)
		return err
	})
}

// publishAll publishes texts one after the other, and returns their receipts.
func (n *Node) publishAll(t testing.TB, name string, payloads ...string) (all []channel.Receipt) {
	t.Helper()
	for _, payload := range payloads {
		r, err := n.publish(t, name, payload)
		if err != nil {
			t.Fatalf("publish to %s: %v", name, err)
		}
		all = append(all, r)
	}
	return all
}

// want checks the texts that come next.
func (s *subscriber) want(why string, payloads ...string) {
	s.t.Helper()
	for _, payload := range payloads {
		if one := s.next(); one.Payload != payload || one.Kind != channel.KindMessage {
			s.t.Fatalf("%s: got %+v, want %q", why, one, payload)
		}
	}
}

var now = channel.Ask{Kind: channel.AskNow}

// leftOver returns what is left on a node after everybody has left and everything was answered.
func (n *Node) leftOver() (faults []string) {
	var names []string
	n.Space.Each(func(name string, _ int) { names = append(names, name) })
	for _, name := range names {
		if !n.Space.Keeps(name) {
			faults = append(faults, name+": the channel is there although nobody uses it")
		}
		if ch := n.Space.Find(name); ch != nil && ch.Waiting() > 0 {
			faults = append(faults, fmt.Sprintf("%s: %d publishers wait in the channel, and all were answered", name, ch.Waiting()))
		}
	}
	return faults
}

// Run checks what every engine has to keep. start is called for each test, and returns a rig in
// which nothing fails but what its functions make fail.
func Run(t *testing.T, start func(t *testing.T) *Rig) {
	for _, test := range []struct {
		name  string
		needs func(*Rig) bool // nil: nothing
		run   func(*testing.T, *Rig)
	}{
		{"one order for each channel", nil, func(t *testing.T, rig *Rig) { Order(t, rig) }},
		{"answers come once, under no lock", nil, once},
		{"payloads are not kept", nil, copies},
		{"what has no position in the order", nil, unordered},
		{"histories", nil, histories},
		{"a history is removed", nil, remove},
		{"a channel lives while it is used", nil, lives},
		{"publishers wait for room", nil, room},
		{"presence", nil, present},
		{"info", nil, info},
		{"questions to the other nodes", nil, questions},
		{"methods return while the store stands still", func(r *Rig) bool { return r.Stall != nil }, stall},
		{"readers that stand still hold up nobody else", func(r *Rig) bool { return r.Stall != nil }, stuck},
		{"a message with an ID is published once", func(r *Rig) bool { return r.Stall != nil }, again},
		{"the store is away", func(r *Rig) bool { return r.Away != nil }, away},
		{"a new epoch is a reset", func(r *Rig) bool { return r.Reset != nil }, reset},
		{"lost publications are a gap", func(r *Rig) bool { return r.Lose != nil }, lose},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rig := start(t)
			if test.needs == nil || test.needs(rig) {
				test.run(t, rig)
			}
			for _, n := range rig.Nodes {
				for _, fault := range n.leftOver() {
					t.Error(fault)
				}
			}
			if rig.Attached != nil {
				if left := rig.Attached(); len(left) > 0 {
					t.Errorf("%v are attached although nobody uses them", left)
				}
			}
		})
	}
}
