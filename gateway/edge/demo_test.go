package edge

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"testing"

	"sluice/gateway/clienttest"
)

// What is for this machine's own clients is for no listener that others reach, and for none
// that proxies have: their clients may be anywhere.
func TestTheDemoIsForClientsOnThisMachineOnly(t *testing.T) {
	t.Parallel()
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
	for _, test := range []struct {
		name            string
		cfg             settings
		network, listen string
		want            int
	}{
		{"a loopback address", settings{}, "tcp", "127.0.0.1:0", http.StatusOK},
		{"another loopback address", settings{}, "tcp", "127.0.0.2:0", http.StatusOK},
		{"every address", settings{}, "tcp4", "0.0.0.0:0", http.StatusNotFound},
		{"every address of both kinds", settings{}, "tcp", ":0", http.StatusNotFound},
		{"a Unix socket", settings{}, "unix", filepath.Join(t.TempDir(), "s"), http.StatusNotFound},
		{"trusted proxies", settings{TrustedProxies: local}, "tcp", "127.0.0.1:0", http.StatusNotFound},
		{"trusted proxies elsewhere", settings{TrustedProxies: elsewhere}, "tcp", "127.0.0.1:0", http.StatusNotFound},
		{"PROXY headers elsewhere", settings{ProxyProtocol: elsewhere}, "tcp", "127.0.0.1:0", http.StatusNotFound},
	} {
		s := start(t, test.cfg)
		l, err := net.Listen(test.network, test.listen)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.serve(l) }()
		addr := l.Addr().String()
		if tcp, ok := l.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
			addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
		}
		client := http.Client{Timeout: clienttest.Patience, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it is about who is answered
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, test.network, addr)
			},
		}}
		scheme := "http"
		if s.secured {
			scheme = "https"
		}
		resp, err := client.Get(scheme + "://localhost/demo/test")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close() // ignored: it was read to its end
		if resp.StatusCode != test.want || (string(body) == "for this machine\n") != (test.want == http.StatusOK) || err != nil {
			t.Errorf("%s: got %d %q, %v, want %d", test.name, resp.StatusCode, body, err, test.want)
		}
		l.Close() // ignored: the edge closes it too
	}
}
