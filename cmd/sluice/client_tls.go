package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// clientTLS is what commands that go to a gateway are told about TLS.
type clientTLS struct {
	cacert   string
	insecure bool
	cert     string
	key      string
}

// clientTLSNames is how they stand in help and environment.
var clientTLSNames = []string{"cacert", "insecure-skip-verify", "cert", "key"}

func (t *clientTLS) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.cacert, "cacert", "", "a `FILE` of PEM certificates that sign the gateway's, in place of the system's")
	f.BoolVar(&t.insecure, "insecure-skip-verify", false, "take any certificate: for tests alone, anybody in between can read and write")
	f.StringVar(&t.cert, "cert", "", "a `FILE` with the certificate to show, in PEM, and those between it and one that the gateway knows")
	f.StringVar(&t.key, "key", "", "a `FILE` with the key of that certificate, in PEM")
}

// config reads the files; its errors are usage errors.
func (t *clientTLS) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, InsecureSkipVerify: t.insecure}
	if t.cacert != "" {
		pem, err := os.ReadFile(t.cacert)
		if err != nil {
			return nil, usagef("--cacert %s: %w: give a file of PEM certificates", t.cacert, bareError(err))
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usagef("--cacert %s: no certificate is in it: give a file of PEM certificates", t.cacert)
		}
	}
	switch {
	case t.cert == "" && t.key == "":
		return config, nil
	case t.key == "":
		return nil, usagef("--cert %s has no --key: give the file with its key too", t.cert)
	case t.cert == "":
		return nil, usagef("--key %s has no --cert: give the file with its certificate too", t.key)
	}
	pair, err := t.pair()
	config.Certificates = []tls.Certificate{pair}
	return config, err
}

func (t *clientTLS) pair() (tls.Certificate, error) {
	var none tls.Certificate
	certPEM, err := os.ReadFile(t.cert)
	if err != nil {
		return none, usagef("--cert %s: %w: give a file with a PEM certificate", t.cert, bareError(err))
	}
	keyPEM, err := os.ReadFile(t.key)
	if err != nil {
		return none, usagef("--key %s: %w: give a file with a PEM key", t.key, bareError(err))
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return none, usagef("--cert %s and --key %s: %s: give a certificate and its own key, in PEM and without a password", t.cert, t.key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return pair, nil
}

// explainTLS puts what is wrong with the TLS of a connection into words, with a way
// on. It gives nil for everything else.
func explainTLS(err error) error {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &authority):
		return fmt.Errorf("its certificate is signed by nobody who is known here: %w: give the signer's certificate with --cacert (for a test, --insecure-skip-verify takes any)", bareTLSError(err))
	case errors.As(err, &name):
		return fmt.Errorf("its certificate is for another name: %w: give that name in --url (for a test, --insecure-skip-verify takes any)", bareTLSError(err))
	case errors.As(err, &invalid):
		return fmt.Errorf("its certificate is not valid: %w: renew it there (for a test, --insecure-skip-verify takes any)", bareTLSError(err))
	case errors.As(err, &op) && op.Op == "remote error" && aboutClientCertificate(op.Err.Error()):
		return fmt.Errorf("it wants a client certificate: %w: give one that it knows with --cert and --key", bareTLSError(op.Err))
	case errors.As(err, &op) && op.Op == "remote error":
		return temporary{fmt.Errorf("it ends the TLS handshake: %w: does it want a client certificate (--cert and --key), or is its TLS below 1.2?", bareTLSError(op.Err))}
	}
	return nil
}

// aboutClientCertificate knows the alerts with which a server refuses a client's
// certificate, or that there is none. Package tls does not export their type.
func aboutClientCertificate(alert string) bool {
	for _, words := range []string{"certificate required", "bad certificate", "unknown certificate", "expired certificate",
		"revoked certificate", "unsupported certificate", "access denied"} {
		if strings.Contains(alert, words) {
			return true
		}
	}
	return false
}

// bareTLSError leaves out the packages' names: the sentence around it says whose
// error it is.
func bareTLSError(err error) error {
	text := err.Error()
	for _, prefix := range []string{"tls: ", "failed to verify certificate: ", "x509: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return errors.New(text)
}
