package enginetest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// Model checks a script of subscriptions, publications, losses, disconnects and returns against a map
// of slices, which have what was published to each channel. One step of the script comes after the
// other, so that it is known what everybody has to get: in channels with history all of it, from
// wherever they come back, and a gap only where it is no longer kept; in others what was not lost, and
// a gap before what comes behind that. The channels' names begin with a prefix, which makes rigs good
// for many scripts.
func Model(t testing.TB, rig *Rig, prefix string, script []byte) {
	m := &model{t: t, rig: rig, channels: map[string]*modelChannel{}}
	// "few" keeps less than a script publishes, "none" nothing.
	m.names = []string{"a" + prefix, "few" + prefix, "none" + prefix, "none-b" + prefix}
	for _, name := range m.names {
		m.channels[name] = &modelChannel{name: name, keep: Keep(name).Count, lossy: map[*Node]int{}}
	}
	for len(script) > 0 && !t.Failed() {
		step := [4]byte{}
		script = script[copy(step[:], script):]
		m.step(step)
	}
	m.end()
}

// RandomScript returns a script.
func RandomScript(seed uint64, steps int) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	script := make([]byte, 4*steps)
	for i := range script {
		script[i] = byte(random.Uint32())
	}
	return script
}

type model struct {
	t        testing.TB
	rig      *Rig
	names    []string
	channels map[string]*modelChannel
	readers  []*modelReader
	log      []string // the steps
}

// modelChannel is what was published to a channel.
type modelChannel struct {
	name    string
	keep    int
	all     []string         // payloads
	removed int              // how many of them were removed
	last    channel.Position // the receipt of the newest
	lossy   map[*Node]int    // where deliveries were lost, or are to be: at most how many
}

// floor returns how many publications are no longer kept.
func (c *modelChannel) floor() int { return max(len(c.all)-c.keep, c.removed) }

// modelReader is a subscriber, whether it is there or away.
type modelReader struct {
	*modelChannel
	node  *Node
	s     *subscriber      // nil: away
	at    channel.Position // of the newest that it has
	fresh bool             // it has got nothing yet: "now" is where its node is
	next  int              // index of what comes next; -1: anything may, behind a gap
	after int              // ... above this index
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) fault(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\nafter %q", fmt.Sprintf(format, args...), m.log)
}

func (m *model) step(step [4]byte) {
	node := int(step[1]) % len(m.rig.Nodes)
	n, c := m.rig.Nodes[node], m.channels[m.names[int(step[2])%len(m.names)]]
	var r *modelReader
	if len(m.readers) > 0 {
		r = m.readers[int(step[3])%len(m.readers)]
	}
	switch op := step[0] % 16; {
	case op < 6:
		m.note("publish %d to %s on %d", len(c.all), c.name, node)
		m.publish(n, c)
	case op < 8 && len(m.readers) < 8:
		m.note("subscribe to %s on %d, %d", c.name, node, step[3]%3)
		m.join(n, c, step[3])
	case op < 10 && r != nil && r.s != nil:
		m.note("leave %s", r.name)
		m.drain(r)
		r.s.leave()
		r.s = nil
	case op < 12 && r != nil && r.s == nil:
		m.note("come back to %s on %d from %v", r.name, node, r.at)
		m.comeBack(r, n)
	case op < 13 && r != nil && r.s != nil:
		m.note("read %s", r.name)
		m.settle(r)
	case op < 15 && m.rig.Lose != nil:
		m.note("lose %d of %s on %d", 1+step[3]%3, c.name, node)
		c.lossy[n] += int(1 + step[3]%3)
		m.rig.Lose(node, c.name, int(1+step[3]%3))
	case op == 15 && step[3]%4 == 0 && c.keep > 0:
		m.note("remove the history of %s on %d", c.name, node)
		m.settleAll(c)
		if err := n.remove(m.t, c.name); err != nil {
			m.fault("remove: %v", err)
		}
		c.removed = len(c.all)
		m.publish(n, c)
		m.settleAll(c) // behind it, no node has what was removed
	}
}

func (m *model) publish(n *Node, c *modelChannel) {
	if m.rig.perNode(c.name) { // the order of different publishers is not known
		n = m.rig.Nodes[len(c.name)%len(m.rig.Nodes)]
	}
	payload := fmt.Sprintf("%s %d", c.name, len(c.all))
	r, err := n.publish(m.t, c.name, payload)
	if err != nil {
		m.fault("publish: %v", err)
	}
	c.all, c.last = append(c.all, payload), channel.Position{Epoch: r.Epoch, Offset: r.Offset}
}

func (m *model) join(n *Node, c *modelChannel, kind byte) {
	m.settleAll(c) // what is on its way to a node comes after "now", there
	ask, begin := now, len(c.all)
	if kind%3 > 0 && c.keep > 0 {
		newest := int(kind % 7)
		ask, begin = channel.Ask{Kind: channel.AskNewest, N: newest}, max(len(c.all)-newest, c.floor())
		if kind%3 == 2 {
			ask, begin = channel.Ask{Kind: channel.AskNewest, N: math.MaxInt32}, c.floor()
		}
	}
	r := &modelReader{modelChannel: c, node: n, s: n.subscribe(m.t, c.name, ask), next: begin, fresh: true}
	if r.at = r.s.from; r.s.gap {
		m.fault("a subscription that asks for what there is has a gap")
	}
	m.readers = append(m.readers, r)
	current := slices.ContainsFunc(m.readers, func(other *modelReader) bool {
		return other != r && other.modelChannel == c && other.node == n && other.s != nil && other.next == len(c.all)
	})
	if c.keep > 0 && (c.lossy[n] > 0 || !current) {
		r.next, r.after = -1, -1 // the node may not know of the newest, which comes soon
	}
	if c.keep == 0 {
		r.next, r.after = -1, -1
		m.pin(r)
	}
}

// pin finds out where a reader is that may begin anywhere: it gets what is published now.
func (m *model) pin(r *modelReader) {
	for range 1 + r.lossy[r.node] {
		m.publish(m.rig.Nodes[len(r.all)%len(m.rig.Nodes)], r.modelChannel)
	}
	for r.next != len(r.all) {
		m.take(r, r.s.next())
	}
}

// comeBack has a reader come back, on any node, with the position that it has.
func (m *model) comeBack(r *modelReader, n *Node) {
	r.node, r.s = n, n.subscribe(m.t, r.name, channel.Ask{Kind: channel.AskSince, At: r.at})
	// Of a channel without publications a store may not know for how long it has had none.
	if r.s.gap && r.keep > 0 && r.next > 0 && r.next >= r.floor() {
		m.fault("%s: came back with a gap; it has %d, and %d of %d are kept", r.name, r.next, len(r.all)-r.floor(), len(r.all))
	}
	if r.s.gap && r.keep > 0 {
		r.next, r.after = -1, -1 // where the history begins of which its node knows
	}
	r.at = r.s.from
	if r.s.gap && r.keep == 0 {
		r.next, r.after = -1, -1 // another node may not have delivered what it has already
		m.pin(r)
	}
}

// take takes a publication or a gap.
func (m *model) take(r *modelReader, one entry) {
	switch {
	case one.Kind == channel.KindGap:
		if r.lossy[r.node] == 0 || m.rig.Fills && r.keep > 0 && r.next > 0 && !r.fresh && r.next >= r.floor() {
			m.fault("%s: got a gap, and nothing was lost that is not kept", r.name)
		}
		if r.next >= 0 {
			r.next, r.after = -1, r.next-1
		}
		r.at = channel.Position{Epoch: one.At.Epoch, Offset: one.Prev}
		return
	case one.Kind != channel.KindMessage || one.At.Epoch != r.at.Epoch || one.At.Offset <= r.at.Offset,
		one.Prev != r.at.Offset && !(one.Prev == 0 && one.Payload == r.all[0]): // a channel's first one comes after any position
		m.fault("%s: got %+v behind %v", r.name, one, r.at)
	}
	index := -1
	for i, payload := range r.all {
		if payload == one.Payload {
			index = i
		}
	}
	if index < 0 || r.next >= 0 && index != r.next || r.next < 0 && index <= r.after {
		m.fault("%s: got %q, want number %d, or one after %d", r.name, one.Payload, r.next, r.after)
	}
	r.at, r.next, r.fresh = one.At, index+1, false
}

// drain takes what has come.
func (m *model) drain(r *modelReader) {
	for !r.s.idle() {
		m.take(r, r.s.next())
	}
}

// settle takes all that must come: in a channel with history all of it, in one of which nothing was
// lost on the way, too.
func (m *model) settle(r *modelReader) {
	m.drain(r)
	for r.next >= 0 && r.next < len(r.all) && (r.lossy[r.node] == 0 || r.keep > 0 && m.rig.Fills) {
		m.take(r, r.s.next())
	}
}

// settleAll settles all readers of a channel.
func (m *model) settleAll(c *modelChannel) {
	for _, r := range m.readers {
		if r.modelChannel == c && r.s != nil {
			m.settle(r)
		}
	}
}

// end has every reader come back, publishes to every channel until no loss is left, and has all get that.
func (m *model) end() {
	for _, r := range m.readers {
		if r.s == nil {
			m.comeBack(r, r.node)
		}
	}
	for _, name := range m.names {
		c := m.channels[name]
		most := 0
		for _, n := range c.lossy {
			most = max(most, n)
		}
		for range 1 + most {
			m.publish(m.rig.Nodes[0], c)
		}
	}
	for _, r := range m.readers {
		for r.next != len(r.all) {
			m.take(r, r.s.next())
		}
		if !r.s.idle() {
			m.fault("%s: got %+v behind the last one", r.name, r.s.next())
		}
		r.s.leave()
	}
	for _, c := range m.channels {
		if c.keep == 0 {
			continue
		}
		for _, n := range m.rig.Nodes {
			kept, err := n.history(m.t, engine.HistoryQuery{Channel: c.name, Most: channel.Bounds{Count: -1}})
			if err != nil && !errors.Is(err, engine.ErrUnavailable) || err == nil && len(kept.Publications) != len(c.all)-c.floor() {
				m.fault("%s: %d are kept, want %d; %v", c.name, len(kept.Publications), len(c.all)-c.floor(), err)
			}
		}
	}
}
