package nats

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"

	natsgo "github.com/nats-io/nats.go"
)

const (
	idleWait      = 2 * time.Second // between a channel's last reader and the end of its subscription
	heldMost      = 1024            // messages that wait while their channel is read from the stream,
	heldBytesMost = 32 << 20        // and bytes of those of all channels of a lane
	arrivalBytes  = 200             // that one takes beside
)

// A route is the way of a channel's messages to this node. It is owned by its lane's receiving goroutine.
type route struct {
	token, name string
	ch          *channel.Channel // nil while nobody reads it
	keeps       bool             // its history is stored
	bucket      uint8
	told        bool // ch knows its position
	slow        bool // it is in the lane's slow
	trying      bool // a message is sent to its subscription,
	heard       bool // and has come
	passed      bool // the server is one of a cluster
	refused     bool // the server refuses its subscription: it is in the lane's refused
	st          *stream
	sub         *natsgo.Subscription // nil until the server has it, and on a single node
	at          int                  // in the lane's list

	// The order. Of a stored history last is the sequence up to which all was handled; newest is how far
	// clients are told that is, and prev the offset of the newest publication, 0 if there is none.
	// published is the publication time of the newest one, and doubt says that something behind it may be lost (lane.compare).
	epoch              channel.Epoch
	last, newest, prev uint64
	published          int64
	doubt              bool

	busy *busy // not nil while the position is not known, or the channel is read from the stream

	since      int64       // when it was attached: Engine.uptime
	publishers []publisher // of messages that are not stored
	left       time.Time   // when the last reader has left
	dropped    int         // messages of sub that were dropped, as far as that is known
}

// busy is what a route has while it waits for its stream.
type busy struct {
	held     []arrival
	bytes    int
	overflow bool // some were not held
	fill     bool // the channel waits to be filled
}

// arrival is a stored message on its way to a channel.
type arrival struct {
	seq, last uint64 // last is the sequence of the one before it, 0 if that is not known
	m         message
	err       error // it cannot be read
}

// publisher is what a route knows of a node that publishes to its channel.
type publisher struct{ node, counter uint64 }

// attach connects a channel with its route.
func (l *lane) attach(ch *channel.Channel) {
	name := ch.Name()
	t := token(name)
	if r := l.routes[t]; r != nil {
		r.ch, r.told = ch, false
		switch {
		case r.refused:
			l.fail(r, engine.ErrUnavailable)
		case r.busy != nil: // Attached is called when that is over
		case r.keeps:
			l.tell(r)
		default: // what was published before goes first
			l.later(func() { l.marked = append(l.marked, l.again(r, ch)) })
		}
		return
	}
	r := &route{token: t, name: name, ch: ch, keeps: l.e.keeps(name), bucket: uint8(bucket(name)), at: len(l.list), busy: new(busy)}
	if r.keeps {
		r.st = l.e.stream(name)
	}
	away := !l.e.connected.Load() || l.e.closed.Load() || r.keeps && (r.st == nil || r.st.flow.away.Load())
	if _, attached := ch.Order(); away && (l.e.single || !attached || r.keeps && r.st == nil) {
		l.unprepared = l.unprepared || l.taking
		ch.Failed(engine.ErrAway)
		return
	}
	l.routes[t] = r
	l.list = append(l.list, r)
	if away {
		l.fail(r, engine.ErrAway)
		return
	}
	if l.e.single {
		l.asking = append(l.asking, r)
		return
	}
	l.later(func() { l.subscribe(r) })
}

// subscribe subscribes to a route's subject. It runs on the sending goroutine.
func (l *lane) subscribe(r *route) {
	sub, err := l.e.link.main.ChanSubscribe(l.e.live+r.token, l.live)
	pass := r.keeps && l.e.link.main.ConnectedClusterName() != ""
	if pass {
		l.passing[r.st] = append(l.passing[r.st], r)
	}
	l.marked = append(l.marked, func(unmarked error) { // on the receiving goroutine
		switch r.sub, r.passed = sub, pass; {
		case err != nil || unmarked != nil || !l.current(r):
			l.fail(r, engine.ErrUnavailable)
		case isRefusal(l.e.link.main.LastError()):
			r.trying = true
			l.later(func() { l.try(r) })
		default:
			l.subscribed(r)
		}
	})
}

// isRefusal reports whether an error of the connection is about a subscription, perhaps.
func isRefusal(err error) bool {
	return errors.Is(err, natsgo.ErrMaxSubscriptionsExceeded) || errors.Is(err, natsgo.ErrPermissionViolation)
}

// subscribed goes on with a route that has its subscription.
func (l *lane) subscribed(r *route) {
	switch {
	case r.passed: // and its stream's leader is asked to pass, or has
	case r.keeps:
		l.asking = append(l.asking, r)
	default:
		l.e.nodes.Load().barrier(func() { l.post(func() { l.begin(r) }) })
	}
}

// try sends a message to a route's subscription, where the server has refused one and does not say which. If it does
// not come, it was this one. It runs on the sending goroutine.
func (l *lane) try(r *route) {
	err := l.tryOnce(r)
	l.marked = append(l.marked, func(unmarked error) { // on the receiving goroutine
		l.takeLive()
		if r.trying = false; err != nil || unmarked != nil || !r.heard || !l.current(r) {
			l.fail(r, engine.ErrUnavailable)
			return
		}
		if l.subscribed(r); r.passed {
			l.later(func() { l.passing[r.st] = append(l.passing[r.st], r) })
		}
	})
}

// begin begins the order of a channel without a stored history, which is this node's own.
func (l *lane) begin(r *route) {
	switch {
	case !l.current(r):
	case l.taking:
		l.begun = append(l.begun, r)
	case l.adopted(r): // it was not subscribed to in time
		l.lost(r, engine.GapReconnect)
	default:
		r.epoch, r.busy, r.since = channel.Epoch(rand.Uint64()|1), nil, l.e.uptime()
		l.tell(r)
	}
}

// again returns what has a channel go on with the order of the one before it.
func (l *lane) again(r *route, ch *channel.Channel) func(error) {
	return func(err error) {
		if err != nil {
			ch.Failed(engine.ErrUnavailable)
			return
		}
		l.e.nodes.Load().barrier(func() {
			l.post(func() {
				if l.takeLive(); r.ch == ch && l.current(r) {
					l.tell(r)
				}
			})
		})
	}
}

// current reports whether the lane still has that route.
func (l *lane) current(r *route) bool { return l.routes[r.token] == r }

// tell tells a route's channel where its order is.
func (l *lane) tell(r *route) {
	if r.ch != nil {
		r.told = true
		r.ch.Attached(channel.Position{Epoch: r.epoch, Offset: r.newest})
	}
}

// detach notes that a channel has ended.
func (l *lane) detach(ch *channel.Channel) {
	r := l.routes[token(ch.Name())]
	if r == nil || r.ch != ch {
		return // another one of its name has begun already
	}
	r.ch, r.told, r.left = nil, false, time.Now()
	if l.e.single {
		l.remove(r)
		return
	}
	l.idle = append(l.idle, r)
	l.arm()
}

// leaveIdle ends the routes that nobody has read for a while.
func (l *lane) leaveIdle(now time.Time) {
	n := 0
	for n < len(l.idle) && now.Sub(l.idle[n].left) >= l.idleWait {
		if r := l.idle[n]; r.ch == nil && now.Sub(r.left) >= l.idleWait {
			l.remove(r)
		}
		n++
	}
	if n > 0 {
		l.idle = slices.Delete(l.idle, 0, n)
	}
}

// fail ends a route whose position could not be found out.
func (l *lane) fail(r *route, err error) {
	if l.taking {
		l.unprepared = true
	} else if l.current(r) && l.adopted(r) {
		l.refuse(r)
		return
	}
	if l.remove(r) && r.ch != nil {
		r.ch.Failed(err)
	}
}

// remove ends a route, and reports whether the lane still had it.
func (l *lane) remove(r *route) bool {
	had := l.current(r)
	if had {
		if r.busy != nil {
			l.letGo(r.busy)
		}
		l.accepted(r)
		delete(l.routes, r.token)
		last := l.list[len(l.list)-1]
		l.list[r.at], last.at = last, r.at
		l.list[len(l.list)-1] = nil
		l.list = l.list[:len(l.list)-1]
	}
	l.unsubscribe(r)
	return had
}

// arrive handles a stored message.
func (l *lane) arrive(r *route, a arrival) {
	switch {
	case r.busy != nil:
		l.hold(r, a)
	case r.st.epoch() != r.epoch: // it was made anew
		l.catchUp(r)
	case r.st.flow.unsure.Load():
		l.catchUp(r)
		l.hold(r, a)
	case a.seq <= r.last:
		l.e.repeated(r)
	case a.last > r.last || a.last == 0 && r.doubt:
		l.catchUp(r)
		l.hold(r, a)
	default:
		l.append(r, &a)
	}
}

// hold keeps a message for later, when the route is not busy any more. What is too much will be read.
func (l *lane) hold(r *route, a arrival) {
	b, n := r.busy, len(a.m.Payload)+len(a.m.Extra)+arrivalBytes
	if b.overflow || len(b.held) >= heldMost || l.held+n > heldBytesMost {
		l.letGo(b)
		b.overflow = true
		return
	}
	b.held, b.bytes, l.held = append(b.held, a), b.bytes+n, l.held+n
}

// letGo returns what was held, which is not held any more.
func (l *lane) letGo(b *busy) (held []arrival) {
	l.held -= b.bytes
	held, b.held, b.bytes = b.held, nil, 0
	return held
}

// append appends a stored message that is next in its channel's order.
func (l *lane) append(r *route, a *arrival) {
	r.last = a.seq
	switch {
	case a.err != nil:
		l.e.unreadable(r, a.err)
		l.gap(r, a.seq, engine.GapVersion)
		r.prev = a.seq
		return
	case a.m.probe:
		return
	case a.m.tombstone:
		if a.m.removed > r.newest { // what did not come was removed
			l.gap(r, a.m.removed, engine.GapTrimmed)
			r.prev = r.newest
		}
		if r.told {
			r.ch.ForgetHistory()
		}
		return
	}
	prev := r.prev
	r.newest, r.prev, r.published, r.doubt = a.seq, a.seq, a.m.At, false
	l.give(r, &a.m.Publication, a.seq, prev)
}

// give appends to a route's channel, if that has joined the route's order.
func (l *lane) give(r *route, p *channel.Publication, offset, prev uint64) {
	if r.told {
		l.p = *p
		l.p.Epoch, l.p.Offset, l.p.Prev = r.epoch, offset, prev
		r.ch.Append(&l.p, &l.scratch)
		l.p = channel.Publication{}
	}
}

// gap notes that publications of a channel up to an offset are missing.
func (l *lane) gap(r *route, upTo uint64, cause string) {
	r.newest = max(r.newest, upTo)
	l.e.counts.gap(cause)
	l.give(r, &channel.Publication{Kind: channel.KindGap}, 0, r.newest)
}

// appendPassing appends what has no place in the order of its channel.
func (l *lane) appendPassing(r *route, p *channel.Publication) { l.give(r, p, 0, 0) }
