package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificate is made for one run, for 127.0.0.1. It is its own authority, so that
// every client really verifies it.
type certificate struct {
	directory, certFile, keyFile string
	pin                          string // of its key, for Chromium
	trust                        *tls.Config
}

func newCertificate() (_ *certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "sluice interop"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	pin := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	c := &certificate{pin: base64.StdEncoding.EncodeToString(pin[:])}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	c.trust = &tls.Config{RootCAs: roots}
	if c.directory, err = os.MkdirTemp("", "interop"); err != nil {
		return nil, err
	}
	c.certFile, c.keyFile = filepath.Join(c.directory, "cert.pem"), filepath.Join(c.directory, "key.pem")
	err = errors.Join(writePEM(c.certFile, "CERTIFICATE", der), writePEM(c.keyFile, "PRIVATE KEY", keyDER))
	if err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func (c *certificate) remove() { os.RemoveAll(c.directory) } // ignored: a leftover of a dead run
