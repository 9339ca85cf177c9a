package nats

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

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
			var log logLines
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
