package loop

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"

	"github.com/gobwas/ws"
)

func TestRepliesBeyondTheLimitCloseTheConnection(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	s := startLoops(t, loopsConfig{})
	s.do(func(l *Loop) { l.cfg.MaxPending = 17 << 10 }) // Validate does not allow what makes this possible
	c := clienttest.Dial(t, s, "/echo")
	c.Send(clienttest.Text(clienttest.Stars(6<<10)), clienttest.Text(clienttest.Stars(6<<10)), clienttest.Text(clienttest.Stars(6<<10)), clienttest.Text("too many"))
	for range 3 {
		c.WantText("its replies come before the end", clienttest.Stars(6<<10))
	}
	c.WantClose("too many pending replies", 1013)
	s.wantClosed(ReasonPendingFull, 1)
}

// A client that sends and does not read makes the gateway stop reading it; what
// is held stays bounded, and nothing is lost when the client reads again.
func TestEchoFloodWaitsInTheClientsOwnSocket(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{SendBuffer: 4 << 10, WriteTimeout: -1, PingInterval: -1})
	c := clienttest.DialSmall(t, s, "/echo")
	n := clienttest.Scaled(4_000, 1_000)
	texts := clienttest.Numbered(n, 2000)
	sent := make(chan error, 1)
	go func() {
		var wire []byte
		for _, p := range texts {
			wire = append(wire, clienttest.Text(p)...)
		}
		c.Conn.SetWriteDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the write fails
		_, err := c.Conn.Write(wire)
		sent <- err
	}()
	clienttest.WaitFor(t, "the gateway to stop reading", func() bool {
		stopped := false
		s.do(func(l *Loop) {
			for _, c := range l.conns {
				stopped = !c.reads()
			}
		})
		return stopped
	})
	s.quiet()
	if held := s.held(); held > 256<<10 {
		t.Errorf("%d bytes are held for one client", held)
	}
	for i, p := range texts {
		c.WantText(fmt.Sprint("echo ", i), p)
	}
	if err := clienttest.Receive(t, "the writer", sent); err != nil {
		t.Error(err)
	}
	c.Settle(s)
	if held := s.held(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

func TestEchoToASlowReaderKeepsItsOutboxSmall(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, SendBuffer: 4 << 10, WriteTimeout: -1, PingInterval: -1})
	c := clienttest.DialSmall(t, s, "/echo")
	const messages, size = 30, 60_000
	sent := make(chan error, 1)
	go func() {
		c.Conn.SetWriteDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the write fails
		_, err := io.WriteString(c.Conn, strings.Repeat(clienttest.Text(clienttest.Stars(size)), messages))
		sent <- err
	}()
	largest := 0
	part := make([]byte, 16<<10)
	for left := messages * (4 + size); left > 0; {
		c.Conn.SetReadDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the read fails
		n, err := io.ReadFull(c.In, part[:min(left, len(part))])
		if err != nil {
			t.Fatal(err)
		}
		left -= n
		s.do(func(l *Loop) {
			for _, c := range l.conns {
				if c.Out != nil {
					largest = max(largest, c.Out.size())
				}
			}
		})
	}
	if err := clienttest.Receive(t, "the writer", sent); err != nil {
		t.Error(err)
	}
	if most := 256<<10 + PendingSlack; largest > most {
		t.Errorf("the outbox grew to %d bytes, want at most %d", largest, most)
	}
}

// What was sent of the replies goes before their buffer grows: a client that takes some of
// them and asks for more, so that never all are sent, does not make it grow for good.
func TestRepliesThatAreNeverAllSentStayBounded(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1})
	clienttest.Dial(t, s, "/ws/x")
	var size int
	s.do(func(l *Loop) {
		c := l.conns[0]
		c.bits |= bitBlocked // the socket takes nothing by itself
		for range 10_000 {
			c.Reply(ws.OpText, []byte("reply"))
			c.Out.sent = len(c.Out.buf) - 1 // it took all but the last byte
		}
		size = c.Out.size()
		c.bits &^= bitBlocked
		c.kill(ReasonReset) // what it was sent is nothing that it can read
	})
	if size > outboxKeep {
		t.Errorf("%d bytes are held for a reply", size)
	}
}
