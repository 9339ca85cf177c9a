package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority of a test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	var der []byte
	der, a.pem, a.key = a.issue(template, template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) issue(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (der, text []byte, key *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer); err != nil {
		a.t.Fatal(err)
	}
	return der, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// leaf gives a certificate for example.test, servers and clients, that ends after ttl.
func (a *authority) leaf(serial int64, ttl time.Duration) (cert, key []byte) {
	a.t.Helper()
	_, cert, private := a.issue(&x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"example.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(ttl),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (a *authority) pair(serial int64) tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.leaf(serial, month))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// client gives the configuration of a client that trusts the authority.
func (a *authority) client() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{RootCAs: roots, ServerName: "example.test"}
}

const month = 30 * 24 * time.Hour

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// place writes a new pair and gives its paths.
func (a *authority) place(t *testing.T, ttl time.Duration) Files {
	t.Helper()
	dir := t.TempDir()
	cert, key := a.leaf(1, ttl)
	f := Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	write(t, f.Cert, cert)
	write(t, f.Key, key)
	return f
}

func load(t *testing.T, f Files) *Store {
	t.Helper()
	s, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reload(t *testing.T, s *Store, want bool) {
	t.Helper()
	if changed, err := s.Reload(); err != nil || changed != want {
		t.Fatalf("Reload: changed %v, %v; want %v", changed, err, want)
	}
}

// echo serves what it is sent, with a clone of the configuration as the gateway does.
func echo(t *testing.T, config *tls.Config) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config = config.Clone()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				s := tls.Server(c, config)
				_, _ = io.Copy(s, s) // the client sees what is wrong
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// dial connects and has one byte come back, by when a ticket has come too.
func dial(t *testing.T, address string, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	c, err := tls.Dial("tcp", address, config)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return c, ping(c)
}

func ping(c net.Conn) error {
	if _, err := c.Write([]byte{'x'}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func mustDial(t *testing.T, address string, config *tls.Config) *tls.Conn {
	t.Helper()
	c, err := dial(t, address, config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serial(c *tls.Conn) int64 { return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64() }

func TestReloadChangesNewHandshakesAndKeepsOldConnections(t *testing.T) {
	a := newAuthority(t)
	f := a.place(t, month)
	s := load(t, f)
	address := echo(t, s.Config())
	old := mustDial(t, address, a.client())

	// Handshakes all the time; each gets a whole certificate, whichever.
	stop := make(chan struct{})
	var dialling sync.WaitGroup
	for range 4 {
		dialling.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := tls.Dial("tcp", address, a.client())
				if err != nil {
					t.Errorf("handshake during a reload: %v", err)
					return
				}
				c.Close()
			}
		})
	}
	for n := int64(2); n < 20; n++ {
		cert, key := a.leaf(n, month)
		write(t, f.Cert, cert)
		if changed, err := s.Reload(); changed || err == nil {
			t.Errorf("new certificate, old key: changed %v, %v", changed, err)
		}
		write(t, f.Key, key)
		reload(t, s, true)
		reload(t, s, false)
		if got := serial(mustDial(t, address, a.client())); got != n {
			t.Errorf("certificate %d after reload %d", got, n)
		}
	}
	close(stop)
	dialling.Wait()
	if err := ping(old); err != nil {
		t.Errorf("a connection of before: %v", err)
	}
}

func TestTicketsHoldOverAReload(t *testing.T) {
	a := newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca")
	write(t, ca, a.pem)
	for _, clientCA := range []string{"", ca} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			f := a.place(t, month)
			f.ClientCA = clientCA
			s := load(t, f)
			address := echo(t, s.Config())
			client := a.client()
			client.ClientSessionCache = tls.NewLRUClientSessionCache(0)
			client.MaxVersion = version
			client.Certificates = []tls.Certificate{a.pair(9)}
			if mustDial(t, address, client).ConnectionState().DidResume {
				t.Fatal("resumed what?")
			}
			cert, key := a.leaf(2, month)
			write(t, f.Cert, cert)
			write(t, f.Key, key)
			reload(t, s, true)
			if !mustDial(t, address, client).ConnectionState().DidResume {
				t.Errorf("%s, client CA %q: not resumed after a reload", tls.VersionName(version), clientCA)
			}
		}
	}
}

func TestClientsNeedACertificateOfTheNewestCA(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	f := a.place(t, month)
	f.ClientCA = filepath.Join(t.TempDir(), "ca")
	write(t, f.ClientCA, a.pem)
	s := load(t, f)
	address := echo(t, s.Config())
	with := func(pairs ...tls.Certificate) *tls.Config {
		c := a.client()
		c.Certificates = pairs
		c.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		return c
	}
	ofA, ofB := with(a.pair(2)), with(b.pair(3))
	want := func(who string, c *tls.Config, in bool) {
		t.Helper()
		if _, err := dial(t, address, c); (err == nil) != in {
			t.Errorf("%s: %v, want in: %v", who, err, in)
		}
	}
	want("no certificate", with(), false)
	want("of A", ofA, true)
	want("of B", ofB, false)

	write(t, f.ClientCA, b.pem)
	reload(t, s, true)
	want("of A, with a ticket of before", ofA, false)
	want("of B", ofB, true)

	write(t, f.ClientCA, []byte("nothing"))
	if changed, err := s.Reload(); changed || err == nil {
		t.Errorf("no CA: changed %v, %v", changed, err)
	}
	want("of B, after a bad file", ofB, true)
	want("no certificate, after a bad file", with(), false)
}

func TestFaultsAreToldAllAtOnce(t *testing.T) {
	a := newAuthority(t)
	_, otherKey := a.leaf(2, month)
	good := a.place(t, month)
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	file := func(data []byte) string {
		path := filepath.Join(t.TempDir(), "file")
		write(t, path, data)
		return path
	}
	empty, dir := file(nil), t.TempDir()
	other, locked, junk := file(otherKey), file(encrypted), file(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	for _, tt := range []struct {
		files Files
		want  []string
	}{
		{Files{Cert: "/no/cert", Key: "/no/key", ClientCA: "/no/ca"}, []string{
			"Cert /no/cert: no such file or directory; use a PEM file with the certificate and its chain",
			"Key /no/key: no such file or directory; use a PEM file with the certificate's private key",
			"ClientCA /no/ca: no such file or directory; use a PEM file with the CA certificates that sign client certificates"}},
		{Files{Cert: empty, Key: good.Cert, ClientCA: empty}, []string{
			"Cert " + empty + ": it contains no certificate; use a PEM file with the certificate and its chain",
			"Key " + good.Cert + ": it contains no private key; use a PEM file with the certificate's private key",
			"ClientCA " + empty + ": it contains no certificate; use a PEM file with the CA certificates that sign client certificates"}},
		{Files{Cert: dir, Key: good.Key}, []string{"Cert " + dir + ": is a directory; use a PEM file with the certificate and its chain"}},
		{Files{Cert: good.Cert, Key: other}, []string{"Key " + other + ": private key does not match public key; use the key of the certificate in " + good.Cert}},
		{Files{Cert: good.Cert, Key: locked}, []string{"Key " + locked + ": the key is encrypted, and sluice cannot ask for the password; decrypt it with 'openssl pkey'"}},
		{Files{Cert: junk, Key: good.Key}, []string{"Cert " + junk + ": x509: malformed certificate; use a PEM file with the certificate and its chain"}},
	} {
		_, err := Load(tt.files)
		if err == nil {
			err = errors.New("no error")
		}
		if diff := cmp.Diff(tt.want, strings.Split(err.Error(), "\n")); diff != "" {
			t.Error(diff)
		}
	}
}

func TestWarningsAreNoErrors(t *testing.T) {
	a := newAuthority(t)
	f := a.place(t, month)
	s := load(t, f)
	end := s.Expiry()
	for _, tt := range []struct {
		at   time.Time
		want string
	}{
		{time.Now(), ""},
		{end.Add(-soon), ""},
		{end.Add(1 - soon), "Cert " + f.Cert + ": expires at " + end.UTC().Format(time.RFC3339) + ", and clients will reject it then; renew it"},
		{end.Add(1), "Cert " + f.Cert + ": expired at " + end.UTC().Format(time.RFC3339) + ", so clients reject it; renew it"},
	} {
		if diff := cmp.Diff(tt.want, strings.Join(s.Warnings(tt.at), "\n")); diff != "" {
			t.Error(diff)
		}
	}
	if err := os.Chmod(f.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	early := s.Warnings(end.AddDate(-1, 0, 0))
	if len(early) != 2 || !strings.Contains(early[0], ": not valid before ") || !strings.HasPrefix(early[1], "Key "+f.Key+": every user of this machine can read it, and ") {
		t.Errorf("too early and a key for all: %q", early)
	}
	if diff := cmp.Diff([]string{"example.test"}, s.Names()); diff != "" {
		t.Error(diff)
	}
}

func TestSelfSignedIsForThisMachine(t *testing.T) {
	now := time.Now()
	pair, err := SelfSigned(now)
	if err != nil {
		t.Fatal(err)
	}
	address := echo(t, &tls.Config{Certificates: []tls.Certificate{pair}})
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		mustDial(t, address, &tls.Config{RootCAs: roots, ServerName: name})
	}
	if _, err := dial(t, address, &tls.Config{RootCAs: roots, ServerName: "example.test"}); err == nil {
		t.Error("it is good for another name")
	}
	if left := pair.Leaf.NotAfter.Sub(now); left < 29*24*time.Hour || left > 31*24*time.Hour {
		t.Errorf("it is good for %v", left)
	}
}
