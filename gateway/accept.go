package gateway

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"sluice/poller"
)

// turnAwayMost is how many are turned away for want of a descriptor between two
// pauses: everybody is answered soon, and not at the price of a core.
const turnAwayMost = 64

// acceptPause is how long accepting rests after a failure that will not pass at
// once, so that it never spins.
const acceptPause = 50 * time.Millisecond

// Serve accepts clients on l until Shutdown, closes l, and returns [ErrServerClosed]. It
// serves WebSocket upgrades, SSE streams and other HTTP requests. It may be called for
// several listeners. The listener must return connections of package net itself: a wrapped
// connection has no file descriptor to wait for. The keep-alive settings of a
// net.ListenConfig have no effect. For a listening socket that suits Serve, see [Listen].
func (s *Server) Serve(l net.Listener) error { return s.serve(l, nil) }

// ServeTLS is [Server.Serve] for clients that use TLS. cfg must have a certificate. It is
// copied, with TLS 1.2 as the minimum version and http/1.1 as the only protocol.
func (s *Server) ServeTLS(l net.Listener, cfg *tls.Config) error {
	return s.serve(l, hardened(cfg))
}

func (s *Server) serve(l net.Listener, secured *tls.Config) error {
	in := enter(l)
	defer in.Close()                                                                         // ignored: nothing is accepted any more
	others := !onlyLocal(l.Addr()) || len(s.cfg.TrustedProxies)+len(s.cfg.ProxyProtocol) > 0 // can reach it
	if others && s.policy.Insecure() {
		return ErrInsecure
	}
	if !s.track(in) {
		return ErrServerClosed
	}
	defer s.untrack(in)
	door := &door{
		server: s,
		tls:    secured,
		listen: s.cfg.Raw == RawListen || s.cfg.Raw == RawDefault && s.policy.Open() && others,
	}
	if sc, ok := l.(syscall.Conn); ok {
		_, tcp := l.(*net.TCPListener)
		door.inherits = s.tune(sc) == nil && tcp // else each connection is tuned: a listener for Multipath TCP has not all options
		door.defers = poller.SetDeferAccept(sc) == nil
	}
	spare := openSpare()
	defer func() { spare.Close() }() // ignored: the file is /dev/null
	turned := 0
	for {
		g, err := in.accept()
		switch {
		case err == nil:
			g.door = door
			s.receive(g)
		case closedByUs(err):
			return ErrServerClosed
		case poller.IsDescriptorLimit(err):
			// The descriptor that was kept takes the client in, so that it is
			// answered instead of waiting in the kernel's queue.
			s.stats.descriptors.Add(1)
			spare.Close() // ignored: see above
			away := s.turnAway(in, secured != nil)
			spare = openSpare()
			if turned++; !away || turned >= turnAwayMost {
				turned = 0
				s.pause()
			}
		default:
			s.cfg.Logger.Warn("accept failed", "error", err)
			s.pause()
		}
	}
}

// entrance is where a listener's connections come in: as bare descriptors, where it is one
// of package net's for TCP or Unix sockets. A program may have wrapped it, or bring one of
// its own; that one's connections come as they are.
type entrance struct {
	net.Listener
	bare *poller.Acceptor // nil where it is another's
}

func enter(l net.Listener) *entrance {
	e := &entrance{Listener: l}
	switch l := l.(type) {
	case *net.TCPListener:
		e.bare, _ = poller.NewAcceptor(l) // ignored: then it is accepted from by package net
	case *net.UnixListener:
		e.bare, _ = poller.NewAcceptor(l) // ignored: likewise
	}
	return e
}

// Close ends accepting. The socket listens as long as one of both is open.
func (e *entrance) Close() error {
	err := e.Listener.Close()
	if e.bare != nil {
		err = errors.Join(err, e.bare.Close())
	}
	return err
}

// accept waits for a connection.
func (e *entrance) accept() (*greeting, error) {
	if e.bare != nil {
		fd, client, err := e.bare.Accept()
		return &greeting{fd: fd, client: client}, err
	}
	c, err := e.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &greeting{fd: -1, conn: c, client: clientOf(c)}, nil
}

// ready is accept without waiting for long: nil if no connection is there.
func (e *entrance) ready() *greeting {
	if e.bare != nil {
		fd, client, ok := e.bare.Ready()
		if !ok {
			return nil
		}
		return &greeting{fd: fd, client: client}
	}
	if d, ok := e.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		d.SetDeadline(time.Now().Add(acceptPause)) // ignored: the listener was closed then
		defer d.SetDeadline(time.Time{})
	}
	g, err := e.accept()
	if err != nil {
		return nil
	}
	return g
}

// turnAway answers one client for which there is no file descriptor but the spare one. It
// returns false if no client waits: the kernel reports the lack before it
// looks.
func (s *Server) turnAway(in *entrance, secured bool) bool {
	g := in.ready()
	if g == nil {
		return false
	}
	if !secured {
		buf := headPool.Get().(*[]byte)
		g.readReady(*buf) // ignored: closing with unread bytes would reset the answer away
		headPool.Put(buf)
		g.writeReady(rejectDescriptors.Append(nil)) // ignored: the client may be gone
	}
	g.close()
	s.refused(rejectDescriptors.Reason, g.client)
	return true
}

func (s *Server) pause() {
	t := time.NewTimer(acceptPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ending:
	}
}

// openSpare opens a descriptor to have one when there are none left. It may fail
// for that reason; a nil file can be closed.
func openSpare() *os.File {
	f, err := os.Open(os.DevNull)
	if err != nil {
		return nil
	}
	return f
}

// tune sets a socket's options: a listening one's, for its connections to inherit.
func (s *Server) tune(sc syscall.Conn) error {
	return poller.Tune(sc, s.options())
}

// options are those of clients' sockets.
func (s *Server) options() poller.Options {
	return poller.Options{SendBuffer: s.cfg.SendBuffer, NotsentLowat: s.cfg.NotsentLowat, UserTimeout: s.cfg.UserTimeout, NoDelay: true}
}

// onlyLocal reports whether only this machine can reach an address.
func onlyLocal(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
