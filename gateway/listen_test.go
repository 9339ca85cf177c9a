package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"golang.org/x/sys/unix"
)

func TestConnectionsHaveTheConfiguredSendBuffer(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	const sendBuffer = 16 << 10
	s := start(t, Config{SendBuffer: sendBuffer})
	path := filepath.Join(t.TempDir(), "socket")
	l, err := Listen(context.Background(), "unix", path, sendBuffer)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() { // before the server's, which ends it
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		defer cancel()
		s.shutdown(ctx) // ignored: nobody is left
		clienttest.Receive(t, "Serve to return", served)
	})
	for network, address := range map[string]string{"tcp": s.addr, "unix": path} {
		c, err := net.DialTimeout(network, address, clienttest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the read fails
		io.WriteString(c, clienttest.UpgradeTo("/ws"))     // ignored: likewise
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: got %v, %v, want an upgrade", network, resp, err)
		}
		s.Each(func(c *loop.Conn) {
			// The kernel doubles it for its own bookkeeping.
			if got, err := unix.GetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF); err != nil || got != 2*sendBuffer {
				t.Errorf("%s: send buffer of %d bytes, %v; want twice %d", network, got, err, sendBuffer)
			}
		})
		c.Close() // ignored: wantConnections sees it
		s.wantConnections(0)
	}
}
