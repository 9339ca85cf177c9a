// Package certificate loads a TLS listener's certificate, and the CA of its clients'
// certificates, and reloads them when their files change. Certificates are renewed every few
// weeks, and that must not require a restart, which would drop every connection.
//
// A [Store] reads the files; its Config serves the last good ones. [Store.Reload] checks the
// files at once, [Store.Watch] every few seconds. Files that cannot be used, such as a
// certificate whose key has not been written yet, change nothing.
//
// It knows neither listeners nor the gateway, and is a package of its own because package
// gateway takes a *tls.Config from any source.
package certificate

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/setting"
)

// Files are the paths of PEM files.
type Files struct {
	// Cert is the certificate, then its chain up to one that clients trust.
	Cert string `name:"tls-cert" group:"TLS" meta:"FILE" reload:"on change, or SIGHUP" help:"certificate and its chain, in PEM. All TLS files are reloaded when they change and on SIGHUP"`
	// Key is its private key.
	Key string `name:"tls-key" group:"TLS" meta:"FILE" reload:"on change, or SIGHUP" help:"private key of {Cert}, in PEM"`
	// ClientCA is the CA of clients' certificates; empty: clients need none.
	ClientCA string `name:"tls-client-ca" group:"TLS" meta:"FILE" reload:"on change, or SIGHUP" help:"CA certificates, in PEM: TLS clients must present a certificate signed by one of them"`

	FieldName setting.Names // what faults and warnings call the fields above
}

// Store holds the newest good certificates of some files. Its methods are safe for concurrent
// use.
type Store struct {
	files Files
	mu    sync.Mutex // one reload at a time, or an older one could win
	live  atomic.Pointer[material]
}

// material is what the files held at one time. It does not change.
type material struct {
	sum    [sha256.Size]byte // of the files' bytes
	leaf   *x509.Certificate
	config *tls.Config
}

// Load reads the files and returns a Store, or all errors at once as [setting.Faults].
func Load(files Files) (*Store, error) {
	s := &Store{files: files}
	m, faults := files.read()
	s.live.Store(m)
	if faults != nil {
		return nil, faults
	}
	return s, nil
}

// Config returns the configuration of a listener. It never goes out of date: each handshake
// uses the newest certificates. Session tickets stay valid across a reload, since their keys
// belong to the configuration that a listener was given, or to its clone.
func (s *Store) Config() *tls.Config {
	c := base()
	if s.files.ClientCA == "" {
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &s.live.Load().config.Certificates[0], nil
		}
		return c
	}
	// Only a whole configuration can bring new ClientCAs; against those crypto/tls
	// checks resumed clients too, so a signer that was taken out is out.
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return s.live.Load().config, nil
	}
	return c
}

// base is what all configurations have. The server that is given one sets the same,
// but not in what GetConfigForClient returns.
func base() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, DynamicRecordSizingDisabled: true}
}

// Reload reads the files again and reports whether they have changed. On an error, the last
// good certificates stay in use. Its text is for the log.
func (s *Store) Reload() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, faults := s.files.read()
	if faults != nil {
		return false, errors.New(faults.Text(s.files.FieldName))
	}
	if m.sum == s.live.Load().sum {
		return false, nil
	}
	s.live.Store(m)
	return true, nil
}

// Expiry returns when the certificate expires.
func (s *Store) Expiry() time.Time { return s.live.Load().leaf.NotAfter }

// Names returns the DNS names and IP addresses that the certificate is for.
func (s *Store) Names() []string {
	leaf := s.live.Load().leaf
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = append(names, leaf.Subject.String()) // clients will not take it, but this tells which it is
	}
	return names
}

// LogValue returns names and expiry for a log record.
func (s *Store) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("names", s.Names()), slog.Time("expires", s.Expiry().UTC()))
}

// soon is how long before its end a certificate should have been renewed.
const soon = 14 * 24 * time.Hour

// Warnings returns things that work but need attention, each saying what is wrong, why, and how to fix it.
func (s *Store) Warnings(now time.Time) (warnings []string) {
	leaf := s.live.Load().leaf
	warn := func(field, path, format string, args ...any) {
		warnings = append(warnings, fmt.Sprintf("%s %s: ", s.files.FieldName.Of(field), path)+fmt.Sprintf(format, args...))
	}
	day := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch left := leaf.NotAfter.Sub(now); {
	case left < 0:
		warn("Cert", s.files.Cert, "expired at %s, so clients reject it; renew it", day(leaf.NotAfter))
	case left < soon:
		warn("Cert", s.files.Cert, "expires at %s, and clients will reject it then; renew it", day(leaf.NotAfter))
	}
	if leaf.NotBefore.After(now) {
		warn("Cert", s.files.Cert, "not valid before %s, so clients reject it until then; check the clock", day(leaf.NotBefore))
	}
	if info, err := os.Stat(s.files.Key); err == nil && info.Mode().Perm()&0o004 != 0 {
		warn("Key", s.files.Key, "every user of this machine can read it, and anyone with the key can impersonate this gateway; run 'chmod o= %s'", s.files.Key)
	}
	return warnings
}

// read reads and checks the files.
func (f Files) read() (m *material, faults setting.Faults) {
	fault := func(field, path, format string, args ...any) {
		faults = append(faults, setting.Fault{Field: field, Value: path, Why: ": " + setting.Literal(fmt.Sprintf(format, args...))})
	}
	h := sha256.New()
	file := func(field, path, want string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			if p := (*fs.PathError)(nil); errors.As(err, &p) {
				err = p.Err // the path is in the text already
			}
			fault(field, path, "%v; %s", err, want)
			return nil
		}
		fmt.Fprintf(h, "%d:", len(data)) // a hash does not fail
		h.Write(data)
		return data
	}
	const wantCert, wantKey, wantCA = "use a PEM file with the certificate and its chain", "use a PEM file with the certificate's private key", "use a PEM file with the CA certificates that sign client certificates"
	cert, key := file("Cert", f.Cert, wantCert), file("Key", f.Key, wantKey)

	m = &material{config: base()}
	if cert != nil {
		if block := find(cert, "CERTIFICATE"); block == nil {
			fault("Cert", f.Cert, "it contains no certificate; %s", wantCert)
		} else if leaf, err := x509.ParseCertificate(block.Bytes); err != nil {
			fault("Cert", f.Cert, "%v; %s", err, wantCert)
		} else {
			m.leaf = leaf
		}
	}
	if key != nil {
		if block := find(key, "PRIVATE KEY"); block == nil {
			fault("Key", f.Key, "it contains no private key; %s", wantKey)
		} else if strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			fault("Key", f.Key, "the key is encrypted, and sluice cannot ask for the password; decrypt it with 'openssl pkey'")
		} else if m.leaf != nil {
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				fault("Key", f.Key, "%s; use the key of the certificate in %s", strings.TrimPrefix(err.Error(), "tls: "), f.Cert)
			}
			m.config.Certificates = []tls.Certificate{pair}
		}
	}
	if f.ClientCA != "" {
		m.config.ClientAuth, m.config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if ca := file("ClientCA", f.ClientCA, wantCA); ca != nil && !m.config.ClientCAs.AppendCertsFromPEM(ca) {
			fault("ClientCA", f.ClientCA, "it contains no certificate; %s", wantCA)
		}
	}
	h.Sum(m.sum[:0])
	return m, faults
}

// find returns the first PEM block whose type ends so.
func find(data []byte, kind string) *pem.Block {
	for {
		block, rest := pem.Decode(data)
		if block == nil || strings.HasSuffix(block.Type, kind) {
			return block
		}
		data = rest
	}
}
