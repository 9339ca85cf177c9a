package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/engine"
	"sluice/gateway/presence"
	"sluice/gateway/setting"

	natsgo "github.com/nats-io/nats.go"
)

// buckets is how many parts the channels are divided into, for the counters of core messages.
const buckets = 256

// bucketOf returns the bucket of a channel, by its hash.
func bucketOf(hash uint64) int { return int(hash >> 56) }

// laneOf returns the lane of a channel, out of so many: one for all channels of a bucket.
func laneOf(hash uint64, lanes int) int { return laneOfBucket(bucketOf(hash), lanes) }

func laneOfBucket(bucket, lanes int) int { return bucket * lanes / buckets }

// peersMost bounds the nodes that are known, also those that have ended: anything that may publish can seem to be one.
const peersMost = 4096

// ErrNameTaken is returned for the name of a node that is live.
var ErrNameTaken = errors.New("another live node has this node's name")

// nameTaken returns ErrNameTaken as an operator reads it.
func nameTaken(name string) error {
	return fmt.Errorf("%w (%w)", setting.Error(fmt.Sprintf("another live gateway has the name %s: set {Name} to a name of its own", setting.Literal(strconv.Quote(name)))), ErrNameTaken)
}

// laneSet is the lanes, as nodes see them. Its methods may be called from any goroutine, and only post.
type laneSet interface {
	// behind calls f once on the receiving goroutine of each lane, after the messages that had come
	// for it before.
	behind(f func(lane, lanes int))
	// interrupted appends a gap to the channels without history in these buckets.
	interrupted(affected *[buckets]bool, cause string)
	// checkPositions compares channels with history with the store.
	checkPositions()
}

// transport is the connection to the servers.
type transport interface {
	publish(subject string, data []byte) error
	conns() uint64  // connections so far
	server() string // what it is connected to; "" for nothing
	payloadMax() int
}

// natsTransport is a real one.
type natsTransport struct{ c *natsgo.Conn }

func (t natsTransport) publish(subject string, data []byte) error { return t.c.Publish(subject, data) }
func (t natsTransport) conns() uint64                             { return t.c.Stats().Reconnects + 1 }
func (t natsTransport) payloadMax() int                           { return int(t.c.MaxPayload()) }
func (t natsTransport) server() string {
	if !t.c.IsConnected() {
		return ""
	}
	return t.c.ConnectedServerId()
}

// nodesConfig is what nodes need to know.
type nodesConfig struct {
	id        uint64
	name      string // "" for one that is drawn from id
	prefix    string // of subjects
	lanes     laneSet
	present   *presence.Table
	describe  func() engine.NodeInfo
	logger    *slog.Logger
	quiet     bool   // another process is this node, until goOn
	nameTaken func() // called if another node turns out to have the name, which began before this one
	hello     time.Duration
	after     func(time.Duration, func()) // nil for timers
	now       func() time.Time            // nil for the clock
}

// nodes hears the other nodes, and is heard by them. Its goroutine does all of its work; lanes call
// next and received. Nil is the nodes of a single node, whose other methods answer at once.
type nodes struct {
	// Set at construction.
	cfg       nodesConfig
	transport transport
	messages  chan *natsgo.Msg
	wake      chan struct{}
	stop      chan struct{}
	ended     chan struct{}
	named     chan error // whether the name may be had; buffered

	sent [buckets]atomic.Uint64 // counters; each is written by one lane

	// runs has the messages that came, by node. The map is never changed: one with one more node
	// takes its place, under growing.
	runs    atomic.Pointer[map[uint64]*[buckets]run]
	growing sync.Mutex

	live       atomic.Int64 // nodes, this one included
	unanswered atomic.Uint64
	answer     atomic.Pointer[func(request []byte, reply func([]byte))]

	closing sync.Once

	mu     sync.Mutex
	posted []func() // guarded by mu; for the goroutine
	closed bool     // guarded by mu; nothing is posted any more

	// Owned by the goroutine.
	peers    map[uint64]*peer
	starting bool
	ending   bool
	seq      uint64 // of the newest beat
	conns    uint64 // connections when that was looked at last
	echoes   uint64 // own beats that came back
	check    bool   // a check of positions is due
	asks     asks
	begun    uint64
	base     uint64 // connections of the process before this one
	// The newest question of each node: when the node moves, two processes get them.
	questions map[uint64]uint64
	// While another process is this node: what was sent to it, unless it is too much.
	quiet, unsure bool
	early         [][]byte

	moved atomic.Bool // another process is this node
}

// natsNodes subscribes on a connection, and makes the node known. It waits until it is sure of the node's
// name, and returns ErrNameTaken if another one has it.
func natsNodes(ctx context.Context, c *natsgo.Conn, cfg nodesConfig) (*nodes, error) {
	n := newNodes(natsTransport{c}, cfg)
	for _, subject := range []string{n.subject("beat"), n.subjectOf(cfg.id)} {
		if _, err := c.ChanSubscribe(subject, n.messages); err != nil { // it ends with the connection
			return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	go n.run(time.NewTicker(pulse))
	if cfg.quiet {
		return n, nil
	}
	n.post(n.begin)
	var err error
	select {
	case err = <-n.named:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// newNodes returns nodes that do nothing yet.
func newNodes(t transport, cfg nodesConfig) *nodes {
	if cfg.name == "" {
		cfg.name = "node-" + nodeText(cfg.id)
	}
	if cfg.hello == 0 {
		cfg.hello = 500 * time.Millisecond
	}
	n := &nodes{cfg: cfg, transport: t, begun: uint64(time.Now().UnixNano()),
		messages: make(chan *natsgo.Msg, 8<<10), wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
		named: make(chan error, 1), peers: make(map[uint64]*peer), questions: make(map[uint64]uint64), starting: !cfg.quiet, quiet: cfg.quiet}
	if n.cfg.after == nil {
		n.cfg.after = func(d time.Duration, f func()) { time.AfterFunc(d, func() { n.post(f) }) }
	}
	if n.cfg.now == nil {
		n.cfg.now = time.Now
	}
	n.runs.Store(&map[uint64]*[buckets]run{})
	n.live.Store(1)
	return n
}

func (n *nodes) subject(name string) string   { return n.cfg.prefix + "." + name }
func (n *nodes) subjectOf(node uint64) string { return n.subject("ask.") + nodeText(node) }
func nodeText(id uint64) string               { return strconv.FormatUint(id, 16) }
func (n *nodes) next(bucket int) uint64       { return n.sent[bucket].Add(1) }
func (n *nodes) counters() (c counters) {
	for i := range c {
		c[i] = n.sent[i].Load()
	}
	return c
}

// received notes a message of a node. It is called by the lane of the bucket.
func (n *nodes) received(node uint64, bucket int, counter uint64) {
	runs := (*n.runs.Load())[node]
	if runs == nil {
		runs = n.grow(node)
	}
	runs[bucket].add(counter)
}

// grow makes room for a node's messages.
func (n *nodes) grow(node uint64) *[buckets]run {
	n.growing.Lock()
	defer n.growing.Unlock()
	all := maps.Clone(*n.runs.Load())
	if len(all) >= peersMost { // what is forgotten counts as missed
		clear(all)
	}
	if all[node] == nil {
		all[node] = new([buckets]run)
		n.runs.Store(&all)
	}
	return all[node]
}

// forget makes room.
func (n *nodes) forget(node uint64) {
	n.growing.Lock()
	defer n.growing.Unlock()
	all := maps.Clone(*n.runs.Load())
	delete(all, node)
	n.runs.Store(&all)
}

// post has the goroutine do something. It reports false if that has ended.
func (n *nodes) post(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.posted = append(n.posted, f)
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return true
}

func (n *nodes) run(ticker *time.Ticker) {
	defer close(n.ended)
	defer ticker.Stop()
	for {
		select {
		case m := <-n.messages:
			n.handle(m.Data)
		case <-n.wake:
			n.work()
		case <-ticker.C:
			n.tick()
		case <-n.stop:
			n.work()
			n.end()
			return
		}
	}
}

// work does what was posted.
func (n *nodes) work() {
	n.mu.Lock()
	all := n.posted
	n.posted = nil
	n.mu.Unlock()
	for _, f := range all {
		f()
	}
}

// close says goodbye, and ends.
func (n *nodes) close() {
	if n == nil {
		return
	}
	n.closing.Do(func() { close(n.stop) })
	<-n.ended
}

// end answers whatever is not answered.
func (n *nodes) end() {
	n.ending = true
	if n.seq > 0 && !n.moved.Load() && !n.quiet { // others have heard of it
		n.beat(beatFull|beatEnd, n.subject("beat"))
	}
	n.mu.Lock()
	n.closed = true
	rest := n.posted
	n.posted = nil
	n.mu.Unlock()
	for _, f := range rest {
		f()
	}
	n.asks.giveUp()
}

// begin makes the node known.
func (n *nodes) begin() {
	n.conns = n.connections()
	n.tick()
}

// beat sends a beat. A welcome is not a new one.
func (n *nodes) beat(flags byte, subject string) {
	b := beat{flags: flags, node: n.cfg.id, begun: n.begun, seq: n.seq + 1, conns: n.conns}
	if b.is(beatWelcome) {
		b.seq = n.seq
	}
	if n.starting {
		b.flags |= beatStarting
	}
	if b.is(beatFull) {
		b.counters, b.described = n.counters(), described{n.cfg.name, n.transport.server(), n.describe()}
	}
	if n.transport.publish(subject, appendBeat(nil, &b)) == nil {
		n.seq = b.seq
	}
}

func (n *nodes) describe() (info engine.NodeInfo) {
	if n.cfg.describe != nil {
		info = n.cfg.describe()
	}
	info.Name = n.cfg.name
	if info.ID == "" {
		info.ID = nodeText(n.cfg.id)
	}
	return info
}

// connections returns how many connections the node has had.
func (n *nodes) connections() uint64 { return n.base + n.transport.conns() }

// tick sends a beat, and looks at what is due.
func (n *nodes) tick() {
	if n.quiet || n.moved.Load() {
		return
	}
	n.reconnected()
	var flags byte
	if n.seq%fullEvery == 0 || n.starting {
		flags = beatFull
	}
	n.beat(flags, n.subject("beat"))
	for _, p := range n.peers {
		n.resolve(p)
	}
	if n.check {
		n.cfg.lanes.checkPositions()
		n.check = false
	}
}

// reconnected doubts everything if the connection is another one than before. It is called before
// whatever depends on that, because nats.go calls back some time later.
func (n *nodes) reconnected() {
	now := n.connections()
	if now == n.conns {
		return
	}
	n.conns = now
	for _, p := range n.peers {
		p.doubted(engine.GapReconnect)
		p.asked = 0 // the question or its answer may be lost
		n.resolve(p)
	}
}

// up is called when the connection is there again.
func (n *nodes) up() {
	if n == nil {
		return
	}
	n.post(func() {
		if n.quiet || n.moved.Load() {
			return
		}
		n.reconnected()
		n.beat(beatFull, n.subject("beat"))
	})
}

// kinds of what nodes send each other, behind the version.
const (
	kindBeat = iota + 1
	kindQuestion
	kindAnswer
)

// handle takes what a node sent.
func (n *nodes) handle(data []byte) {
	if len(data) < 2 || data[0] != beatVersion {
		return // of a newer version, which is heard by nodes of its own
	}
	switch {
	case n.moved.Load():
		return
	case n.quiet:
		n.quietly(data)
		return
	}
	n.reconnected()
	switch data[1] {
	case kindBeat:
		if b, err := parseBeat(data[2:]); err == nil {
			n.heard(b)
		}
	case kindQuestion:
		n.question(data[2:])
	case kindAnswer:
		n.answered(data[2:])
	}
}

// info returns the other live nodes.
func (n *nodes) info(done func(engine.Nodes, error)) {
	if n == nil {
		done(engine.Nodes{}, nil)
		return
	}
	if !n.post(func() { done(n.list(), nil) }) {
		done(engine.Nodes{Partial: true}, nil)
	}
}

func (n *nodes) list() engine.Nodes {
	cut := n.transport.server() == ""
	out := engine.Nodes{Partial: cut}
	for id, p := range n.peers {
		if id == n.cfg.id || !p.live {
			continue
		}
		if p.Info.ID == "" { // no full beat has come yet
			out.Partial = true
			continue
		}
		info := p.Info
		if silent := n.cfg.now().Sub(p.last); silent >= silentFor || cut {
			info.Silent = max(silent, time.Second)
		}
		out.List = append(out.List, info)
	}
	return out
}

// neighbors returns the other live nodes by their numbers; false while this node is not one of them.
func (n *nodes) neighbors() (list []engine.Neighbor, ok bool) {
	for id, p := range n.peers {
		if id != n.cfg.id && p.live {
			list = append(list, engine.Neighbor{Node: id, Info: p.Info})
		}
	}
	return list, !n.starting && !n.quiet && !n.moved.Load()
}
