package edge

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/gateway/clienttest"
	"sluice/gateway/saved"
)

// straggler returns a handshake as another process hands it over, of which that has read the bytes, and the client's end.
func straggler(t *testing.T, address, sent string) (client net.Conn, b []byte, fd int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	b = saved.AppendBytes([]byte{stragglerVersion}, address)
	return client, saved.AppendBytes(saved.AppendBytes(append(b, 0), ""), sent), fd
}

// A handshake at a listener that is not served any more holds nothing up: neither the handshakes behind it nor what the
// other process says next.
func TestStragglerOfAnotherListener(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("handshakes with TLS do not move")
	}
	t.Parallel()
	s := start(t, settings{})
	const head = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
	begun := time.Now()
	var lost []net.Conn
	for range 3 {
		cl, b, fd := straggler(t, "tcp:192.0.2.1:1", head)
		s.edge.Straggler(b, fd)
		lost = append(lost, cl)
	}
	if took := time.Since(begun); took >= stragglerPatience {
		t.Errorf("three took %v", took)
	}
	cl, b, fd := straggler(t, "tcp:"+s.addr, head)
	s.edge.Straggler(b, fd)
	cl.Write([]byte("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	cl.SetDeadline(time.Now().Add(clienttest.Patience))
	p := make([]byte, 12)
	if _, err := cl.Read(p); err != nil || string(p) != "HTTP/1.1 101" {
		t.Errorf("got %q, %v", p, err)
	}
	cl.Close()
	for _, cl := range lost {
		cl.SetDeadline(time.Now().Add(clienttest.Patience))
		if n, err := cl.Read(p); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes, %v, want that it is closed", n, err)
		}
	}
}

// The request of an event stream that is being read, or whose token is looked at, moves, too.
func TestStreamOnItsWayMoves(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("handshakes with TLS do not move")
	}
	t.Parallel()
	s := start(t, settings{})
	c := clienttest.Connect(t, s)
	const request = "POST /connection/uni_sse HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{"
	c.Write(request)
	s.wantOutcome("http", 1)
	s.edge.Hold()
	moved := make(chan struct{})
	var sent []string
	go func() {
		defer close(moved)
		s.edge.Move(func(b []byte, fd int) error {
			r := saved.Read("a handshake", b, stragglerVersion)
			r.Bytes()
			r.Byte()
			r.Bytes()
			sent = append(sent, string(r.Bytes()))
			return nil
		})
	}()
	clienttest.WaitFor(t, "the passage to be shut", s.edge.passage.IsShut)
	c.Write("}")
	clienttest.Receive(t, "what is on its way to be moved", moved)
	if len(sent) != 1 || !strings.HasPrefix(sent[0], request) {
		t.Errorf("%q was moved, want the request", sent)
	}
}
