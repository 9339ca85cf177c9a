package loop

import (
	"log/slog"
	"net/netip"
	"strconv"

	"sluice/gateway/channel"
	"sluice/poller"
)

// A connection at rest is its descriptor and the record below: about 112 bytes,
// with 16 for the poller's closure and its place in three tables. Buffers hang
// off it only while a message is incomplete or bytes wait to be sent.

// PendingReadMax is how many bytes may wait for a connection before it is no
// longer read. PendingSlack is what one turn may add to that besides a reply:
// control frames and the rest of a cut frame's neighbourhood.
const (
	PendingReadMax = 16 << 10
	PendingSlack   = 16 << 10
)

// bits of a connection.
const (
	// bitBlocked: the socket refused bytes; write interest is armed, and nothing
	// is written until it is writable.
	bitBlocked uint16 = 1 << iota
	// bitPinged: a ping is out and nothing has come since.
	bitPinged
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
	// bitFenced: it is in loop.fenced.
	bitFenced
	// bitLost: it is in loop.lost.
	bitLost
	// bitPeerShut: it was reported that the peer has sent its FIN, while it was not read.
	bitPeerShut
	// bitCompressed: the client has negotiated compression.
	bitCompressed
	// bitPassed: its descriptor was passed to another process, see give.go.
	bitPassed
	// bitReturn: it was taken over from another process, and has to begin anew.
	bitReturn
)

// Conn is the connection of one client. It belongs to its loop. Its state is in parts, which lie in
// the record itself: a method that needs more than one of them is the connection's.
type Conn struct {
	poller.Desc

	// Set at construction.
	loop *Loop
	id   uint64

	inbound
	outbound
	subscriptions
	ext *extra // what few connections have; nil for most
	place
	keepAlive
	closing

	bits    uint16
	variant uint8 // index in loop.variants of what it speaks; set at construction
	tookAt  uint8 // blocked: the loop's clock at the last byte that the socket took, see slow.go
}

// place is where the connection is counted.
type place struct {
	slot int32 // index in loop.conns and loop.due, -1 of a dead one
	seat Seat  // among the connections of its address, 0 for none
}

// newConn returns a connection that is in none of the loop's lists yet.
func newConn(l *Loop, variant uint8) *Conn {
	return &Conn{loop: l, id: l.set.nextID(), variant: variant, keepAlive: keepAlive{heard: l.now, pinged: l.now}}
}

// extra is what only some connections have.
type extra struct {
	more     []Ref           // further subscriptions
	secure   *Secure         // nil for plain ones
	client   *netip.AddrPort // the client's address, if a proxy has passed it on; valid, nil for none
	levels   buckets         // of what it has sent, see rate.go
	identity *Identity       // who it is; nil for most
	response *response       // that is held; nil for most
}

// direct reports whether a sweep may write straight to the socket.
func (e *extra) direct() bool { return e == nil || e.secure == nil && len(e.more) == 0 }

// extra returns the connection's extra, making one where there is none.
func (c *Conn) extra() *extra {
	if c.ext == nil {
		c.ext = new(extra)
	}
	return c.ext
}

// has reports whether one of the bits is set.
func (c *Conn) has(bit uint16) bool { return c.bits&bit != 0 }

// ID returns the connection's number, which no other connection of any live node has.
func (c *Conn) ID() uint64 { return c.id }

// LogAttr returns the connection's ID for a log record: as a string, because readers of JSON may
// round a number of 64 bits.
func (c *Conn) LogAttr() slog.Attr { return slog.String("conn", strconv.FormatUint(c.id, 10)) }

// Loop returns the connection's loop.
func (c *Conn) Loop() *Loop { return c.loop }

// Open reports whether messages go both ways: nothing has begun to end the connection.
func (c *Conn) Open() bool { return c.Phase == phaseOpen }

// Reason returns why the connection ends; it means nothing while the connection is open.
func (c *Conn) Reason() Reason { return c.reason }

// Identified reports whether Identify was called: it is one of its user's connections.
func (c *Conn) Identified() bool { return c.has(bitIdentified) }

// ListenOnly reports whether the client may not publish.
func (c *Conn) ListenOnly() bool { return c.has(bitListen) }

// ListenFromNow has the client not publish any more.
func (c *Conn) ListenFromNow() { c.bits |= bitListen }

// Ready implements poller.Handler.
func (c *Conn) Ready(ev poller.Events) {
	if c.Phase == phaseDead {
		return
	}
	defer c.contain()
	if ev&poller.Writable != 0 {
		c.write()
	}
	if ev&(poller.Readable|poller.Hangup|poller.PeerShut) != 0 && c.Phase < phaseDead {
		c.read(ev)
	}
	c.Settle()
}

// Settle brings what depends on the connection's state in line with it after
// anything was done to it: the poller's interest, the memory accounts, and steps
// of closing that have become due.
func (c *Conn) Settle() {
	c.adjust()
	if c.loop.held > c.loop.heldMax {
		c.loop.shedWorst()
	}
}

func (c *Conn) adjust() {
	c.Plant("adjust")
	c.goOn()
	c.advanceClose()
	if c.Phase == phaseDead {
		return
	}
	var want poller.Events
	switch {
	case c.reads():
		want = poller.Readable
	case c.Parked() && c.Interest()&poller.Readable != 0:
		// Most clients send nothing while they wait for an answer, and two system calls are saved. If one does,
		// ignore is called.
		want = poller.Readable
	case c.Parked() && !c.has(bitPeerShut):
		want = poller.PeerShut
	}
	if c.has(bitBlocked) {
		want |= poller.Writable
	}
	if c.watch(want) {
		c.recount()
	}
}

// ignore has the poller report no more that bytes have come, until the connection is read again.
func (c *Conn) ignore() {
	want := c.Interest() &^ poller.Readable
	if c.Parked() && !c.has(bitPeerShut) {
		want |= poller.PeerShut
	}
	c.watch(want)
}

// watch changes what the poller reports. It reports false if that failed, which ends the connection.
func (c *Conn) watch(want poller.Events) bool {
	if want == c.Interest() || !c.Active() {
		return true
	}
	if err := c.loop.poller.Mod(&c.Desc, want); err != nil {
		c.loop.log.Error("connection closed: cannot watch its file descriptor", c.LogAttr(), "error", err)
		c.kill(ReasonInternal)
		return false
	}
	return true
}

// goOnMost bounds how often a connection goes on with what was put off before others
// have their turn.
const goOnMost = 8

// goOn goes on with input that was put off, as far as that is possible now.
func (c *Conn) goOn() {
	s := c.secure()
	for range goOnMost {
		switch {
		case c.resumable():
			c.resume(Wait.Resume)
		case s != nil && s.wire.unread && c.Phase == phaseOpen && c.reads():
			c.readSecure(s, false)
		default:
			return
		}
	}
	c.loop.Post((*later)(c))
}

// later is posted for a connection that has to go on in another turn.
type later Conn

// Deliver implements Message.
func (l *later) Deliver(*Loop) {
	if c := (*Conn)(l); c.Phase != phaseDead {
		c.step((*Conn).Settle)
	}
}

// reads reports whether the connection's bytes are wanted at present.
func (c *Conn) reads() bool {
	if c.has(bitGone) {
		return false
	}
	if c.Phase != phaseOpen {
		return true // for the client's Close frame or its FIN
	}
	return !c.hasPutOff() && !c.Full() && !c.loop.hasMoved() && !c.unanswered() // what was put off comes first
}

// Full reports whether so much is due to the connection that nothing more is taken
// from it: replies, or what it missed.
func (c *Conn) Full() bool { return c.Pending() > PendingReadMax || c.catchingUp() }

// recount brings loop.held up to date.
func (c *Conn) recount() {
	n, l := c.holds(), c.loop
	l.held += n - int(c.Counted)
	c.Counted = uint32(n)
	l.stats.Held.Store(int64(l.held))
}

// holds counts the bytes of the connection's buffers.
func (c *Conn) holds() (n int) {
	if c.In != nil {
		n += c.In.size()
	}
	if c.Out != nil {
		n += c.Out.size()
	}
	if s := c.secure(); s != nil {
		n += cap(s.wire.rest) + s.wire.over + s.wire.left // crypto/tls makes room for all of a record
	}
	return n
}

// unblock notes that the socket takes bytes again.
func (c *Conn) unblock() {
	if c.sealed() {
		c.block()
		return
	}
	if !c.has(bitBlocked) {
		return
	}
	c.bits = c.bits&^bitBlocked | bitTook
	c.loop.stats.Blocked.Add(-1)
	c.mark()
}

// block notes that the socket refused bytes: nothing is written until it is
// writable again, and its time to take some begins.
func (c *Conn) block() {
	if c.has(bitBlocked) || c.Phase == phaseDead {
		return
	}
	l := c.loop
	c.bits |= bitBlocked
	l.stats.Blocked.Add(1)
	l.stats.Blockings.Add(1)
	l.readClock() // the batch may have begun long ago, which is not the client's fault
	c.tookAt = l.clock()
	if c.Phase == phaseOpen {
		c.since = l.now
		if l.cfg.WriteTimeout > 0 {
			l.WakeAt(c, l.now+seconds(l.cfg.WriteTimeout))
		}
	}
	c.mark()
}

// mark tells the connection's subscriptions whether a sweep may write to it
// directly, without a look at the record.
func (c *Conn) mark() {
	direct := c.bits&(bitBlocked|bitMuted) == 0 && c.Out == nil && c.ext.direct() && c.Phase == phaseOpen
	for i := range c.Refs() {
		c.markSub(c.Ref(i).sub(), direct)
	}
}

// markRef is mark for one of several subscriptions.
func (c *Conn) markRef(r *Ref) { c.markSub(r.sub(), false) }

func (c *Conn) markSub(s *sub, direct bool) {
	lost := s.lost() != channel.KindMessage
	s.direct = direct && s.flags&FlagNoEcho == 0 && !lost
	s.blocked = c.has(bitBlocked) || lost
}

// From returns the client's address.
func (c *Conn) From() netip.AddrPort {
	if c.ext != nil && c.ext.client != nil {
		return *c.ext.client
	}
	return poller.PeerAddr(c.FD())
}

// AddressText writes an address, without the port where it is not known.
func AddressText(a netip.AddrPort) string {
	switch {
	case !a.IsValid():
		return "" // of a Unix socket, or of a peer that is gone
	case a.Port() == 0:
		return a.Addr().String()
	}
	return a.String()
}

// isLocal reports whether a client is on this machine.
func isLocal(client netip.AddrPort) bool {
	return !client.IsValid() || client.Addr().IsLoopback()
}
