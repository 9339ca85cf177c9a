package gateway

import (
	"sluice/poller"
)

// arrival is a connection that has passed its handshake, on its way to a loop.
type arrival struct {
	server   *Server
	fd       int
	target   target
	response []byte // the head of the response, not yet sent
	early    []byte // what came behind the request
	from     leaver // what it holds until it has arrived: early's buffer, a place
}

// leaver is where an arrival comes from: the handshake stage, or net/http.
type leaver interface{ leave() }

// deliver makes the arrival a connection of the loop. The channel is joined
// before the 101 goes out: what is published after the client knows that it is
// in reaches it.
func (a *arrival) deliver(l *loop) {
	defer a.from.leave()
	if l.stopping {
		a.refuse("shutting_down")
		return
	}
	t := &a.target
	c := &conn{loop: l, id: a.server.nextID(), kind: t.kind, heard: l.now, pinged: l.now}
	if t.noEcho {
		c.bits |= bitNoEcho
	}
	if t.listen {
		c.bits |= bitListen
	}
	if c.kind == kindStream {
		c.bits |= bitPeerClosed // nobody answers the end of a stream
	}
	if err := l.poller.Add(&c.Desc, a.fd, poller.Readable, c); err != nil {
		l.log.Error("connection refused: cannot watch its descriptor", "error", err)
		a.refuse("poller")
		return
	}
	l.add(c)
	if l.debug {
		l.log.Debug("connection opened", "conn", c.id, "loop", l.index, "remote", poller.PeerAddr(a.fd).String(),
			"kind", t.kind.String(), "channel", t.channel)
	}
	o := c.output()
	o.buf = append(o.buf, a.response...)
	if l.cfg.Greeting != "" {
		o.buf = t.format.appendGreeting(o.buf, l.cfg.Greeting)
	}
	if l.cfg.PingInterval > 0 {
		l.wakeAt(c, l.now+seconds(l.cfg.PingInterval))
	}
	switch {
	case c.kind == kindEcho:
	case !t.asks:
		if err := l.join(c, t.channel, t.format); err != nil {
			c.close(reasonChannels)
		}
	default:
		o.catch = &catchUp{channel: t.channel, format: t.format, ask: t.ask}
		c.catchUp()
	}
	c.flush()
	if len(a.early) > 0 && c.phase < phaseDraining {
		c.feed(a.early)
	}
	c.settle()
}

func (a *arrival) refuse(why string) {
	poller.Close(a.fd) // ignored: nothing of ours was sent
	a.server.stats.refused(why)
	a.server.connections.Add(-1)
}
