package deploy_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// connectFrom upgrades a connection whose client has the given address.
func connectFrom(client, address string) (net.Conn, error) {
	d := ws.Dialer{
		Timeout: patience,
		NetDial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
			return from.DialContext(ctx, "tcp", address)
		},
	}
	c, _, _, err := d.Dial(context.Background(), "ws://"+address+"/echo")
	return c, err
}

// Behind a proxy that it is told of, the gateway bounds each client's address and not
// the proxy's.
func TestGatewayKnowsItsClientsBehindAProxy(t *testing.T) {
	try := func(t *testing.T, p proxy, text, believe string) {
		t.Helper()
		address := p.startWith(t, serve(t, believe, "127.0.0.1", "--max-per-address", "1"), text)
		var first net.Conn
		waitFor(t, "a place", func() bool { // a proxy may have to see the gateway's health before
			var err error
			first, err = connectFrom("127.0.0.2", address)
			return err == nil
		})
		defer first.Close()
		if err := echo(first, "hello"); err != nil {
			t.Fatal(err)
		}
		c, err := connectFrom("127.0.0.2", address)
		if status := ws.StatusError(0); !errors.As(err, &status) || status != http.StatusTooManyRequests {
			t.Errorf("a second one of the same address: %v, want 429", err)
		}
		if err == nil {
			c.Close()
		}
		if c, err = connectFrom("127.0.0.3", address); err != nil {
			t.Fatalf("another address: %v", err)
		}
		c.Close()
	}
	each(t, func(t *testing.T, p proxy) {
		text := shipped(t, p.file)
		try(t, p, text, "--trusted-proxies")
		if line := "#server a 127.0.0.1:8000 send-proxy-v2"; strings.Contains(text, line) {
			plain := "    server a 127.0.0.1:8000 check"
			text = substitute(t, text, plain, "#"+plain, line, line[1:], "option forwardfor", "")
			try(t, p, text, "--proxy-protocol")
		}
	})
}
