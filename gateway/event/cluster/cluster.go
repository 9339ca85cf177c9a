package cluster

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"sluice/gateway/event"

	"github.com/cespare/xxhash/v2"
)

// Node is another live node.
type Node struct {
	ID       uint64
	Name     string
	Sends    bool // it has receivers of events
	Draining bool // it shuts down
}

// Bus is how a node reaches the others.
type Bus interface {
	// Others calls done with the other live nodes; ok is false while they are not known.
	Others(done func(list []Node, ok bool))
	// Ask asks a node, and calls done once with its answer. Both may call done before they return.
	Ask(node uint64, request []byte, done func(answer []byte, err error))
}

// Config is what a Cluster is made with.
type Config struct {
	Self  uint64
	Sends bool // this node has receivers
	Bus   Bus
	Log   *slog.Logger
}

const (
	// Tick is how often Cluster.Tick is to be called.
	Tick = 250 * time.Millisecond
	// hello is for how long a node that has just come listens before it owns partitions.
	hello = time.Second
	// wantEvery is how often a node is asked for what it has said that it says.
	wantEvery = time.Second
	// patience is how long an owner waits for a node that does not say what it has.
	patience = 10 * time.Second
	// pushItems and pushBytes bound a push.
	pushItems = 2000
	pushBytes = 128 << 10
	// outMost bounds the items that wait for a node. If there are more, the session begins anew.
	outMost = 200_000
	// namesMost is how many channels a piece of a sync has.
	namesMost = 500
)

// Cluster is a node's part. Its methods are safe for concurrent use.
type Cluster struct {
	cfg Config // set at construction
	n   *event.Notifier

	mu sync.Mutex
	// Guarded by mu.
	peers    map[uint64]*peer
	mine     parts // that this node should own
	owned    parts // that it does
	epochs   [event.Partitions]string
	draining bool
	paused   bool
	knownAt  time.Time // when the other nodes were first known; zero if they are not
	now      time.Time
	calls    []func() // to be made without mu
}

// peer is another node.
type peer struct {
	Node
	name    string // of the node in the notifier
	present bool   // it is live
	since   time.Time
	warned  bool

	// What it says.
	session, number uint64 // of its last push
	synced          parts
	coming          map[int][]string // syncs that are not complete
	asked           time.Time        // when it was asked last

	// What it is told.
	wants   parts
	have    parts // what it has, by its last want
	out     []item
	first   uint64 // session of out; 0 if it has to ask
	sent    uint64 // number of the last push
	flight  int    // items of the last push, the first of out, until it is answered
	sending bool   // an answer to it may come
	pending parts  // syncs that are in out, or are made
	retried time.Time
}

// New returns a Cluster. Attach comes next.
func New(cfg Config) *Cluster {
	return &Cluster{cfg: cfg, peers: make(map[uint64]*peer), now: time.Now()}
}

// Attach sets the notifier, which was made with Changes, and is Shared.
func (c *Cluster) Attach(n *event.Notifier) { c.n = n }

// locked runs f under the lock, and then what it has left to be called.
func (c *Cluster) locked(f func()) {
	c.mu.Lock()
	f()
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

func (c *Cluster) later(f func()) { c.calls = append(c.calls, f) }

// Sends says whether this node has receivers now.
func (c *Cluster) Sends(on bool) { c.locked(func() { c.cfg.Sends = on }) }

// Tick looks at which nodes there are.
func (c *Cluster) Tick(now time.Time) {
	c.cfg.Bus.Others(func(list []Node, ok bool) {
		c.locked(func() {
			if c.now = now; ok && !c.paused {
				c.see(list)
				c.decide()
			}
		})
	})
}

// see takes the list of live nodes.
func (c *Cluster) see(list []Node) {
	if c.knownAt.IsZero() {
		c.knownAt = c.now
	}
	there := make(map[uint64]bool)
	for _, node := range list {
		p := c.peer(node.ID)
		there[node.ID] = true
		if !p.present {
			p.present, p.since = true, c.now
		}
		node.Draining = node.Draining || p.Draining
		p.Node = node
	}
	for id, p := range c.peers {
		switch {
		case there[id]:
		case p.present:
			c.n.Gone(p.name, !p.Draining)
			delete(c.peers, id)
		case c.now.Sub(p.since) > patience: // it has asked, and was never seen
			delete(c.peers, id)
		}
	}
}

func (c *Cluster) peer(id uint64) *peer {
	p := c.peers[id]
	if p == nil {
		p = &peer{Node: Node{ID: id}, name: strconv.FormatUint(id, 16), since: c.now}
		c.peers[id] = p
	}
	return p
}

// owner returns the node that should own a partition; false for none.
func (c *Cluster) owner(part int) (id uint64, ok bool) {
	most := uint64(0)
	try := func(node uint64) {
		var b [9]byte
		for i := range 8 {
			b[i] = byte(node >> (8 * i))
		}
		b[8] = byte(part)
		if h := xxhash.Sum64(b[:]); !ok || h > most || h == most && node > id {
			id, most, ok = node, h, true
		}
	}
	if c.cfg.Sends && !c.draining {
		try(c.cfg.Self)
	}
	for _, p := range c.peers {
		if p.present && p.Sends && !p.Draining {
			try(p.ID)
		}
	}
	return id, ok
}

// decide begins and ends to own partitions, and asks for what it takes.
func (c *Cluster) decide() {
	before := c.mine
	for part := range event.Partitions {
		id, ok := c.owner(part)
		switch {
		case ok && id == c.cfg.Self:
			c.mine.set(part)
		case c.owned.has(part) && (!ok || c.draining && !c.has(id, part)):
			// It goes on until another node can.
		case c.mine.has(part) || c.owned.has(part):
			c.disown(part)
			c.mine.clear(part)
		}
	}
	ready := !c.knownAt.IsZero() && c.now.Sub(c.knownAt) >= hello
	for _, p := range c.peers {
		if p.present && p.flight > 0 && !p.sending && p.retried != c.now {
			p.retried = c.now
			c.send(p)
		}
		if p.present && (c.mine|c.owned != 0 || p.asked != time.Time{}) && (c.mine != before || c.now.Sub(p.asked) >= wantEvery) {
			c.ask(p)
		}
	}
	for part := range event.Partitions {
		if c.mine.has(part) && !c.owned.has(part) && ready && c.complete(part) {
			c.own(part)
		}
	}
}

// has reports whether a node has all of this node's channels in a partition.
func (c *Cluster) has(id uint64, part int) bool {
	p := c.peers[id]
	return p != nil && p.have.has(part)
}

// complete reports whether the channels of all nodes in a partition are known.
func (c *Cluster) complete(part int) bool {
	for _, p := range c.peers {
		if !p.present || p.synced.has(part) {
			continue
		}
		if c.now.Sub(p.since) < patience {
			return false
		}
		if !p.warned {
			p.warned = true
			c.cfg.Log.Warn("a node does not say which of its channels are occupied, and is not counted", "node", p.Name)
		}
	}
	return true
}

func (c *Cluster) own(part int) {
	c.owned.set(part)
	c.n.OwnAs(part, c.epochs[part], func(epoch string) {
		c.locked(func() { c.epochs[part] = max(c.epochs[part], epoch) })
	})
}

// disown ends own, and forgets what other nodes have said.
func (c *Cluster) disown(part int) {
	c.owned.clear(part)
	c.n.Disown(part)
	for _, p := range c.peers {
		p.synced.clear(part)
		delete(p.coming, part)
	}
}

// ask asks a node for what this one wants to know.
func (c *Cluster) ask(p *peer) {
	p.asked = c.now
	m := message{From: c.cfg.Self, Want: &want{Parts: c.mine | c.owned, Have: p.synced, Session: p.session, Epochs: c.epochs}}
	b := m.append()
	to := p.ID
	c.later(func() { c.cfg.Bus.Ask(to, b, func([]byte, error) {}) }) // ignored: it is asked again
}

// Changes is event.Config.Changes.
func (c *Cluster) Changes(part int, changes []event.Change) {
	c.locked(func() {
		for _, p := range c.peers {
			if !p.wants.has(part) || p.first == 0 {
				continue
			}
			for _, x := range changes {
				p.out = append(p.out, item{Part: part, Channel: x.Channel, On: x.On})
			}
			c.push(p)
		}
	})
}

// Answer answers another node's message. It reports false if it is none.
func (c *Cluster) Answer(request []byte, reply func([]byte)) bool {
	b, ok := bytes.CutPrefix(request, []byte(prefix))
	if !ok {
		return false
	}
	var m message
	var a answer
	if json.Unmarshal(b, &m) == nil {
		c.locked(func() {
			switch {
			case c.paused:
			case m.Want != nil:
				c.wanted(c.peer(m.From), m.Want)
				a.OK = true
			case m.Push != nil:
				a = c.pushed(m.From, m.Push)
			}
		})
	}
	if a == (answer{}) {
		reply(nil)
		return true
	}
	text, _ := json.Marshal(a) // ignored: it has two booleans
	reply(text)
	return true
}

// IsMessage reports whether a request is for Answer.
func IsMessage(request []byte) bool { return bytes.HasPrefix(request, []byte(prefix)) }

// wanted takes what a node wants to know.
func (c *Cluster) wanted(p *peer, w *want) {
	for part, epoch := range w.Epochs {
		if epoch > c.epochs[part] {
			if c.epochs[part] = epoch; c.owned.has(part) && !c.draining {
				c.disown(part) // another node has owned it since: decide begins again
			}
		}
	}
	if begun := p.sent > 1 || p.sent == 1 && p.flight == 0; p.first == 0 || w.Session != p.first && begun {
		c.restart(p)
	}
	before := p.wants
	p.wants, p.have = w.Parts, 0
	if w.Session == p.first {
		p.have = w.Have
	}
	for part := range event.Partitions {
		// Of one that was not wanted for some time the changes were not sent.
		if w.Parts.has(part) && (!before.has(part) || !p.have.has(part) && !p.pending.has(part)) {
			c.sync(p, part)
		}
	}
	if c.draining {
		c.decide()
	}
}

// restart begins a session.
func (c *Cluster) restart(p *peer) {
	p.first, p.sent, p.flight, p.out, p.pending, p.have = rand.Uint64()|1, 0, 0, nil, 0, 0
	if c.draining {
		p.out = append(p.out, item{Drain: true})
	}
}

// sync pushes all channels of this node in a partition.
func (c *Cluster) sync(p *peer, part int) {
	p.pending.set(part)
	session := p.first
	c.n.Here(part, func(names []string) {
		c.locked(func() {
			if p.first != session {
				return
			}
			for first := true; first || len(names) > 0; first = false {
				n := min(len(names), namesMost)
				p.out = append(p.out, item{Part: part, Sync: true, Names: names[:n], First: first, Last: n == len(names)})
				names = names[n:]
			}
			c.push(p)
		})
	})
}

// push sends the first of what waits for a node. One that was not answered is sent again, in the next tick.
func (c *Cluster) push(p *peer) {
	if len(p.out) > outMost {
		p.stop() // it asks, and gets syncs
	}
	if p.sending || p.flight > 0 || c.paused || len(p.out) == 0 {
		return
	}
	for size := 0; p.flight < len(p.out) && p.flight < pushItems && size < pushBytes; p.flight++ {
		size += p.out[p.flight].size()
	}
	p.sent++
	c.send(p)
}

// stop ends a session.
func (p *peer) stop() { p.first, p.flight, p.out, p.pending, p.have = 0, 0, nil, 0, 0 }

// send sends the last push.
func (c *Cluster) send(p *peer) {
	session, number := p.first, p.sent
	m := message{From: c.cfg.Self, Push: &push{Session: session, Number: number, Items: p.out[:p.flight]}}
	b := m.append()
	p.sending = true
	to := p.ID
	c.later(func() {
		c.cfg.Bus.Ask(to, b, func(text []byte, err error) {
			var a answer
			if err == nil {
				_ = json.Unmarshal(text, &a) // ignored: then it is no answer
			}
			c.locked(func() { c.answered(p, session, a) })
		})
	})
}

// answered takes the answer to a push.
func (c *Cluster) answered(p *peer, session uint64, a answer) {
	p.sending = false
	switch {
	case p.first != session:
	case a.Again:
		wants := p.wants
		c.restart(p)
		for part := range event.Partitions {
			if wants.has(part) {
				c.sync(p, part)
			}
		}
	case !a.OK:
		return // Tick sends it again
	default:
		for i := range p.flight {
			if x := &p.out[i]; x.Last {
				p.pending.clear(x.Part)
				p.have.set(x.Part)
			}
		}
		if p.out, p.flight = p.out[p.flight:], 0; len(p.out) == 0 {
			p.out = nil
		}
		if c.draining {
			c.decide()
		}
	}
	c.push(p)
}

// pushed takes what a node says.
func (c *Cluster) pushed(from uint64, m *push) answer {
	p := c.peers[from]
	if p == nil || !p.present {
		return answer{} // it is not live as far as this node sees: it is asked when it is
	}
	switch {
	case m.Number == 1 && m.Session != p.session:
		p.session, p.number, p.synced, p.coming = m.Session, 0, 0, nil
	case m.Session == p.session && m.Number == p.number:
		return answer{OK: true} // it came before
	case m.Session != p.session || m.Number != p.number+1:
		return answer{Again: true}
	}
	p.number = m.Number
	done := false
	for i := range m.Items {
		x := &m.Items[i]
		switch {
		case x.Drain:
			p.Draining, done = true, true
			c.n.Drain(p.name, true)
		case x.Part < 0 || !(c.mine | c.owned).has(x.Part): // it is not wanted any more
		case x.Sync:
			if x.First {
				if p.coming == nil {
					p.coming = make(map[int][]string)
				}
				p.coming[x.Part] = []string{}
			}
			if p.coming[x.Part] == nil {
				continue // what came before was forgotten meanwhile
			}
			p.coming[x.Part] = append(p.coming[x.Part], x.Names...)
			if x.Last {
				c.n.Sync(p.name, x.Part, p.coming[x.Part])
				delete(p.coming, x.Part)
				p.synced.set(x.Part)
				done = true
			}
		default:
			c.n.Set(p.name, x.Channel, x.On)
		}
	}
	if done {
		c.decide()
	}
	return answer{OK: true}
}

// Drain says that this node shuts down. It goes on to own what no other node can yet: see Idle.
func (c *Cluster) Drain() {
	c.locked(func() {
		c.draining = true
		for _, p := range c.peers {
			if p.first != 0 {
				p.out = append(p.out, item{Drain: true})
				c.push(p)
			}
		}
		c.decide()
	})
}

// Idle reports whether this node owns nothing any more, or no other node could own that.
func (c *Cluster) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.owner(0)
	return c.owned == 0 || !ok
}

// Owned returns how many partitions this node owns.
func (c *Cluster) Owned() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for part := range event.Partitions {
		if c.owned.has(part) {
			n++
		}
	}
	return n
}

// Again has all nodes that want to know it told all of this node's channels anew.
func (c *Cluster) Again() {
	c.locked(func() {
		for _, p := range c.peers {
			for part := range event.Partitions {
				if p.first != 0 && p.wants.has(part) && !p.pending.has(part) {
					c.sync(p, part)
				}
			}
		}
	})
}
