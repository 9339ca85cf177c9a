package gateway

import (
	"net/netip"

	"sluice/gateway/edge/admit"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/sampling"
	"sluice/poller"
)

// arrival is a connection that has passed its handshake, on its way to a loop.
type arrival struct {
	server   *Server
	fd       int
	secure   *secure // nil for a plain one
	target   target
	count    counted
	seat     admit.Seat
	client   netip.AddrPort
	told     bool   // a proxy has passed on the client's address
	response []byte // the head of the response, not yet sent
	early    []byte // what came behind the request
	from     leaver // what it holds until it has arrived: early's buffer, a place
}

// What an arrival comes to that does not become a connection.
var (
	outcomePoller   = handshake.NewOutcome("poller") // it could not be watched
	outcomeShutdown = handshake.NewOutcome("shutting_down")
)

// leaver is where an arrival comes from: the handshake stage, or net/http.
type leaver interface{ leave() }

// deliver makes the arrival a connection of the loop. The channel is joined
// before the 101 goes out: what is published after the client knows that it is
// in reaches it.
func (a *arrival) deliver(l *loop) {
	defer a.from.leave()
	if l.stopping {
		a.refuse(outcomeShutdown)
		return
	}
	if c := a.watched(l); c != nil {
		c.step(a.begin)
	}
}

// watched makes the loop's connection, which the poller watches; nil where that fails.
func (a *arrival) watched(l *loop) (c *conn) {
	defer func() {
		if r := recover(); r != nil {
			a.panicked(l, r)
			c = nil
		}
	}()
	t := &a.target
	c = &conn{loop: l, id: a.server.nextID(), variant: l.variantIndex(t.variant), heard: l.now, pinged: l.now}
	a.plant("arrive")
	if c.seat = a.seat; local(a.client) {
		c.bits |= bitLocal
	}
	if a.told {
		c.extra().client = a.client
	}
	if a.secure != nil {
		a.secure.wire.owner, a.secure.wire.begun = c, l.now
		c.extra().secure = a.secure
	}
	if a.count == countedRefused {
		c.bits |= bitRefused
	}
	if t.identity != nil {
		c.extra().identity = t.identity
	}
	if t.noEcho {
		c.bits |= bitNoEcho
	}
	if t.listen {
		c.bits |= bitListen
	}
	if !c.framing().ReadsInput() {
		c.bits |= bitPeerClosed // nobody answers the end of a stream
	}
	if err := l.poller.Add(&c.Desc, a.fd, poller.Readable, c); err != nil {
		l.log.Error("connection refused: cannot watch its file descriptor", "error", err)
		a.refuse(outcomePoller)
		return nil
	}
	l.add(c)
	return c
}

// begin makes the connection a subscriber, and answers the request.
func (a *arrival) begin(c *conn) {
	c.plant("begin")
	l, t := c.loop, &a.target
	if l.debug {
		l.log.Debug("connection opened", "conn", c.id, "loop", l.index, "client", addressText(a.client), "tls", a.secure != nil,
			"kind", t.variant.name, "channel", sampling.Quote(t.channel))
	}
	o := c.output()
	o.buf = append(append(o.buf, a.response...), t.greeting...)
	if l.cfg.PingInterval > 0 {
		l.wakeAt(c, l.now+seconds(l.cfg.PingInterval))
	}
	if a.count == countedRefused {
		c.close(reasonRefused)
	} else {
		c.protocol().open(c, a)
	}
	c.flush()
	if len(a.early) > 0 && c.phase < phaseDraining {
		c.feed(a.early)
	}
	if a.secure != nil && c.phase < phaseDraining {
		c.readSecure(a.secure, false) // what came behind the request may be decrypted already
	}
	c.settle()
}

func (a *arrival) refuse(why handshake.Outcome) {
	a.server.refused(why, a.client)
	a.drop()
}

// drop releases what an arrival holds, beside what it came from.
func (a *arrival) drop() {
	poller.Close(a.fd) // ignored: nothing of ours was sent
	a.server.leavePlace(a.count)
	a.server.admission.Leave(a.seat)
}
