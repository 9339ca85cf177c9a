package gateway

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
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
	s := startTLS(t, Config{PingInterval: -1})
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := &interrupted{Conn: nc, before: func(c net.Conn) {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") // ignored: then the outcome is another
	}}
	nc.SetDeadline(time.Now().Add(patience))                         // ignored: then the handshake fails
	tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake() // ignored: for the client it is over before the server says no
	s.wantOutcome("tls_failed", 1)
	dial(t, s, "/ws/x").settle(s)
}

// Input that is put off, taken up, and put off again in the same turn is taken up again:
// what crypto/tls has of it the descriptor does not tell.
func TestEchoOverTLSGoesOnHoweverOftenItIsPutOff(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1, WriteTimeout: -1, SendBuffer: 1 << 20})
	c := dial(t, s, "/echo")
	long := stars(20_000) // a reply is more than may be due for reading to go on
	const n = 60
	c.patience()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.conn, strings.Repeat(text(long), n))
		sent <- err
	}()
	for range n {
		c.wantText("all was sent, and nothing else happens", long)
	}
	if err := receive(t, "the sender", sent); err != nil {
		t.Error(err)
	}
}

// Five bytes make crypto/tls hold a whole record's room: that is held for the client, and
// for a bounded time, though it sends a byte now and then.
func TestHalfARecordIsHeldAndEndsInTime(t *testing.T) {
	const room, timeout = 0x40ff, 10 // bytes, seconds
	for target, open := range map[string]func(c *client, target string){
		"/ws/x":  func(c *client, target string) { c.upgrade(target) },
		"/sse/x": func(c *client, target string) { c.stream(target) },
	} {
		t.Run(target, func(t *testing.T) {
			s := startTLS(t, Config{PingInterval: -1, MessageTimeout: timeout * time.Second})
			c := connect(t, s)
			open(c, target)
			s.quiet()
			before := s.held()
			tcp := c.conn.(*tlsLink).tcp
			if _, err := tcp.Write([]byte{tlsData, 3, 3, room >> 8, room & 0xff}); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the record's room to be held", func() bool { return s.held() >= before+room })
			for range timeout + 1 {
				tcp.Write([]byte{0}) // ignored: it may have been closed
				s.pass(1)
			}
			s.wantClosedOrClosing(reasonMessageTimeout)
			c.vanish()
			s.wantClosed(reasonMessageTimeout, 1)
		})
	}
}

// What is of TLS alone, and never whole, is held for the client as well, and bounded.
func TestHandshakeMessageThatNeverEndsIsHeldAndBounded(t *testing.T) {
	const piece = 16_000
	s := startTLS(t, Config{PingInterval: -1})
	c, k := keyed(t, s, "/ws/x")
	s.quiet()
	before := s.held()
	tcp := c.conn.(*tlsLink).tcp
	if _, err := io.WriteString(tcp, k.record(tlsHandshake, "\x0b\x03\xff\xff"+stars(piece))); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "what came to be held", func() bool { return s.held() >= before+piece })
	s.wantConnections(1)
	for range overMost / piece {
		io.WriteString(tcp, k.record(tlsHandshake, stars(piece))) // ignored: it may be cut already
	}
	s.wantClosedOrClosing(reasonTLS)
	c.vanish()
	s.wantClosed(reasonTLS, 1)
	waitFor(t, "nothing to be held", func() bool { return s.held() == before })
}

// Over TLS the socket takes what was encrypted before: that is progress too, though
// something always waits.
func TestSteadyReaderOverTLSIsNotCut(t *testing.T) {
	const timeout = 30 // seconds
	s := startTLS(t, Config{Loops: 1, SendBuffer: 4 << 10, ChannelBuffer: 2 << 20, PingInterval: -1, WriteTimeout: timeout * time.Second})
	c := dialSmall(t, s, "/ws/x")
	texts := numbered(500, 2000)
	for _, p := range texts {
		s.publish("x", p)
	}
	waitFor(t, "it to be blocked", func() bool { return s.blocked() == 1 })
	type progress struct {
		pos  uint64
		rest int
	}
	waits := uint32(0) // for how long it has taken nothing, as far as the loop knows
	stood := false     // for longer than the grace
	at := func() (p progress) {
		s.do(func(l *loop) {
			for _, c := range l.conns {
				if c.sub.group != nil { // else it is being closed
					p = progress{c.sub.group.subs[c.sub.index].pos, len(c.secure().wire.rest)}
					if waits, stood = 0, c.stoodStill(pressGrace); c.has(bitBlocked) {
						waits = l.now - c.since
					}
				}
			}
		})
		return p
	}
	read := 0
	for range 12 {
		s.pass(timeout * 2 / 3)
		if n := s.closing(reasonWriteTimeout); n != 0 {
			t.Fatalf("cut after %d messages, although it took some each time", read)
		}
		s.do(func(l *loop) {
			for _, c := range l.conns {
				loopStood(c, longer)
			}
		})
		for from := at(); at() == from; read++ {
			c.wantText("it takes its time", texts[read])
		}
		if waits >= timeout/3 || stood {
			t.Errorf("after %d messages: it took some now, and is blamed for %d s, or to stand still (%v)", read, waits, stood)
		}
	}
	for ; read < len(texts); read++ {
		c.wantText("and gets everything", texts[read])
	}
}

// minimalGreeting is a handshake at one end of a pipe, without a listener.
func minimalGreeting(s *Server, defers bool) (g *greeting, client net.Conn) {
	here, there := net.Pipe()
	g = &greeting{door: &door{server: s, tls: hardened(testTLS()), defers: defers}, buf: new([]byte)}
	*g.buf = make([]byte, headBytes)
	g.conn = newSecure(g, here, g.door.tls)
	return g, there
}

// Who does not read the server's part of the handshake keeps no other handshake waiting.
func TestHandshakeThatIsNotReadKeepsNobodyWaiting(t *testing.T) {
	s := &Server{stage: newStage(2), crypto: make(chan struct{}, 1), stats: new(serverStats)}
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
		if g.handshake(g.conn.(*secure)) == nil {
			t.Error("the handshake succeeds")
		}
		done <- struct{}{}
	}()
	receive(t, "the server to write", writing)
	receive(t, "another to have its turn", done)
	receive(t, "the handshake to end", done)
}

// Whoever has said something in time has all of the time-out, over TLS too: that its head
// comes behind the handshake is not its fault.
func TestHandshakeTimeoutIsWholeOverTLS(t *testing.T) {
	const timeout = 2 * patience
	s := start(t, Config{HandshakeTimeout: timeout})
	g, peer := minimalGreeting(s.Server, true)
	const head = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(tls.Client(peer, &tls.Config{InsecureSkipVerify: true, SessionTicketsDisabled: true}), head)
		go io.Copy(io.Discard, peer) // ends with the pipe
		sent <- err
	}()
	n, err := bare(g.conn).Read(*g.buf)
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
	if err := receive(t, "the client", sent); err != nil {
		t.Error(err)
	}
	bare(g.conn).Close() // ignored: a pipe
}
