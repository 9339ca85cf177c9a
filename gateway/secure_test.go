package gateway

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// testCertificate is what the servers of these tests show.
var testCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// testTLS is the configuration of these servers.
func testTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCertificate()}}
}

// startTLS is start with a listener that speaks TLS.
func startTLS(t testing.TB, cfg Config) *server {
	t.Helper()
	before := *overTLS
	*overTLS = true
	defer func() { *overTLS = before }()
	return start(t, cfg)
}

// dialTLS is dial with a TLS configuration.
func dialTLS(t testing.TB, s *server, target string, cfg *tls.Config) (*client, *tls.Conn) {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	l := secureLink(nc.(*net.TCPConn), cfg)
	c := &client{t: t, conn: l, in: bufio.NewReader(l)}
	c.upgrade(target)
	return c, l.Conn
}

func TestTLSRecordsAndMessagesAreIndependent(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := startTLS(t, Config{PingInterval: -1})
			c, _ := dialTLS(t, s, "/ws/x", &tls.Config{MaxVersion: version})
			other, _ := dialTLS(t, s, "/ws/x", nil)
			c.send(text("from TLS"))
			c.wantText("own", "from TLS")
			other.wantText("of the other", "from TLS")
			// Larger than a record, and more than the socket takes at once.
			big := strings.Repeat("0123456789abcdef", 4000)
			for range 20 {
				other.send(text(big))
			}
			for range 20 {
				c.wantText("several records", big)
				other.wantText("several records", big)
			}
			for range 20 {
				c.send(text(big))
			}
			for range 20 {
				c.wantText("several records", big)
				other.wantText("several records", big)
			}
			c.send(closing(1000, ""))
			c.wantClose("answer to a Close", 1000)
		})
	}
}

func TestTLSListenerServesHTTPAndStreams(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1})
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	hc := &http.Client{Transport: tr}
	for range 3 {
		resp, err := hc.Get("https://" + s.addr + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body) // a short body is seen below
		resp.Body.Close()
		if string(body) != "ok\n" || resp.StatusCode != 200 {
			t.Fatalf("%d %q", resp.StatusCode, body)
		}
	}
	resp, err := hc.Get("https://" + s.addr + "/sse/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	waitFor(t, "the stream to be in", func() bool { ch := s.space.Find("x"); return ch != nil && ch.Subscribers() == 1 })
	s.publish("x", "hello")
	in := bufio.NewReader(resp.Body)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "data: hello\n" {
			return
		}
	}
}

func TestPlainRequestOnATLSPortIsToldSo(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1})
	resp, err := http.Get("http://" + s.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // a short body is seen below
	if resp.StatusCode != 400 || !bytes.Contains(body, []byte("https://")) {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	waitFor(t, "the handshake to be counted", func() bool { return s.counted("tls_failed") == 1 })
}

func TestTLSSessionsAreResumed(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1})
	cfg := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(4), ServerName: "localhost"}
	for i := range 3 {
		c, secured := dialTLS(t, s, "/echo", cfg)
		c.send(text("x"))
		c.wantText("echo", "x")
		if got := secured.ConnectionState().DidResume; got != (i > 0) {
			t.Errorf("connection %d is resumed: %v", i+1, got)
		}
	}
	if got := s.stats.handshakes[1].Load(); got != 2 {
		t.Errorf("%d resumed handshakes are counted, want 2", got)
	}
}

// Records that are in the process already are not told by the descriptor any more.
func TestRecordsBehindAPausedOneAreRead(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1, WriteTimeout: -1})
	c, _ := dialTLS(t, s, "/echo", nil)
	const messages, size = 200, 8000
	long := numbered(1, size)[0]
	// Nothing is read meanwhile: replies fill the sockets, reading pauses, with
	// records left over.
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range messages {
			c.send(text(long))
		}
	}()
	waitFor(t, "a socket to be full", func() bool { return s.blocked() > 0 })
	for range messages {
		c.wantText("echo", long)
	}
	receive(t, "everything to be sent", sent)
}

func TestGarbageBehindATLSHandshakeEndsTheConnection(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1})
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	secured := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	if _, err := io.WriteString(secured, upgradeTo("/ws/x")); err != nil {
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
	s.wantClosed(reasonTLS, 1)
}
