package loop

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/clienttest"

	"github.com/gobwas/ws"
)

// flood publishes so many messages from each of so many connections of their
// own, which read all the time, and gives a function that waits for them.
func (s *loops) flood(target string, publishers, each int, message string) (wait func()) {
	s.t.Helper()
	sent := make(chan error, publishers)
	for range publishers {
		w := clienttest.Dial(s.t, s, target)
		go io.Copy(io.Discard, w.Conn) // ends with the connection
		go func() {
			w.Conn.SetWriteDeadline(time.Now().Add(10 * clienttest.Patience)) // ignored: then the write fails
			_, err := io.WriteString(w.Conn, strings.Repeat(clienttest.Text(message), each))
			sent <- err
		}()
	}
	return func() {
		s.t.Helper()
		for range publishers {
			if err := clienttest.Receive(s.t, "the publishers to be through", sent); err != nil {
				s.t.Errorf("a publisher: %v", err)
			}
		}
	}
}

// Not parallel: who reads must get the time to do so.
func TestFloodCutsNobodyWhoReads(t *testing.T) {
	s := startLoops(t, loopsConfig{})
	s.clock.Slow()
	reader := clienttest.Dial(t, s, "/ws/x?mode=subscribe")
	const publishers, each, message = 24, 3000, "0123456789012345"
	wait := s.flood("/ws/x", publishers, each, message)
	for i := range publishers * each {
		reader.WantText(fmt.Sprintf("message %d", i), message)
	}
	wait()
	s.wantConnections(publishers + 1)
	if s.pushBacks() == 0 {
		t.Error("nobody was pushed back: the test shows nothing")
	}
}

// Not parallel: see above.
func TestFloodGoesOnWithoutWhoNeverReads(t *testing.T) {
	clienttest.UncompressedOnly(t)
	s := startLoops(t, loopsConfig{SendBuffer: 4 << 10, MaxMessage: 1000, ChannelBuffer: 64 << 10})
	s.clock.Slow()
	slow, reader := clienttest.DialSmall(t, s, "/ws/x?mode=subscribe"), clienttest.Dial(t, s, "/ws/x?mode=subscribe")
	const publishers, each = 4, 200
	wait := s.flood("/ws/x?echo=off", publishers, each, clienttest.Stars(1000))
	var got atomic.Uint64
	read := make(chan error, 1)
	go func() {
		for range publishers * each {
			if op, p, err := reader.Next(); err != nil || op != ws.OpText || p != clienttest.Stars(1000) {
				read <- fmt.Errorf("after %d messages: opcode %#x with %s, %v", got.Load(), op, clienttest.Brief(p), err)
				return
			}
			got.Add(1)
		}
		read <- nil
	}()
	clienttest.WaitFor(t, "the one that never reads to be cut", func() bool {
		if s.sum((*Stats).Publications) == got.Load() { // nobody else is behind
			s.clock.Advance(pressGrace / 10)
		}
		return s.closingFor(ReasonSlow)+int(s.closedFor(ReasonSlow)) > 0
	})
	if err := clienttest.Receive(t, "the reader to be through", read); err != nil {
		t.Errorf("the one that reads: %v", err)
	}
	wait()
	if _, code, err := slow.Texts(); code != 1013 && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("close code %d, %v; want 1013 or a reset", code, err)
	}
}
