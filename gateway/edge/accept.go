package edge

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

// Serve accepts connections on l until Close, closes l, and returns ErrClosed. secured is nil for
// a listener without TLS.
func (s *Server) Serve(l net.Listener, secured *tls.Config) error {
	in := enter(l)
	defer in.Close()                                                                         // ignored: nothing is accepted any more
	others := !onlyLocal(l.Addr()) || len(s.cfg.TrustedProxies)+len(s.cfg.ProxyProtocol) > 0 // can reach it
	if others && s.cfg.Insecure != nil {
		return s.cfg.Insecure
	}
	_, tcp := l.(*net.TCPListener)
	door := &door{server: s, address: l.Addr().Network() + ":" + l.Addr().String(), tls: secured, others: others, loopback: tcp && !others}
	if sc, ok := l.(syscall.Conn); ok {
		door.inherits = poller.Tune(sc, s.cfg.Socket) == nil && tcp // else each connection is tuned: a listener for Multipath TCP has not all options
		door.defers = poller.SetDeferAccept(sc) == nil
	}
	in.door = door
	if !s.track(in) {
		return ErrClosed
	}
	defer s.untrack(in)
	spare := openSpare()
	defer func() { spare.Close() }() // ignored: the file is /dev/null
	turned := 0
	for {
		g, err := in.accept()
		if err != nil && !s.passage.Wait(s.ending) {
			<-s.ending // others would take the end of Serve for a failure
			return ErrClosed
		}
		switch {
		case err == nil:
			g.door = door
			s.receive(g)
		case closedByUs(err):
			return ErrClosed
		case errors.Is(err, os.ErrDeadlineExceeded): // it was paused
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
	door *door            // set before it is tracked
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
	s.refused(rejectDescriptors.Reason, g.client)
	if !secured {
		room := rooms.Get().(*room)
		g.readReady(room.buf) // ignored: closing with unread bytes would reset the answer away
		room.free()
		g.writeReady(rejectDescriptors.Append(nil)) // ignored: the client may be gone
	}
	g.close()
	return true
}

// pause rests before the next try.
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

// ErrClosed is returned by Serve once the edge is closed.
var ErrClosed = errors.New("gateway: server closed")

// closedByUs reports whether an Accept failed because the listener was closed.
func closedByUs(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed)
}
