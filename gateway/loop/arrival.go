package loop

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"sluice/gateway/wire"
	"sluice/gateway/wire/deflate"
	"sluice/poller"
)

// Hello is what a protocol has found in the request of a connection.
type Hello struct {
	Variant    *Variant  // one of Config.Variants
	Identity   *Identity // who the client is, if that is known or will be; nil if not
	ListenOnly bool      // it may not publish; the protocol sees to that
	Greeting   []byte    // what it is sent first, framed
	// Sent is what it has sent with its request: whole frames of a client, as those behind the request.
	Sent []byte
	// ContentType is that of the response's body, where the response is a stream; "" for events.
	ContentType string
	// RefusalHeader are fields of the header of a response that refuses it (Conn.Answer), each ended by CRLF.
	RefusalHeader string
	// Start is what only the protocol's Open knows; nil for nothing. If it has a String, the log
	// shows that as the connection's channel.
	Start any
}

// Arrival is a connection that has passed its handshake, on its way to a loop.
type Arrival struct {
	Hello
	FD       int
	Secure   *Secure // nil for a plain one
	Seat     Seat
	Refused  bool // it is accepted only to be refused with a reason
	Client   netip.AddrPort
	Told     bool   // a proxy has passed on the client's address
	Response []byte // the head of the response, not yet sent
	Early    []byte // what came behind the request
	// Compressed: the response says that permessage-deflate was negotiated or, of an event stream, that
	// its content is encoded with gzip.
	Compressed bool
	From       Origin
}

// Origin is where an arrival comes from, and holds what it needs until it has arrived: the buffer
// of its early, a place.
type Origin interface {
	// Leave is called once the arrival is a connection, or is not to be one.
	Leave()
	// NotArrived is called before that if the loop has refused it: with ErrStopping, or with why
	// it cannot be watched.
	NotArrived(err error)
}

// Deliver makes the arrival a connection of the loop. The channel is joined
// before the 101 goes out: what is published after the client knows that it is
// in reaches it.
func (a *Arrival) Deliver(l *Loop) {
	defer a.From.Leave()
	if l.drain != nil {
		a.refuse(l.set, ErrStopping)
		return
	}
	if c := a.watched(l); c != nil {
		c.step(a.begin)
	}
}

// watched makes the loop's connection, which the poller watches; nil where that fails.
func (a *Arrival) watched(l *Loop) (c *Conn) {
	defer func() {
		if r := recover(); r != nil {
			a.panicked(l, r)
			c = nil
		}
	}()
	c = newConn(l, l.variantIndex(a.Variant))
	PlantGreeting("arrive")
	if c.seat = a.Seat; isLocal(a.Client) {
		c.bits |= bitLocal
	}
	if a.Told {
		client := a.Client // the arrival is not kept
		c.extra().client = &client
	}
	if a.Secure != nil {
		a.Secure.wire.owner, a.Secure.wire.begun = c, l.now
		c.extra().secure = a.Secure
	}
	if a.Refused {
		c.bits |= bitRefused
	}
	if a.Identity != nil {
		c.extra().identity = a.Identity
	}
	if a.ListenOnly {
		c.bits |= bitListen
	}
	if a.Compressed {
		c.bits |= bitCompressed
	}
	if !c.framing().ReadsInput() {
		c.bits |= bitPeerClosed // nobody answers the end of a stream
	}
	if err := l.poller.Add(&c.Desc, a.FD, poller.Readable, c); err != nil {
		l.log.Error("connection refused: cannot watch its file descriptor", "error", err)
		a.refuse(l.set, err)
		return nil
	}
	l.add(c)
	return c
}

// begin makes the connection a subscriber, and answers the request.
func (a *Arrival) begin(c *Conn) {
	c.Plant("begin")
	l := c.loop
	if l.debug {
		name := ""
		if start, ok := a.Start.(fmt.Stringer); ok {
			name = start.String()
		}
		l.log.Debug("connection opened", c.LogAttr(), "loop", l.index, "client", AddressText(a.Client), "tls", a.Secure != nil,
			"kind", a.Variant.Name, "channel", name)
	}
	o := c.output()
	o.buf = append(o.buf, a.Response...)
	if c.gzips() {
		o.buf = append(o.buf, deflate.GzipHeader...)
	}
	o.buf = c.seal(append(o.buf, a.Greeting...), len(o.buf))
	o.response = true
	if interval := seconds(l.cfg.PingInterval); c.framing().Pings() != wire.PingSilent {
		c.pinged -= rand.Uint32N(interval/2 + 1) // not all at once
	}
	early := a.Early
	if len(a.Sent) > 0 {
		early = a.Sent
	}
	switch {
	case a.Refused:
		c.Close(ReasonRefused)
	case c.await(c.protocol().Open(c, a)):
		c.putOff(early)
		c.hold() // the response goes out when the wait is over
		early = nil
	default:
		c.respond()
	}
	if len(early) > 0 && c.Phase < phaseDraining {
		c.feed(early)
	}
	if a.Secure != nil && c.Phase < phaseDraining {
		c.readSecure(a.Secure, false) // what came behind the request may be decrypted already
	}
	c.Settle()
}

// respond sends the response as it is, if it was not sent yet, and what is behind it.
func (c *Conn) respond() {
	if c.unanswered() {
		c.output().response = false
	}
	c.WakeToPing()
	c.Flush()
}

// Answer sends another response to the client's request instead, whole, and ends the connection. It is for a protocol's
// Open, and for what that waits for; there must be no subscription yet.
func (c *Conn) Answer(response []byte) {
	if c.Phase != phaseOpen || !c.unanswered() {
		return // the client is gone, or is being sent why it has to go
	}
	o := c.output()
	o.buf = append(o.buf[:0], response...)
	c.Close(ReasonAnswered)
}

func (a *Arrival) refuse(s *Set, err error) {
	a.From.NotArrived(err)
	a.drop(s)
}

// drop releases what an arrival holds, beside what it came from.
func (a *Arrival) drop(s *Set) {
	poller.Close(a.FD) // ignored: nothing of ours was sent
	s.cfg.Admission.Left(a.Seat, a.Refused)
}
