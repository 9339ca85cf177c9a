package bench

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"

	"sluice/bench/clienttls"
)

// A burst is many records in one read, and torn writes are records in many.
func TestRecordsOfTLSAreReadHoweverTheyCome(t *testing.T) {
	s := startFaultyServer(t, true, nil)
	o := fanoutOptions(s)
	o.Burst, o.Size, o.Subscribers, o.Publishers = 2000, 700, 5, 2
	r, err := Fanout(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"published": 2000, "delivered": 10_000, "lost": 0, "cut": 0, "foreign": 0, "reordered": 0, "tls_handshakes": 7, "tls_resumed": 0}
	if diff := cmp.Diff(want, figures(r, "published", "delivered", "lost", "cut", "foreign", "reordered", "tls_handshakes", "tls_resumed")); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// corked keeps writes back until it is flushed.
type corked struct {
	net.Conn
	kept  []byte
	keeps bool
}

func (c *corked) Write(p []byte) (int, error) {
	if !c.keeps {
		return c.Conn.Write(p)
	}
	c.kept = append(c.kept, p...)
	return len(p), nil
}

// No event tells of a record that was read together with the answer to the upgrade.
func TestRecordBehindTheUpgradeIsRead(t *testing.T) {
	certified := startFaultyServer(t, true, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first := make(chan ws.OpCode, 1)
	go func() {
		defer close(first)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		cork := &corked{Conn: c}
		secure := tls.Server(cork, certified.TLS)
		if secure.Handshake() != nil {
			return
		}
		cork.keeps = true
		if _, err := ws.Upgrade(secure); err != nil {
			return
		}
		ws.WriteFrame(secure, ws.NewPingFrame(nil)) // ignored: what comes next is looked at
		c.Write(cork.kept)                          // ignored: the same
		cork.keeps = false
		if h, err := ws.ReadHeader(secure); err == nil {
			first <- h.OpCode
		}
	}()
	o := StormOptions{Options: Options{URL: "wss://" + l.Addr().String(), TLS: clienttls.Flags{CACert: certified.cacert}}, Connections: 1}
	if _, err := Storm(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := <-first; got != ws.OpPong {
		t.Errorf("the client's first frame has the opcode %#x, want a pong", got)
	}
}

func TestEveryProtocolIsCheckedOverTLS(t *testing.T) {
	t.Parallel()
	for _, protocol := range []Protocol{JSON, SSE} {
		s := startChannelServer(t, true, func(offset int, record string) []string {
			if offset == 4 {
				return nil
			}
			return []string{record}
		})
		o := FanoutOptions{
			Options:     Options{URL: s.url(), TLS: clienttls.Flags{CACert: s.cacert}, Path: "/ws/news", Protocol: protocol},
			Subscribers: 3, Burst: 10, Warmup: -1, CatchUp: catchUpOfLoss, PublishURLs: []string{s.URL + "/publish/news"},
		}
		r, err := Fanout(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]float64{"delivered": 27, "lost": 3, "holes": 3, "cut": 0}
		if protocol == SSE {
			want["holes"] = 0 // an event does not name the one before it
		}
		if diff := cmp.Diff(want, figures(r, "delivered", "lost", "holes", "cut")); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", protocol, diff)
		}
		ro := recoverOptions(startChannelServer(t, true, nil))
		ro.Protocol = protocol
		if r, err = Recover(t.Context(), ro); err != nil {
			t.Fatal(err)
		}
		want = map[string]float64{"joins": 60, "failed": 0, "lost": 0, "holes": 0, "wrong": 0, "tls_handshakes": 62}
		if diff := cmp.Diff(want, figures(r, "joins", "failed", "lost", "holes", "wrong", "tls_handshakes")); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", protocol, diff)
		}
	}
}

func TestSessionsAreResumedWhenAsked(t *testing.T) {
	s := startFaultyServer(t, true, nil)
	for _, resume := range []bool{false, true} {
		o := StormOptions{Options: Options{URL: s.url(), TLS: clienttls.Flags{CACert: s.cacert}, Resume: resume}, Connections: 20, Outstanding: 1}
		r, err := Storm(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]float64{"upgraded": 20, "tls_handshakes": 20, "tls_resumed": 0}
		if resume {
			want["tls_resumed"] = 19
		}
		if diff := cmp.Diff(want, figures(r, "upgraded", "tls_handshakes", "tls_resumed")); diff != "" {
			t.Errorf("resume %v: want -, got +:\n%s", resume, diff)
		}
	}
}

func TestFaultsOfTLSAreToldWithAWayOn(t *testing.T) {
	plain, secure, strict := newFaultyServer(t, nil), startFaultyServer(t, true, nil), startFaultyServer(t, true, nil)
	strict.TLS.ClientAuth = tls.RequireAnyClientCert
	pair := secure.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := writePEM(t, "PRIVATE KEY", key)
	overTLS := strings.Replace(plain.url(), "ws:", "wss:", 1)
	for _, tc := range []struct {
		name string
		o    Options
		why  string // none: it works
	}{
		{"unknown signer", Options{URL: secure.url()}, "specify the CA certificate with --cacert"},
		{"any signer", Options{URL: secure.url(), TLS: clienttls.Flags{Insecure: true}}, ""},
		{"another name", Options{URL: strings.Replace(secure.url(), "127.0.0.1", "localhost", 1), TLS: clienttls.Flags{CACert: secure.cacert}}, "use that name in --url"},
		{"no TLS there", Options{URL: overTLS}, "does not speak TLS"},
		{"TLS there", Options{URL: strings.Replace(secure.url(), "wss:", "ws:", 1)}, "use a wss:// URL"},
		{"no certificate", Options{URL: strict.url(), TLS: clienttls.Flags{CACert: strict.cacert}}, "certificate required"},
		{"a certificate", Options{URL: strict.url(), TLS: clienttls.Flags{CACert: strict.cacert, Cert: secure.cacert, Key: keyFile}}, ""},
		{"no file", Options{URL: secure.url(), TLS: clienttls.Flags{CACert: "/nonexistent.pem"}}, "use a file with PEM certificates"},
		{"nothing in the file", Options{URL: secure.url(), TLS: clienttls.Flags{CACert: keyFile}}, "contains no certificate"},
		{"a key alone", Options{URL: secure.url(), TLS: clienttls.Flags{Key: keyFile}}, "needs --cert"},
	} {
		tc.o.Timeout = 5 * time.Second
		_, err := Storm(t.Context(), StormOptions{Options: tc.o, Connections: 1})
		if (err != nil) != (tc.why != "") || err != nil && !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.why)
		}
	}
}
