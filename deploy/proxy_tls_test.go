package deploy_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"

	"sluice/bench/child"
)

// The lines for TLS are in the files, commented out: with them in place of the plain
// one, a wss client gets through.
func TestProxyTakesTLSOff(t *testing.T) {
	each(t, func(t *testing.T, p proxy) {
		address, pool := p.startWithTLS(t, serve(t))
		d := ws.Dialer{Timeout: patience, TLSConfig: &tls.Config{RootCAs: pool},
			Header: ws.HandshakeHeaderHTTP{"Origin": {"https://" + address}}}
		c, _, _, err := d.Dial(t.Context(), "wss://"+address+"/echo")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := echo(c, "over TLS"); err != nil {
			t.Fatal(err)
		}
	})
}

// startWithTLS runs the proxy with TLS, in front of a gateway, and returns its HOST:PORT and what a client
// has to trust.
func (p proxy) startWithTLS(t *testing.T, g *child.Process) (address string, pool *x509.CertPool) {
	t.Helper()
	if p.cert == "" {
		t.Skipf("%s gets its certificate by itself, for a name: nothing to try offline", p.name)
	}
	dir, pool := certificateFiles(t)
	text := shipped(t, p.file)
	if p.plain != "" {
		text = substitute(t, text, p.plain, "# "+p.plain)
	}
	for _, line := range p.secure {
		text = substitute(t, text, "#"+line, line)
	}
	if p.key != "" {
		text = substitute(t, text, p.cert, dir+"/cert", p.key, dir+"/key")
	} else {
		text = substitute(t, text, p.cert, dir+"/both")
	}
	return p.startWith(t, g, text), pool
}

// A file with a server for HTTP sends it on to HTTPS, with the whole URL.
func TestProxyRedirectsToHTTPS(t *testing.T) {
	each(t, func(t *testing.T, p proxy) {
		if !p.redirects {
			t.Skipf("%s has no server for that", p.file)
		}
		_, port, _ := net.SplitHostPort(p.start(t, serve(t), ""))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.2:"+port+"/sse/news?history=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "push.example.com"
		resp, err := client.Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close() // ignored: nothing in it is wanted
		const want = "https://push.example.com/sse/news?history=1"
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusMovedPermanently || got != want {
			t.Errorf("%s to %q, want 301 to %q", resp.Status, got, want)
		}
	})
}

// Many event streams share one connection of a browser's with HTTP/2, and each event arrives at once.
func TestNginxPassesEventsOverHTTP2(t *testing.T) {
	each(t, func(t *testing.T, p proxy) {
		if p.name != "nginx" {
			t.Skipf("%s: HTTP/2 is off in the file, or needs a certificate for a name", p.file)
		}
		g := serve(t)
		address, pool := p.startWithTLS(t, g)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, ResponseHeaderTimeout: patience}
		defer transport.CloseIdleConnections()
		const streams = 10 // more than a browser's six
		var lines [streams]<-chan string
		for i := range lines {
			var protocol string
			lines[i], protocol = eventsOver(t, transport, "https://"+address+"/sse/news")
			if protocol != "HTTP/2.0" {
				t.Fatalf("over %s", protocol)
			}
			wantLine(t, lines[i], "id: ")
		}
		for _, message := range []string{"one", "two"} {
			publish(t, g, "news", message)
			for i := range lines {
				wantLine(t, lines[i], "data: "+message)
			}
		}
	})
}

// The two files of nginx's pass requests on in the same way.
func TestNginxFilesAgree(t *testing.T) {
	t.Parallel()
	directive := regexp.MustCompile(`(?m)^ *(proxy_|ssl_protocols|access_log|error_log|return|listen)(.*;)$`)
	directives := func(file string) (found []string) {
		for _, m := range directive.FindAllStringSubmatch(shipped(t, file), -1) {
			found = append(found, m[1]+m[2])
		}
		return found
	}
	// nginx.conf can have several nodes.
	whole := slices.DeleteFunc(directives("proxy/nginx.conf"), func(line string) bool { return strings.HasPrefix(line, "proxy_next_upstream") })
	site := directives("proxy/nginx-site.conf")
	if diff := cmp.Diff(site, whole); diff != "" || len(site) < 15 {
		t.Errorf("%d lines; nginx-site.conf and nginx.conf differ (-site +whole):\n%s", len(site), diff)
	}
}

// certificateFiles makes a directory with a certificate for 127.0.0.1 in cert, its key
// in key and the two in both, and returns what a client has to trust.
func certificateFiles(t *testing.T) (dir string, pool *x509.CertPool) {
	t.Helper()
	donor := httptest.NewTLSServer(http.NotFoundHandler())
	defer donor.Close()
	certificate := donor.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	dir = t.TempDir()
	for name, data := range map[string][]byte{"cert": certPEM, "key": keyPEM, "both": append(certPEM, keyPEM...)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AddCert(donor.Certificate())
	return dir, pool
}
