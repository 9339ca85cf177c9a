package loop

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

func TestRecordsMayComeByteByByte(t *testing.T) {
	s := startLoopsTLS(t, loopsConfig{PingInterval: 25 * time.Second, PongTimeout: 10 * time.Second, MessageTimeout: 10 * time.Second})
	c, p := clienttest.Tapped(t, s, "/echo")
	record := p.Sealed(c, clienttest.Text("in pieces")+clienttest.Text("two in a record"))
	for i := range len(record) { // not its runes
		if _, err := p.TCPConn.Write([]byte{record[i]}); err != nil {
			t.Fatal(err)
		}
		s.quiet()
	}
	c.WantText("first", "in pieces")
	c.WantText("second", "two in a record")
	// A message in two records, with time between: it has begun with the first.
	whole := clienttest.Text(clienttest.Stars(1000))
	first, second := p.Sealed(c, whole[:400]), p.Sealed(c, whole[400:])
	p.TCPConn.Write([]byte(first)) // ignored: then nothing comes back
	s.pass(8)
	p.TCPConn.Write([]byte(second)) // ignored: likewise
	c.WantText("in time", clienttest.Stars(1000))
	// Half a record is half a message.
	record = p.Sealed(c, clienttest.Text("never whole"))
	p.TCPConn.Write([]byte(record[:len(record)/2])) // ignored: likewise
	s.quiet()
	s.pass(13)
	c.WantCloseFrame("not finished", 1008)
	c.Vanish()
	s.wantClosed(ReasonMessageTimeout, 1)
}

func TestMessageTimeoutOfHalfAMessageInAWholeRecord(t *testing.T) {
	s := startLoopsTLS(t, loopsConfig{PingInterval: -1, MessageTimeout: 10 * time.Second})
	c, _ := clienttest.Tapped(t, s, "/echo")
	whole := clienttest.Text(clienttest.Stars(1000))
	c.Write(whole[:400])
	clienttest.WaitFor(t, "it to come", func() bool { return s.bytesIn() > 0 })
	s.pass(12)
	c.WantClose("not finished", 1008)
	s.wantClosed(ReasonMessageTimeout, 1)
}

func TestKeysMayBeUpdated(t *testing.T) {
	s := startLoopsTLS(t, loopsConfig{PingInterval: -1})
	c, k := clienttest.Keyed(t, s, "/echo")
	tcp := c.Conn.(*clienttest.TlsLink).Tcp
	for i := range 30 { // with data in between there may be any number
		update := clienttest.UpdateKey
		if i%2 == 0 {
			update = clienttest.UpdateAsked
		}
		out := k.Record(clienttest.TlsHandshake, update)
		k = clienttest.NewKeys(t, k.Secret)
		out += k.Record(clienttest.TlsData, clienttest.Text(fmt.Sprint("key ", i)))
		if _, err := tcp.Write([]byte(out)); err != nil {
			t.Fatal(err)
		}
		c.WantText("with the next key", fmt.Sprint("key ", i))
	}
	s.quiet()
	clienttest.WaitFor(t, "nothing to be held", func() bool { return s.held() == 0 })
}

func TestFloodOfKeyUpdatesEndsTheConnection(t *testing.T) {
	s := startLoopsTLS(t, loopsConfig{PingInterval: -1})
	c, k := clienttest.Keyed(t, s, "/echo")
	other, _ := clienttest.Tapped(t, s, "/echo")
	var flood strings.Builder
	for range 200 {
		flood.WriteString(k.Record(clienttest.TlsHandshake, clienttest.UpdateAsked))
		k = clienttest.NewKeys(t, k.Secret)
	}
	c.Conn.(*clienttest.TlsLink).Tcp.Write([]byte(flood.String())) // ignored: it may be cut meanwhile
	s.wantClosedOrClosing(reasonTLS)
	s.pass(10) // it does not close its side
	s.wantClosed(reasonTLS, 1)
	other.Send(clienttest.Text("still here"))
	other.WantText("others go on", "still here")
}

func TestTLSReaderThatStallsIsCutByTheWriteTimeout(t *testing.T) {
	clienttest.UncompressedOnly(t)
	s := startLoopsTLS(t, loopsConfig{Loops: 1, SendBuffer: 4 << 10, PingInterval: -1})
	slow := clienttest.DialSmall(t, s, "/ws/x")
	n := uint64(0)
	for ; s.blocked() == 0 || n < 40; n++ {
		s.publish("x", clienttest.Stars(2000))
		s.quiet()
	}
	encrypted := 0
	s.do(func(l *Loop) {
		for _, c := range l.conns {
			encrypted = len(c.secure().wire.rest)
		}
	})
	if encrypted == 0 || s.held() == 0 {
		t.Errorf("%d encrypted bytes wait, %d are accounted for", encrypted, s.held())
	}
	for range 100 { // the kernel may still move some bytes
		if s.pass(1); s.closingFor(ReasonWriteTimeout) == 1 {
			break
		}
	}
	if d := s.dropped(ReasonWriteTimeout); d == 0 || d+s.deliveries() != n {
		t.Errorf("%d publications: %d deliveries, %d dropped", n, s.deliveries(), d)
	}
	for range 20 { // it never reads the Close either
		s.pass(1)
	}
	s.wantClosed(ReasonWriteTimeout, 1)
	clienttest.WaitFor(t, "nothing to be held", func() bool { return s.held() == 0 })
	slow.Vanish()
}

func TestTLSClientEndsItsSide(t *testing.T) {
	s := startLoopsTLS(t, loopsConfig{PingInterval: -1})
	other, _ := clienttest.Tapped(t, s, "/ws/x")
	ways := map[string]func(l *clienttest.TlsLink){
		"close_notify":             func(l *clienttest.TlsLink) { l.Conn.CloseWrite() }, // ignored, all three: then it does not end
		"FIN without close_notify": func(l *clienttest.TlsLink) { l.Tcp.CloseWrite() },
		"both":                     func(l *clienttest.TlsLink) { l.CloseWrite() },
	}
	for why, end := range ways {
		c, _ := clienttest.Tapped(t, s, "/ws/x?echo=off")
		c.Send(clienttest.Text("before " + why))
		end(c.Conn.(*clienttest.TlsLink))
		other.WantText("what came before is taken", "before "+why)
		c.WantEOF(why)
		c.Conn.Close()
	}
	s.wantClosed(ReasonClientGone, uint64(len(ways)))
}

func TestTLSMessagesLargerThanASocketGoBothWays(t *testing.T) {
	clienttest.UncompressedOnly(t)
	s := startLoopsTLS(t, loopsConfig{Loops: 1, MaxMessage: 1 << 20, ChannelBuffer: 32 << 20, MaxBuffered: 512 << 20, MaxPending: 4 << 20, SendBuffer: 16 << 10, PingInterval: -1, WriteTimeout: -1})
	a, _ := clienttest.Tapped(t, s, "/ws/x")
	b, _ := clienttest.Tapped(t, s, "/ws/x")
	const each = 8
	sent := make(chan struct{}, 2)
	for _, c := range []*clienttest.Client{a, b} {
		go func() {
			defer func() { sent <- struct{}{} }()
			for range each {
				c.Send(clienttest.Text(clienttest.Stars(1 << 20)))
			}
		}()
	}
	clienttest.WaitFor(t, "both to be blocked", func() bool { return s.blocked() == 2 })
	for range 2 * each {
		a.WantText("all of it", clienttest.Stars(1<<20))
		b.WantText("all of it", clienttest.Stars(1<<20))
	}
	<-sent
	<-sent
	s.quiet()
	clienttest.WaitFor(t, "nothing to be held", func() bool { return s.held() == 0 })
}

// A record that ends the connection, the first byte of another, and a reset: the write of
// the Close frame fails, and the connection is dead before the read has ended. The first
// records use up what may be read in a turn, so that the reset is not seen by the read.
func TestDeadTLSConnectionIsLeftAlone(t *testing.T) {
	for name, end := range map[string]string{"Close": clienttest.Closing(1000, ""), "unmasked": "\x81\x01x"} {
		t.Run(name, func(t *testing.T) {
			s := startLoopsTLS(t, loopsConfig{Loops: 1, PingInterval: -1, MessageTimeout: 10 * time.Second})
			other := clienttest.Dial(t, s, "/ws/y")
			for range 3 {
				c, p := clienttest.Tapped(t, s, "/ws/x?echo=off")
				s.quiet()
				release := s.hold(0)
				p.TCPConn.Write([]byte(p.SealedTo(c, scratchBytes-1, end) + "\x15")) // ignored: then it does not end as expected
				c.Vanish()
				release()
				s.wantConnections(1)
			}
			s.publish("y", "still there")
			other.WantText("the others' loop", "still there")
		})
	}
}

// Input that is put off, taken up, and put off again in the same turn is taken up again:
// what crypto/tls has of it the descriptor does not tell.
func TestEchoOverTLSGoesOnHoweverOftenItIsPutOff(t *testing.T) {
	s := startLoopsTLS(t, loopsConfig{PingInterval: -1, WriteTimeout: -1, SendBuffer: 1 << 20})
	c := clienttest.Dial(t, s, "/echo")
	long := clienttest.Stars(20_000) // a reply is more than may be due for reading to go on
	const n = 60
	c.Patience()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.Conn, strings.Repeat(clienttest.Text(long), n))
		sent <- err
	}()
	for range n {
		c.WantText("all was sent, and nothing else happens", long)
	}
	if err := clienttest.Receive(t, "the sender", sent); err != nil {
		t.Error(err)
	}
}

// Five bytes make crypto/tls hold a whole record's room: that is held for the client, and
// for a bounded time, though it sends a byte now and then.
func TestHalfARecordIsHeldAndEndsInTime(t *testing.T) {
	const room, timeout = 0x40ff, 10 // bytes, seconds
	for target, open := range map[string]func(c *clienttest.Client, target string){
		"/ws/x":  func(c *clienttest.Client, target string) { c.Upgrade(target) },
		"/sse/x": func(c *clienttest.Client, target string) { c.Stream(target) },
	} {
		t.Run(target, func(t *testing.T) {
			s := startLoopsTLS(t, loopsConfig{PingInterval: -1, MessageTimeout: timeout * time.Second})
			c := clienttest.Connect(t, s)
			open(c, target)
			s.quiet()
			before := s.held()
			tcp := c.Conn.(*clienttest.TlsLink).Tcp
			if _, err := tcp.Write([]byte{clienttest.TlsData, 3, 3, room >> 8, room & 0xff}); err != nil {
				t.Fatal(err)
			}
			clienttest.WaitFor(t, "the record's room to be held", func() bool { return s.held() >= before+room })
			for range timeout + 1 {
				tcp.Write([]byte{0}) // ignored: it may have been closed
				s.pass(1)
			}
			s.wantClosedOrClosing(ReasonMessageTimeout)
			c.Vanish()
			s.wantClosed(ReasonMessageTimeout, 1)
		})
	}
}

// What is of TLS alone, and never whole, is held for the client as well, and bounded.
func TestHandshakeMessageThatNeverEndsIsHeldAndBounded(t *testing.T) {
	const piece = 16_000
	s := startLoopsTLS(t, loopsConfig{PingInterval: -1})
	c, k := clienttest.Keyed(t, s, "/ws/x")
	s.quiet()
	before := s.held()
	tcp := c.Conn.(*clienttest.TlsLink).Tcp
	if _, err := io.WriteString(tcp, k.Record(clienttest.TlsHandshake, "\x0b\x03\xff\xff"+clienttest.Stars(piece))); err != nil {
		t.Fatal(err)
	}
	clienttest.WaitFor(t, "what came to be held", func() bool { return s.held() >= before+piece })
	s.wantConnections(1)
	for range overMost / piece {
		io.WriteString(tcp, k.Record(clienttest.TlsHandshake, clienttest.Stars(piece))) // ignored: it may be cut already
	}
	s.wantClosedOrClosing(reasonTLS)
	c.Vanish()
	s.wantClosed(reasonTLS, 1)
	clienttest.WaitFor(t, "nothing to be held", func() bool { return s.held() == before })
}
