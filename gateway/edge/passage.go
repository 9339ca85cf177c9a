package edge

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"sluice/gateway/gate"
	"sluice/gateway/loop"
	"sluice/gateway/saved"
	"sluice/poller"
)

// Handing the edge over to another process. While the server is held, no handshake becomes a connection: one that
// is complete waits, and nothing is accepted. Then either everything goes on (Release), or what is in its
// handshake moves to the other process, with the bytes that its client has sent so far (Move). What has TLS cannot
// move and is closed.

// passage is what a handshake goes through to become a connection.
type passage struct {
	gate.Gate
	pass func(sent []byte, fd int) error // hands a handshake over; set before the gate is shut
}

// Hold keeps handshakes from becoming connections, and stops accepting. When it returns, no connection is on its
// way to a loop that was not posted to it.
func (s *Server) Hold() {
	s.passage.Hold()
	s.eachListener((*entrance).pause)
}

// Release ends Hold: everything goes on.
func (s *Server) Release() {
	s.eachListener((*entrance).resume)
	s.passage.Release()
}

// moveTime bounds how long handshakes may take to move: what does not wait for its client is soon done.
const moveTime = time.Second

// Move ends Hold for good: another process accepts. The listeners are closed, and handshakes are passed to it,
// with what their clients have sent, for Straggler. pass is called by one goroutine at a time, until Move returns.
func (s *Server) Move(pass func(sent []byte, fd int) error) {
	var mu sync.Mutex
	over := false
	s.passage.pass = func(sent []byte, fd int) error {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return net.ErrClosed
		}
		return pass(sent, fd)
	}
	s.eachListener((*entrance).letGo)
	s.passage.Shut()
	s.stage.move()
	s.web.kept.move()
	for end := time.Now().Add(moveTime); time.Now().Before(end) && s.stage.count()+s.passage.Waiting()+int(s.web.coming.Load())+s.web.kept.idle() > 0; {
		time.Sleep(time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	over = true
}

func (s *Server) eachListener(do func(*entrance)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		do(l)
	}
}

// pause stops accepting until resume.
func (e *entrance) pause() {
	if e.bare != nil {
		e.bare.Pause() // ignored: it is closed
	}
}

func (e *entrance) resume() {
	if e.bare != nil {
		e.bare.Resume() // ignored: it is closed
	}
}

// letGo closes the listener, which another process has.
func (e *entrance) letGo() {
	LetGo(e.Listener)
	if e.bare != nil {
		e.bare.Close() // ignored: nothing is accepted any more
	}
}

// LetGo closes a listener that another process has: a Unix socket's file stays.
func LetGo(l net.Listener) {
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	l.Close() // ignored: nothing is accepted any more
}

// move has those who wait move to another process.
func (st *stage) move() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.moved = true
	for st.waiting.Len() > 0 {
		st.interruptLocked(st.waiting.Front().Value.(*greeting))
	}
	st.changed.Broadcast()
}

// count returns how many have a place.
func (st *stage) count() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.taken
}

// moves reports whether the handshake goes on in another process.
func (g *greeting) moves() bool {
	st := g.door.server.stage
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.moved && !g.evicted
}

// move hands the handshake over, of which n bytes are there.
func (g *greeting) move(n int) {
	s := g.door.server
	b := g.door.appendStraggler(nil, g.introduced, g.told, g.client, g.buf[:n])
	fd, secure, err := g.detach()
	if err != nil {
		g.end()
		return
	}
	s.moveFD(b, fd, secure != nil)
	g.Leave()
}

// move hands a request over that is for a loop.
func (c *webConn) move(w http.ResponseWriter) {
	if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
		return // cannot be: it is a connection of ours, with HTTP/1
	}
	c.pass()
}

// pass hands over what the client has sent of a request, with its connection.
func (c *webConn) pass() {
	s := c.web.server
	c.sentMu.Lock()
	defer c.sentMu.Unlock()
	b := c.door.appendStraggler(nil, c.introduced, c.told, c.client, c.sent)
	fd, secure, err := loop.Detach(c.Conn)
	if err != nil {
		c.Conn.Close() // ignored: there is nobody to tell
		c.Leave()
		return
	}
	s.moveFD(b, fd, secure != nil || len(c.sent) > headBytes)
	c.Leave()
}

// moveFD hands a descriptor over, and closes it here.
func (s *Server) moveFD(b []byte, fd int, cannot bool) {
	if s.passage.IsShut() && !cannot {
		s.passage.pass(b, fd) // ignored: the client sees its connection end, and comes back
	}
	poller.Close(fd) // ignored: likewise
}

// stragglerVersion is that of appendStraggler.
const stragglerVersion = 1

// What is known of a straggler's client.
const (
	stragglerIntroduced = 1 << iota // the header of the PROXY protocol was read
	stragglerTold                   // and has named the client
)

// appendStraggler appends a handshake for another process.
func (d *door) appendStraggler(dst []byte, introduced, told bool, client netip.AddrPort, sent []byte) []byte {
	flags, text := byte(0), []byte(nil)
	if introduced {
		flags |= stragglerIntroduced
		if told {
			flags |= stragglerTold
			text, _ = client.MarshalBinary() // never fails
		}
	}
	dst = append(saved.AppendBytes(append(dst, stragglerVersion), d.address), flags)
	return saved.AppendBytes(saved.AppendBytes(dst, text), sent)
}

// stragglerPatience is how long a straggler waits for its listener to be served.
const stragglerPatience = 5 * time.Second

// Straggler goes on with a handshake of another process's, of which that has sent the bytes, at the same listener. It
// owns the descriptor, and does not wait.
func (s *Server) Straggler(b []byte, fd int) {
	r := saved.Read("a handshake", b, stragglerVersion)
	address, flags, text, sent := string(r.Bytes()), r.Byte(), r.View(), r.Bytes()
	g := &greeting{fd: fd, client: poller.PeerAddr(fd), sent: sent, introduced: flags&stragglerIntroduced != 0}
	if flags&stragglerTold != 0 {
		if g.told = g.client.UnmarshalBinary(text) == nil; !g.told {
			r.Fail()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.End() != nil || len(sent) > headBytes || s.closing {
		g.abandon()
		return
	}
	s.acceptors.Go(func() {
		if g.door = s.door(address); g.door == nil {
			g.abandon()
			return
		}
		s.receive(g)
	})
}

// door returns the door of the listener at an address, for which it waits; nil if there is none.
func (s *Server) door(address string) *door {
	for end := time.Now().Add(stragglerPatience); time.Now().Before(end); {
		var found *door
		s.eachListener(func(l *entrance) {
			if l.door.address == address {
				found = l.door
			}
		})
		if found != nil {
			return found
		}
		select {
		case <-s.ending:
			return nil
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// errForeign: a listener is not one of package net's, and has no descriptor.
var errForeign = errors.New("a listener that is not of package net cannot be handed over")

// Descriptor returns a listener's descriptor, a duplicate, which stays non-blocking.
func Descriptor(l net.Listener) (*os.File, error) {
	f, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, errForeign
	}
	return f.File()
}
