package gateway

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"

	"sluice/gateway/edge/admit"
	"sluice/gateway/frame"
	"sluice/poller"

	"github.com/gobwas/ws"
)

// A connection at rest is its descriptor and the record below: about 112 bytes,
// with 16 for the poller's closure and its place in three tables. Buffers hang
// off it only while a message is incomplete or bytes wait to be sent.

// phase is how far a connection's life has come. It only grows.
type phase uint8

const (
	// phaseOpen: messages go both ways.
	phaseOpen phase = iota
	// phaseClosing: it is decided that the connection ends. What was published
	// before is still sent; then the Close frame is queued. Nothing is taken from
	// the client any more.
	phaseClosing
	// phaseClosed: the Close frame is queued or sent, all subscriptions are
	// dropped. The client's own Close frame is waited for.
	phaseClosed
	// phaseDraining: everything is sent and our FIN is out. What the client still
	// sends is read and thrown away, because closing with unread bytes would
	// reset the connection and could destroy the Close frame.
	phaseDraining
	// phaseDead: out of the loop's lists; the descriptor is closed at the end of
	// the turn.
	phaseDead
)

// bits of a connection.
const (
	// bitBlocked: the socket refused bytes; write interest is armed, and nothing
	// is written until it is writable.
	bitBlocked uint16 = 1 << iota
	// bitParked: a message waits for room in the channel's log.
	bitParked
	// bitPinged: a ping is out and nothing has come since.
	bitPinged
	// bitNoEcho: the client does not want its own messages back.
	bitNoEcho
	// bitListen: the client may not publish.
	bitListen
	// bitGone: the peer has sent its FIN, or hung up. The descriptor is not read
	// any more.
	bitGone
	// bitPeerClosed: the client's Close frame has come.
	bitPeerClosed
	// bitMuted: the socket takes nothing any more, for good. The connection lives
	// on for what the peer has sent before.
	bitMuted
	// bitLocal: the client is on this machine, so that limits hold for it only
	// where they were asked for.
	bitLocal
	// bitRefused: it was accepted only to be refused with a reason.
	bitRefused
	// bitTook: the socket has refused bytes, and has taken some since.
	bitTook
	// bitIdentified: it is one of its user's connections in loop.users.
	bitIdentified
)

// conn is one WebSocket connection. It belongs to its loop.
type conn struct {
	poller.Desc

	// Set at construction.
	loop *loop
	id   uint64

	in  *input  // an incomplete or put-off message; nil at rest
	out *outbox // bytes that wait to be sent; nil at rest
	sub ref     // the subscription; sub.group is nil when there is none
	ext *extra  // what few connections have; nil for most

	slot    int32  // index in loop.conns and loop.due, -1 of a dead one
	heard   uint32 // loop time of the last bytes from the client
	since   uint32 // blocked: loop time of the last byte that the socket took; closing: of the end
	pinged  uint32 // loop time of the last ping
	counted uint32 // bytes of in and out that loop.held counts

	variant uint8 // index in loop.variants of what it speaks
	phase   phase
	reason  reason
	tookAt  uint8 // blocked: the loop's clock at the last byte that the socket took, see slow.go
	bits    uint16
	code    ws.StatusCode // of the Close frame that is due, 0 for none
	seat    admit.Seat    // its place among its address's connections, 0 for none
}

// extra is what only some connections have.
type extra struct {
	more     []ref          // further subscriptions
	secure   *secure        // nil for plain ones
	client   netip.AddrPort // the client's address, if a proxy has passed it on
	levels   buckets        // of what it has sent, see rate.go
	identity *identity      // who it is; nil for most
}

// direct reports whether a sweep may write straight to the socket.
func (e *extra) direct() bool { return e == nil || e.secure == nil && len(e.more) == 0 }

// extra returns the connection's extra, making one where there is none.
func (c *conn) extra() *extra {
	if c.ext == nil {
		c.ext = new(extra)
	}
	return c.ext
}

// ref is a connection's side of a subscription: the place of a sub in its group.
type ref struct {
	group *group
	index int32
	// cut counts the bytes of the frame at the sub's position that are out: taken by
	// the socket, or encrypted. The rest lies in the log and goes before anything else.
	// Invariant: at most one of a connection's refs has a cut, and then it is blocked.
	cut uint32
}

// sub returns the group's side of the subscription.
func (r *ref) sub() *sub { return &r.group.subs[r.index] }

func (c *conn) has(bit uint16) bool { return c.bits&bit != 0 }

// Ready implements poller.Handler.
func (c *conn) Ready(ev poller.Events) {
	if c.phase == phaseDead {
		return
	}
	defer c.contain()
	if ev&poller.Writable != 0 {
		c.write()
	}
	if ev&(poller.Readable|poller.Hangup) != 0 && c.phase < phaseDead {
		c.read(ev&poller.Hangup != 0)
	}
	c.settle()
}

// settle brings what depends on the connection's state in line with it after
// anything was done to it: the poller's interest, the memory accounts, and steps
// of closing that have become due.
func (c *conn) settle() {
	c.adjust()
	if c.loop.held > c.loop.heldMax {
		c.loop.shedWorst()
	}
}

func (c *conn) adjust() {
	c.plant("adjust")
	c.goOn()
	c.advanceClose()
	if c.phase == phaseDead {
		return
	}
	var want poller.Events
	if c.reads() {
		want |= poller.Readable
	}
	if c.has(bitBlocked) {
		want |= poller.Writable
	}
	if want != c.Interest() && c.Active() {
		if err := c.loop.poller.Mod(&c.Desc, want); err != nil {
			c.loop.log.Error("connection closed: cannot watch its file descriptor", "conn", c.id, "error", err)
			c.kill(reasonInternal)
			return
		}
	}
	c.recount()
}

// goOnMost bounds how often a connection goes on with what was put off before others
// have their turn.
const goOnMost = 8

// goOn goes on with input that was put off, as far as that is possible now.
func (c *conn) goOn() {
	s := c.secure()
	for range goOnMost {
		switch {
		case c.resumable():
			c.resume()
		case s != nil && s.wire.unread && c.phase == phaseOpen && c.reads():
			c.readSecure(s, false)
		default:
			return
		}
	}
	c.loop.post((*later)(c))
}

// later is posted for a connection that has to go on in another turn.
type later conn

func (l *later) deliver(*loop) {
	if c := (*conn)(l); c.phase != phaseDead {
		c.step((*conn).settle)
	}
}

// reads reports whether the connection's bytes are wanted at present.
func (c *conn) reads() bool {
	if c.has(bitGone) {
		return false
	}
	if c.phase != phaseOpen {
		return true // for the client's Close frame or its FIN
	}
	if c.in != nil && c.in.buf != nil {
		return false // what was put off comes first
	}
	return !c.has(bitParked) && !c.full()
}

// full reports whether so much is due to the connection that nothing more is taken
// from it: replies, or what it missed.
func (c *conn) full() bool { return c.pending() > pendingReadMax || c.catchingUp() }

// resumable reports whether input that was put off behind replies can go on.
func (c *conn) resumable() bool {
	return c.phase == phaseOpen && !c.has(bitParked) && c.in != nil && c.in.buf != nil && !c.full()
}

// recount brings loop.held up to date.
func (c *conn) recount() {
	n, l := c.holds(), c.loop
	l.held += n - int(c.counted)
	c.counted = uint32(n)
	l.stats.held.Store(int64(l.held))
}

// holds counts the bytes of the connection's buffers.
func (c *conn) holds() (n int) {
	if c.in != nil {
		n += c.in.size()
	}
	if c.out != nil {
		n += c.out.size()
	}
	if s := c.secure(); s != nil {
		n += cap(s.wire.rest) + s.wire.over + s.wire.left // crypto/tls makes room for all of a record
	}
	return n
}

// unblock notes that the socket takes bytes again.
func (c *conn) unblock() {
	if c.sealed() {
		c.block()
		return
	}
	if !c.has(bitBlocked) {
		return
	}
	c.bits = c.bits&^bitBlocked | bitTook
	c.loop.stats.blocked.Add(-1)
	c.mark()
}

// block notes that the socket refused bytes: nothing is written until it is
// writable again, and its time to take some begins.
func (c *conn) block() {
	if c.has(bitBlocked) || c.phase == phaseDead {
		return
	}
	l := c.loop
	c.bits |= bitBlocked
	l.stats.blocked.Add(1)
	l.stats.blockings.Add(1)
	c.tookAt = l.clock()
	if c.phase == phaseOpen {
		c.since = l.now
		if l.cfg.WriteTimeout > 0 {
			l.wakeAt(c, l.now+seconds(l.cfg.WriteTimeout))
		}
	}
	c.mark()
}

// mark tells the connection's subscriptions whether a sweep may write to it
// directly, without a look at the record.
func (c *conn) mark() {
	direct := c.bits&(bitBlocked|bitNoEcho|bitMuted) == 0 && c.out == nil && c.ext.direct() && c.phase == phaseOpen
	for i := range c.refs() {
		r := c.ref(i)
		s := r.sub()
		s.direct = direct
		s.blocked = c.has(bitBlocked)
	}
}

// refs counts the subscriptions, for a range over them with ref.
func (c *conn) refs() int {
	switch {
	case c.sub.group == nil:
		return 0
	case c.ext == nil:
		return 1
	}
	return 1 + len(c.ext.more)
}

// ref returns the i-th subscription.
func (c *conn) ref(i int) *ref {
	if i == 0 {
		return &c.sub
	}
	return &c.ext.more[i-1]
}

// find returns the connection's subscription to a channel, nil for none.
func (c *conn) find(name string) *ref {
	for i := range c.refs() {
		if r := c.ref(i); r.group.key.channel == name {
			return r
		}
	}
	return nil
}

// drop takes one subscription from the connection; what its log still has for it is
// counted as dropped for that reason. Where the rest of a cut frame cannot be kept, the
// connection ends.
func (c *conn) drop(i int, why reason) {
	if !c.keepRest(c.ref(i)) {
		c.kill(reasonBudget)
		return
	}
	l, r := c.loop, *c.ref(i)
	l.stats.dropped[why].Add(c.unsent(&r))
	c.protocol().left(c, c.ref(i))
	l.leave(r)
	last := c.refs() - 1
	*c.ref(i) = *c.ref(last)
	if last == 0 {
		c.sub = ref{}
	} else {
		c.ext.more = slices.Delete(c.ext.more, last-1, last)
		if len(c.ext.more) == 0 {
			c.ext.more = nil
		}
	}
	c.mark()
}

// retry is posted when a message that waits for a token may be tried again.
type retry conn

func (r *retry) deliver(*loop) {
	c := (*conn)(r)
	if c.phase == phaseDead || !c.has(bitParked) {
		return
	}
	c.step((*conn).tryAgain)
}

// input is what a connection has of messages that are not processed yet.
type input struct {
	frame frame.State // of an incomplete message
	begun uint32      // loop time when it began

	// A message that was put off because it has to wait, and the bytes that came
	// behind it (also those behind a reply that could not be sent).
	op      ws.OpCode
	payload []byte
	rest    []byte
	buf     []byte // where payload and rest lie
	resumed []byte // buf, while what it holds is processed
	// What is waited for: one of the two while the connection is parked.
	pending   *pending      // a publication
	verifying *verification // a token's verdict
}

func (in *input) size() int { return in.frame.Held() + cap(in.buf) + in.pending.size() }

// logClose writes the one record about a connection's end: where the gateway cuts off
// whom an operator wants to know of, when that is decided, because later the address is
// not known any more.
func (c *conn) logClose(decided bool) {
	l, level := c.loop, slog.LevelDebug
	if reasons[c.reason].loud {
		level = slog.LevelInfo
	}
	if decided != reasons[c.reason].loud || level == slog.LevelDebug && !l.debug {
		return
	}
	l.log.LogAttrs(context.Background(), level, "connection closed", slog.Uint64("conn", c.id), slog.String("client", addressText(c.from())),
		slog.String("reason", c.reason.String()), slog.Int("code", int(c.code)))
}
