package edge

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
)

// interrupted is a client's connection that does something before its first read: behind
// its ClientHello.
type interrupted struct {
	net.Conn
	before func(c net.Conn)
	once   sync.Once
}

func (c *interrupted) Read(p []byte) (int, error) {
	c.once.Do(func() { c.before(c.Conn) })
	return c.Conn.Read(p)
}

// The answer to plain HTTP on this port is for those who begin with it. Later there is no
// connection to write it to.
func TestPlainRequestBehindAClientHelloIsARefusedHandshake(t *testing.T) {
	s := startTLS(t, settings{})
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := &interrupted{Conn: nc, before: func(c net.Conn) {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") // ignored: then the outcome is another
	}}
	nc.SetDeadline(time.Now().Add(clienttest.Patience))              // ignored: then the handshake fails
	tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake() // ignored: for the client it is over before the server says no
	s.wantOutcome("tls_failed", 1)
	clienttest.Dial(t, s, "/ws/x").Settle(s)
}

// minimalGreeting is a handshake at one end of a pipe, without a listener.
func minimalGreeting(s *Server, defers bool) (g *greeting, client net.Conn) {
	here, there := net.Pipe()
	g = &greeting{door: &door{server: s, tls: loop.Hardened(clienttest.TestTLS()), defers: defers}, room: &room{buf: make([]byte, headBytes)}}
	g.conn = loop.NewSecure(g, here, g.door.tls)
	return g, there
}

// Who does not read the server's part of the handshake keeps no other handshake waiting.
func TestHandshakeThatIsNotReadKeepsNobodyWaiting(t *testing.T) {
	s := New(Config{MaxHandshakes: 2})
	s.crypto = make(chan struct{}, 1)
	g, peer := minimalGreeting(s, false)
	writing, done := make(chan struct{}), make(chan struct{}, 2)
	mute := &interrupted{Conn: peer, before: func(c net.Conn) {
		c.Read(make([]byte, 1)) // ignored: then nothing comes of it below
		close(writing)          // and goes on until the rest is read
		s.crypto <- struct{}{}
		<-s.crypto
		c.Close() // ignored: a pipe
	}}
	go func() {
		tls.Client(mute, &tls.Config{InsecureSkipVerify: true}).Handshake() // ignored: it fails
		done <- struct{}{}
	}()
	go func() {
		if g.handshake(g.conn.(*loop.Secure)) == nil {
			t.Error("the handshake succeeds")
		}
		done <- struct{}{}
	}()
	clienttest.Receive(t, "the server to write", writing)
	clienttest.Receive(t, "another to have its turn", done)
	clienttest.Receive(t, "the handshake to end", done)
}

// Whoever has said something in time has all of the time-out, over TLS too: that its head
// comes behind the handshake is not its fault.
func TestHandshakeTimeoutIsWholeOverTLS(t *testing.T) {
	const timeout = 2 * clienttest.Patience
	s := start(t, settings{HandshakeTimeout: timeout})
	g, peer := minimalGreeting(s.edge, true)
	const head = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(tls.Client(peer, &tls.Config{InsecureSkipVerify: true, SessionTicketsDisabled: true}), head)
		go io.Copy(io.Discard, peer) // ends with the pipe
		sent <- err
	}()
	n, err := loop.Bare(g.conn).Read(g.buf)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if n, err = g.prepare(n); err != nil {
		t.Fatal(err)
	}
	if got, _, err := g.readHead(n); err != nil || got != len(head) {
		t.Errorf("head of %d bytes, %v; want %d", got, err, len(head))
	}
	if left := g.until.Sub(begun); left < timeout {
		t.Errorf("it has %v of %v", left, timeout)
	}
	if err := clienttest.Receive(t, "the client", sent); err != nil {
		t.Error(err)
	}
	loop.Bare(g.conn).Close() // ignored: a pipe
}
