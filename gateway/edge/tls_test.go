package edge

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"sluice/gateway/clienttest"
)

func TestTLSListenerServesHTTPAndStreams(t *testing.T) {
	s := startTLS(t, settings{})
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
	clienttest.WaitFor(t, "the stream to be in", func() bool { ch := s.space.Find("x"); return ch != nil && ch.Subscribers() == 1 })
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
	s := startTLS(t, settings{})
	resp, err := http.Get("http://" + s.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // a short body is seen below
	if resp.StatusCode != 400 || !bytes.Contains(body, []byte("https://")) {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	clienttest.WaitFor(t, "the handshake to be counted", func() bool { return s.counted("tls_failed") == 1 })
}

func TestTLSSessionsAreResumed(t *testing.T) {
	s := startTLS(t, settings{})
	cfg := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(4), ServerName: "localhost"}
	for i := range 3 {
		c, secured := clienttest.DialTLS(t, s, "/echo", cfg)
		c.Send(clienttest.Text("x"))
		c.WantText("echo", "x")
		if got := secured.ConnectionState().DidResume; got != (i > 0) {
			t.Errorf("connection %d is resumed: %v", i+1, got)
		}
	}
	if got := s.edge.stats.handshakes[1].Load(); got != 2 {
		t.Errorf("%d resumed handshakes are counted, want 2", got)
	}
}
