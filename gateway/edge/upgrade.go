package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"sluice/gateway/edge/handshake"
	"sluice/gateway/loop"
	"sluice/gateway/route"
	"sluice/gateway/sampling"
	"sluice/poller"
)

// pathHealth is where health is asked for. The stage answers it with the request's head, so that
// neither an address's limits nor a place of net/http's is needed.
const pathHealth = "/healthz"

// door is one listener's way in.
type door struct {
	server   *Server
	address  string      // the listener's
	tls      *tls.Config // nil for a plain one
	others   bool        // other machines can reach it
	loopback bool        // its address is one, and no proxies are configured
	// defers: a connection that is accepted without having sent anything has waited for
	// a second.
	defers   bool
	inherits bool // connections have the listener's options
}

// listenOnly reports whether its clients may not publish.
func (d *door) listenOnly() bool {
	now := d.server.live.Load()
	return now.ListenOnly || d.others && now.RemoteListenOnly
}

// deadline returns the time that is left for a head of which n bytes have come.
func (d *door) deadline(n int) time.Duration {
	timeout := d.server.cfg.HandshakeTimeout
	if n == 0 && d.defers {
		return max(timeout-time.Second, timeout/2)
	}
	return timeout
}

// answerTimeout bounds the writing of a refusal, and the reading of what the
// client still sends before the connection is closed.
const answerTimeout = 500 * time.Millisecond

// start takes one connection into its handshake. Most heads are there as a
// whole when the connection is accepted; those are dealt with here, on the
// acceptor's goroutine. Whatever has to wait gets a goroutine of its own.
func (g *greeting) start() {
	defer g.contain()
	g.door.server.stats.accepted.Add(1)
	g.room = rooms.Get().(*room)
	had := copy(g.buf, g.sent)
	n, err := g.readReady(g.buf[had:])
	if n += had; had > 0 && errors.Is(err, io.EOF) {
		err = nil // it is seen again, after what was sent
	}
	if err != nil {
		g.fail(err, n)
		return
	}
	if g.door.tls != nil || g.proxied == byHeader {
		go g.run(n)
		return
	}
	head, reject := handshake.End(g.buf[:n], 0)
	switch {
	case reject != nil:
		g.refuse(reject)
	case head > 0:
		g.proceed(head, n)
	default:
		go g.run(n)
	}
}

// run waits for the rest of a head of which n bytes are there.
func (g *greeting) run(n int) {
	defer g.contain()
	loop.PlantGreeting("run")
	err := g.link()
	if err == nil {
		n, err = g.prepare(n)
	}
	if err != nil {
		g.fail(err, n)
		return
	}
	head, n, err := g.readHead(n)
	if err != nil {
		g.fail(err, n)
		return
	}
	g.proceed(head, n)
}

// proceed goes on with a whole head, of n bytes that are there.
func (g *greeting) proceed(head, n int) {
	loop.PlantGreeting("proceed")
	s := g.door.server
	if g.holder != nil {
		g.holder.whole.Store(g.entered.UnixNano())
	}
	if line := handshake.EmptyLine(g.buf); line > 0 {
		n = copy(g.buf, g.buf[line:n])
		head -= line
	}
	req := &g.request
	var reject *route.Reject
	*req, reject = handshake.Parse(g.buf[:head])
	if reject == nil && g.proxied == byForwarded && !g.forwarded(req.ForwardedFor) {
		g.abandon()
		g.Leave()
		return
	}
	switch {
	case reject != nil:
	case req.Path == pathHealth && !req.Upgrade && (req.Method == http.MethodGet || req.Method == http.MethodHead):
		s.stats.outcome(outcomeHTTP)
		status, text := s.cfg.Health()
		answer := (&route.Reject{Status: status, Text: text}).Append(nil)
		if req.Method == http.MethodHead {
			answer = answer[:bytes.Index(answer, []byte("\r\n\r\n"))+4]
		}
		g.reply(answer, n > head)
		return
	case g.refusal != nil && !g.toldInside(req) && !g.sends(req):
		reject = g.refusal
	case req.Upgrade:
		reject = g.upgrade(req, head, n)
	default:
		reject = s.web.take(g, n)
	}
	if reject != nil {
		g.refuse(reject)
	}
}

// refuse answers with a refusal.
func (g *greeting) refuse(r *route.Reject) {
	s := g.door.server
	if g.proxied != byHeader && r.Status == http.StatusBadRequest && beginsWithProxyHeader(g.buf) {
		s.logProxied(g.client)
		r = rejectProxied
	}
	s.refused(r.Reason, g.client)
	g.reply(r.Append(nil), true)
}

// reply answers and ends the connection, on a goroutine because that may have to wait.
// linger: the client may have sent more, or do so.
func (g *greeting) reply(answer []byte, linger bool) {
	g.refused = true
	if g.conn == nil && !linger { // it takes that much
		g.writeReady(answer) // ignored: the client may be gone
		g.end()
		return
	}
	go g.contained(func() {
		loop.PlantGreeting("reply")
		if g.link() == nil {
			g.answer(answer, linger)
		}
		g.end()
	})
}

// fail ends a handshake whose head did not come, after n bytes.
func (g *greeting) fail(err error, n int) {
	s := g.door.server
	var reject *route.Reject
	var begun *handshakeError
	switch {
	case errors.As(err, &reject):
		g.refuse(reject)
		return
	case poller.IsDescriptorLimit(err):
		s.refused(rejectDescriptors.Reason, g.client)
	case errors.Is(err, errEvicted) && g.moves():
		g.move(n)
		return
	case errors.Is(err, errEvicted), errors.Is(err, errDropped): // counted where it was decided
	case errors.Is(err, errProxyHeader):
		s.stats.outcome(outcomeProxy)
		s.cfg.Logger.Warn(s.cfg.Names.Text("refused a connection from a proxy without a valid PROXY header: "+
			"make the proxy send one, or remove it from {ProxyProtocol}"), "peer", g.client.String(), "error", err.Error())
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.refused(outcomeTimeout, g.client)
	case errors.Is(err, io.EOF) && n == 0:
		s.stats.outcome(outcomeNoRequest) // a port scan, a health check
	case errors.As(err, &begun) && begun.proxied:
		s.stats.outcome(rejectProxied.Reason)
		s.logProxied(g.client)
	case errors.As(err, new(*handshakeError)):
		s.stats.outcome(outcomeTLS)
		s.cfg.Logger.Info("connection refused: tls_failed", "client", loop.AddressText(g.client), "error", sampling.Quote(err.Error()))
	default:
		s.stats.outcome(outcomeCutOff)
	}
	g.end()
}

// end closes the connection, of which nothing has become.
func (g *greeting) end() {
	g.close()
	g.Leave()
}

// answer writes an answer and, to linger, reads for a moment what the client still sends,
// because closing with unread bytes would reset the connection and could destroy the
// answer.
func (g *greeting) answer(b []byte, linger bool) {
	c := g.conn
	c.SetDeadline(time.Now().Add(answerTimeout)) // ignored: then the write fails
	if _, err := c.Write(b); err != nil {
		return
	}
	if half, ok := c.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil || !linger {
		return
	}
	if !g.wait() { // from here on the place can be had by somebody else
		return
	}
	io.CopyN(io.Discard, c, 256<<10) // ignored: only the waiting matters
}

// upgrade sends the connection to a loop: route, origin and limit are checked,
// ws.Upgrader makes the 101, and the loop sends it once the channel is joined.
func (g *greeting) upgrade(req *route.Request, head, n int) *route.Reject {
	s := g.door.server
	r, name := s.routeTo(req.RawPath)
	if r == nil {
		return rejectNotFound
	}
	g.arrival.ListenOnly = g.door.listenOnly()
	later, reject := r.Parse(&g.arrival.Hello, req, name)
	if reject != nil {
		return reject
	}
	if !s.live.Load().Origins.Allow(req.Origin, req.HasOrigin, req.Host) {
		s.logRefusedOrigin(req.Origin, req.Host)
		return rejectOrigin
	}
	if later != nil && later.Waits() { // not on the acceptor's goroutine
		go g.contained(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			reject := later.Authorize(ctx, &g.arrival.Hello, func() bool { return g.waitUntil(cancel) })
			if !g.hurry() {
				g.fail(errEvicted, n)
				return
			}
			if reject == nil {
				reject = g.admit(r, head, n)
			}
			if reject != nil {
				g.refuse(reject)
			}
		})
		return nil
	}
	if later != nil {
		reject = later.Authorize(context.Background(), &g.arrival.Hello, nil)
	}
	if reject != nil {
		return reject
	}
	return g.admit(r, head, n)
}

// admit makes a connection of an upgrade that is right.
func (g *greeting) admit(r *edgeRoute, head, n int) *route.Reject {
	s := g.door.server
	if !s.passage.Enter(s.ending) {
		g.move(n)
		return nil
	}
	defer s.passage.Leave()
	refused, reject := s.takePlace(g.refusal, g.client)
	if reject != nil {
		return reject
	}
	a := &g.arrival
	a.FD, a.Refused, a.Client, a.Told, a.From, a.Early = -1, refused, g.client, g.told, g, g.buf[head:n]
	g.arriving = a
	loop.PlantGreeting("admit")
	a.Response = g.response[:0]
	agreed, err := r.upgrader.Upgrade(g.buf[:head], (*response)(a))
	if err != nil {
		g.unplace()
		if errors.As(err, &reject) {
			return reject
		}
		return rejectDescriptors // cannot be: writing to memory does not fail
	}
	a.Compressed = agreed.Deflate
	if a.FD, a.Secure, err = g.detach(); err != nil {
		g.unplace()
		return rejectDescriptors
	}
	loop.PlantGreeting("detached")
	if !g.door.inherits {
		poller.TuneFD(a.FD, s.cfg.Socket) // ignored: it works without
	}
	if !refused {
		s.stats.outcome(outcomeUpgraded)
	}
	a.Seat, g.seat, g.arriving = loop.Seat(g.seat), 0, nil
	s.loops.Arrive(a)
	return nil
}

// edgeRoute is a route, with what answers its upgrades.
type edgeRoute struct {
	*route.Route
	upgrader *handshake.Upgrader
}

// routeTo returns the route that serves WebSocket clients at a path, and the name at the path's
// end; nil if there is none.
func (s *Server) routeTo(path string) (*edgeRoute, string) {
	for i := range s.routes {
		for _, pattern := range s.routes[i].Paths {
			if name, ok := route.Fits(pattern, path); ok {
				return &s.routes[i], name
			}
		}
	}
	return nil, ""
}

// unplace gives back the place among connections of an arrival that has not come about.
func (g *greeting) unplace() {
	a := g.arriving
	g.arriving = nil
	g.door.server.leavePlace(a.Refused)
}

// response collects the 101 of ws.Upgrader in its arrival.
type response loop.Arrival

func (r *response) Write(p []byte) (int, error) {
	r.Response = append(r.Response, p...)
	return len(p), nil
}

// logRefusedOrigin logs which setting would allow the page, at most once a second.
func (s *Server) logRefusedOrigin(origin, host string) {
	now := time.Now().Unix()
	if last := s.stats.originLogged.Swap(now); last == now {
		return
	}
	s.cfg.Logger.Warn(s.cfg.Names.Text("refused a page from another origin: to allow it, add the origin to {AllowedOrigins}"),
		"origin", sampling.Quote(origin), "host", sampling.Quote(host))
}
