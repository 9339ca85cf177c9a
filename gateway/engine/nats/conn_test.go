package nats

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"
	"sluice/gateway/setting"

	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// output is a log that tests read.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) logger() *slog.Logger { return slog.New(slog.NewTextHandler(o, nil)) }

// pretend is a server that says of itself what the test wants, and else answers pings.
func pretend(t *testing.T, info string) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				fmt.Fprintf(c, "INFO {%s}\r\n", info)
				for lines := bufio.NewScanner(c); lines.Scan(); {
					if lines.Text() == "PING" {
						fmt.Fprint(c, "PONG\r\n")
					}
				}
			})
		}
	})
	return "nats://" + l.Addr().String()
}

// dialTest connects as a gateway does, and returns the error as an operator reads it.
func dialTest(t *testing.T, o Servers, maxMessage int, log *slog.Logger) (*link, string) {
	t.Helper()
	l, err := dial(testContext(t), o, nil, maxMessage, linkEvents{}, log)
	if err != nil {
		return nil, setting.Names(func(field string) string { return "{" + field + "}" }).ErrorText(err)
	}
	t.Cleanup(l.close)
	return l, ""
}

func TestServersThatDoNotDo(t *testing.T) {
	t.Parallel()
	const most = `"max_payload":1048576`
	for name, test := range map[string]struct {
		info       string
		maxMessage int
		err        string // part of it; "": none
		warning    string // likewise
	}{
		"the newest":             {info: `"version":"2.15.3",` + most},
		"the oldest":             {info: `"version":"2.9.10",` + most, warning: "upgrade it to 2.12.12 or 2.14.3 or later"},
		"too old":                {info: `"version":"2.9.9",` + most, err: "nats-server 2.9.9 at {NATSURL} is too old: upgrade it to 2.9.10 or later"},
		"far too old":            {info: `"version":"1.4.1",` + most, err: "nats-server 1.4.1 at {NATSURL} is too old"},
		"fixed in its line":      {info: `"version":"2.12.12",` + most},
		"not fixed in its line":  {info: `"version":"2.12.11",` + most, warning: "GHSA-q59r-vq66-pxc2): upgrade it to 2.12.12 or 2.14.3 or later"},
		"2.9 in a cluster":       {info: `"version":"2.9.25","cluster":"c",` + most, warning: "nats-server 2.9.25 can lose acknowledged publications in a cluster when a server stands still for seconds, and has published vulnerabilities ("},
		"2.9 alone":              {info: `"version":"2.9.25",` + most, warning: "nats-server 2.9.25 has published vulnerabilities ("},
		"2.10 in a cluster":      {info: `"version":"2.10.0","cluster":"c",` + most, warning: "nats-server 2.10.0 has published vulnerabilities ("},
		"a line without a fix":   {info: `"version":"2.13.0",` + most, warning: "upgrade it to 2.14.3 or later"},
		"a preview":              {info: `"version":"2.16.0-RC.1",` + most},
		"no version":             {info: `"version":"mine",` + most},
		"messages that just fit": {info: `"version":"2.15.3","max_payload":81920`, maxMessage: 64 << 10},
		"messages do not fit":    {info: `"version":"2.15.3","max_payload":81919`, maxMessage: 64 << 10, err: "{MaxMessage} 64KiB does not fit NATS's max_payload of 81919B: lower it, or set max_payload of the servers to 80KiB or more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log output
			_, err := dialTest(t, Servers{URLs: []string{pretend(t, test.info)}}, test.maxMessage, log.logger())
			if err == "" != (test.err == "") || !strings.Contains(err, test.err) {
				t.Errorf("got %q, want %q", err, test.err)
			}
			warnings := strings.Count(log.String(), "level=WARN")
			if warnings != strings.Count(log.String(), "upgrade") || warnings > 1 || (warnings == 1) != (test.warning != "") || !strings.Contains(log.String(), test.warning) {
				t.Errorf("log %s, want %q", log.String(), test.warning)
			}
		})
	}
}

func TestTheInstalledServerIsOldEnoughForAWarning(t *testing.T) {
	t.Parallel()
	var log output
	l, err := dialTest(t, Servers{URLs: []string{natstest.StartChild(t).URL()}}, 64<<10, log.logger())
	if err != "" {
		t.Fatal(err)
	}
	if v, ok := parseVersion(l.main.ConnectedServerVersion()); !ok || (advice(v, false) != "") != strings.Contains(log.String(), advice(v, false)+`"`) {
		t.Errorf("version %v, log %s", v, log.String())
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		o    Servers
		want string
	}{
		"no credentials":        {Servers{Creds: "/none"}, "{NATSCreds} /none: no such file"},
		"credentials of none":   {Servers{Creds: empty}, "{NATSCreds} " + empty + ": "},
		"no nkey":               {Servers{Nkey: "/none"}, "{NATSNkey} /none: no such file"},
		"an nkey of none":       {Servers{Nkey: empty}, "{NATSNkey} " + empty + ": "},
		"no authorities":        {Servers{CA: "/none"}, "{NATSTLSCA} /none: no such file"},
		"authorities of none":   {Servers{CA: empty}, "{NATSTLSCA} " + empty + ": "},
		"no certificate":        {Servers{Cert: "/none"}, "{NATSTLSCert} /none: no such file"},
		"a certificate of none": {Servers{Cert: empty, Key: empty}, "{NATSTLSCert} " + empty + ": "},
		"an address of none":    {Servers{URLs: []string{"nats://a b"}}, "connect to NATS ({NATSURL}): "},
	} {
		if test.o.URLs == nil {
			test.o.URLs = []string{"nats://127.0.0.1:1"} // nobody asks there
		}
		if _, err := dialTest(t, test.o, 0, testLog); !strings.HasPrefix(err, test.want) {
			t.Errorf("%s: got %q, want %q", name, err, test.want)
		}
	}
}

// What nobody has to wait for is an error at once.
func TestServersThatRefuse(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey() // ignored, as the next one: it was just made
	seed, _ := user.Seed()
	nkey := filepath.Join(t.TempDir(), "nkey")
	if err := os.WriteFile(nkey, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	other, _ := nkeys.CreateUser() // ignored, as the next one: as above
	seed, _ = other.Seed()
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	withNkey := natstest.Start(t, natstest.Options{Tune: func(o *natsserver.Options) { o.Nkeys = []*natsserver.NkeyUser{{Nkey: public}} }})
	withUser := natstest.Start(t, natstest.Options{Tune: func(o *natsserver.Options) { o.Username, o.Password = "me", "secret" }})
	at := func(s *natstest.Server, who string) []string {
		return []string{strings.Replace(s.URL(), "nats://", "nats://"+who, 1)}
	}
	for name, test := range map[string]struct {
		o    Servers
		want string
	}{
		"the right nkey":     {Servers{URLs: at(withNkey, ""), Nkey: nkey}, ""},
		"a wrong nkey":       {Servers{URLs: at(withNkey, ""), Nkey: wrong}, "connect to NATS ({NATSURL}): Authorization Violation; check {NATSCreds} or {NATSNkey}, or the user in {NATSURL}"},
		"no nkey":            {Servers{URLs: at(withNkey, "")}, "connect to NATS ({NATSURL}): "},
		"the right password": {Servers{URLs: at(withUser, "me:secret@")}, ""},
		"a wrong password":   {Servers{URLs: at(withUser, "me:wrong@")}, "connect to NATS ({NATSURL}): Authorization Violation; check {NATSCreds} or {NATSNkey}, or the user in {NATSURL}"},
		"no TLS":             {Servers{URLs: []string{strings.Replace(withUser.URL(), "nats://", "tls://", 1)}}, "connect to NATS ({NATSURL}): secure connection not available; the server has no TLS: use nats://"},
		"one of two refuses": {Servers{URLs: append(at(withUser, "me:wrong@"), at(natstest.Start(t, natstest.Options{}), "")...)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log output
			_, err := dialTest(t, test.o, 0, log.logger())
			if err == "" != (test.want == "") || !strings.HasPrefix(err, test.want) {
				t.Errorf("got %q, want %q", err, test.want)
			}
			if text := err + log.String(); strings.Contains(text, "secret") || strings.Contains(text, "wrong@") {
				t.Errorf("a password is shown: %s", text)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	certificate := func(name string, c *x509.Certificate, key *ecdsa.PrivateKey) (certFile, keyFile string) {
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
		for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: secret}} {
			if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return certFile, keyFile
	}
	caFile, _ := certificate("ca", ca, caKey)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var s *natstest.Server
	var certFile, keyFile string
	pool := x509.NewCertPool()
	text, err := os.ReadFile(caFile)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	s = natstest.Start(t, natstest.Options{Tune: func(o *natsserver.Options) {
		certFile, keyFile = certificate("both", &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(o.Host)}}, key)
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		o.TLS, o.TLSVerify, o.TLSTimeout = true, true, 30
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	}})
	urls := []string{s.URL()}
	if _, err := dialTest(t, Servers{URLs: urls, CA: caFile, Cert: certFile, Key: keyFile}, 0, testLog); err != "" {
		t.Errorf("got %q", err)
	}
	if _, err := dialTest(t, Servers{URLs: urls, Cert: certFile, Key: keyFile}, 0, testLog); !strings.Contains(err, "{NATSURL}") || !strings.Contains(err, "certificate") {
		t.Errorf("an unknown authority: got %q", err)
	}
}

// A server that is not there yet is waited for, and an end of waiting ends it.
func TestDialWaitsForServers(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Options{})
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := dial(ctx, Servers{URLs: []string{s.URL()}}, nil, 0, linkEvents{}, testLog); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	var log output
	dialed := make(chan error, 1)
	go func() {
		l, err := dial(testContext(t), Servers{URLs: []string{s.URL()}}, nil, 0, linkEvents{}, log.logger())
		if err == nil {
			l.close()
		}
		dialed <- err
	}()
	clienttest.WaitFor(t, "the log says that it waits", func() bool { return strings.Contains(log.String(), "waiting for NATS") })
	s.Restart()
	if err := clienttest.Receive(t, "the connection", dialed); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"connection refused", "connected to NATS"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}

func TestEventsOfTheConnection(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Options{JetStream: true})
	events := make(chan string, 100)
	slow := make(chan *natsgo.Subscription, 1)
	var log output
	l, err := dial(testContext(t), Servers{}, s.InProcess(), 0, linkEvents{
		down:   func() { events <- "down" },
		up:     func() { events <- "up" },
		slow:   func(s *natsgo.Subscription) { slow <- s },
		closed: func(error) { events <- "closed" },
	}, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	full := make(chan *natsgo.Msg, 1)
	sub, err := l.main.ChanSubscribe("x", full)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := l.main.Publish("x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := clienttest.Receive(t, "the slow subscription", slow); got != sub {
		t.Errorf("got %v", got.Subject)
	}
	s.Server().DisconnectClientByID(clientID(t, l.main))
	for _, want := range []string{"down", "up"} {
		if got := clienttest.Receive(t, want, events); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if err := l.main.Publish("x", nil); err != nil {
		t.Errorf("publish after it came back: %v", err)
	}
	l.close()
	select {
	case got := <-events:
		t.Errorf("closing is no event, got %s", got)
	default:
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log %s", log.String())
	}
}

func clientID(t *testing.T, nc *natsgo.Conn) uint64 {
	id, err := nc.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// What is published while the connection is down fails at once, and nothing of it comes later.
func TestNothingIsBufferedWhileTheConnectionIsDown(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Options{})
	down := make(chan struct{}, 10)
	l, err := dial(testContext(t), Servers{URLs: []string{s.URL()}}, nil, 0, linkEvents{down: func() { down <- struct{}{} }, up: func() {}}, testLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	s.Stop()
	clienttest.Receive(t, "that the connection is down", down)
	if err := l.main.Publish("x", []byte("late")); err == nil {
		t.Error("publishing does not fail")
	}
}

// A gateway that may not do what it has to ends with an error that says so, in place of channels that are silent.
func TestDeniedSubjects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		deny *natsserver.Permissions
		want string
	}{
		{&natsserver.Permissions{Subscribe: &natsserver.SubjectPermission{Deny: []string{"*.ch.>"}}}, "deny subscription to "},
		{&natsserver.Permissions{Publish: &natsserver.SubjectPermission{Deny: []string{"*.ch.>"}}}, "deny publish to "},
		{&natsserver.Permissions{Publish: &natsserver.SubjectPermission{Deny: []string{"*.beat"}}}, "deny publish to "},
		{&natsserver.Permissions{Publish: &natsserver.SubjectPermission{Deny: []string{"$JS.API.STREAM.CREATE.>"}}}, "deny publish to "},
	} {
		t.Run(tt.want, func(t *testing.T) {
			t.Parallel()
			srv := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(o *natsserver.Options) {
				o.Users = []*natsserver.User{{Username: "u", Password: "p", Permissions: tt.deny}}
			}})
			n := newNode(t, func(c *Config) {
				c.NodeID, c.Servers = 1, Servers{URLs: []string{strings.Replace(srv.URL(), "nats://", "nats://u:p@", 1)}}
			})
			err := clienttest.Receive(t, "the error", n.Engine.(*Engine).Failed())
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "sluice.>") {
				t.Errorf("got %q, want something with %q", err, tt.want)
			}
		})
	}
}

// Where the server has no room for a channel's subscription, the channel fails, and is not silent.
func TestFullOfSubscriptions(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(o *natsserver.Options) { o.MaxSubs = 16 }})
	n := startCluster(t, 1, srv.URL()).nodes[0]
	refused := 0
	for i := range 20 {
		for _, name := range []string{fmt.Sprint("none", i), fmt.Sprint("x", i)} {
			w := &watcher{t: t, n: n, prepared: make(chan error, 1), notified: make(chan struct{}, 1)}
			ask := channel.Ask{Kind: channel.AskNow}
			ready, err := n.Space.Prepare(name, &ask, w)
			if err == nil && !ready {
				err = clienttest.Receive(t, "the channel", w.prepared)
			}
			if err != nil {
				if refused++; !errors.Is(err, engine.ErrUnavailable) {
					t.Error(err)
				}
				continue
			}
			if err := n.Space.Join(name, lines{}, w, &w.Reader); err != nil {
				t.Fatal(err)
			}
			n.Space.Release(name, w)
			defer w.leave()
			newSender(t, n).publishes(name, "a")
			w.wants(name, "a")
		}
	}
	if refused == 0 || refused == 40 {
		t.Errorf("%d of 40 channels were refused", refused)
	}
}
