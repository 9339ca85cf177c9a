package loop

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
)

func TestTLSRecordsAndMessagesAreIndependent(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := startLoopsTLS(t, loopsConfig{PingInterval: -1})
			s.clock.Slow() // one goroutine reads for both
			c, _ := clienttest.DialTLS(t, s, "/ws/x", &tls.Config{MaxVersion: version})
			other, _ := clienttest.DialTLS(t, s, "/ws/x", nil)
			c.Send(clienttest.Text("from TLS"))
			c.WantText("own", "from TLS")
			other.WantText("of the other", "from TLS")
			// Larger than a record, and more than the socket takes at once.
			big := strings.Repeat("0123456789abcdef", 4000)
			for range 20 {
				other.Send(clienttest.Text(big))
			}
			for range 20 {
				c.WantText("several records", big)
				other.WantText("several records", big)
			}
			for range 20 {
				c.Send(clienttest.Text(big))
			}
			for range 20 {
				c.WantText("several records", big)
				other.WantText("several records", big)
			}
			c.Send(clienttest.Closing(1000, ""))
			c.WantClose("answer to a Close", 1000)
		})
	}
}

// Records that are in the process already are not told by the descriptor any more.
func TestRecordsBehindAPausedOneAreRead(t *testing.T) {
	s := startLoopsTLS(t, loopsConfig{PingInterval: -1, WriteTimeout: -1})
	c, _ := clienttest.DialTLS(t, s, "/echo", nil)
	const messages, size = 200, 8000
	long := clienttest.Numbered(1, size)[0]
	// Nothing is read meanwhile: replies fill the sockets, reading pauses, with
	// records left over.
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range messages {
			c.Send(clienttest.Text(long))
		}
	}()
	clienttest.WaitFor(t, "a socket to be full", func() bool { return s.blocked() > 0 })
	for range messages {
		c.WantText("echo", long)
	}
	clienttest.Receive(t, "everything to be sent", sent)
}

func TestGarbageBehindATLSHandshakeEndsTheConnection(t *testing.T) {
	s := startLoopsTLS(t, loopsConfig{PingInterval: -1})
	nc, err := net.Dial("tcp", s.Endpoint().Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	secured := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	if _, err := io.WriteString(secured, clienttest.UpgradeTo("/ws/x")); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 12)
	if _, err := io.ReadFull(secured, head); err != nil || string(head) != "HTTP/1.1 101" {
		t.Fatalf("%q %v", head, err)
	}
	if _, err := nc.Write([]byte("\x17\x03\x03\x00\x20this is no record of anybody here")); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, nc) // ignored: an alert, and the end
	s.pass(10)              // it does not close its side
	s.wantClosed(reasonTLS, 1)
}
