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

// clientTLS are the TLS flags of commands that connect to a gateway.
type clientTLS struct {
	cacert   string
	insecure bool
	cert     string
	key      string
}

// clientTLSNames are the names of these flags, for help and environment.
var clientTLSNames = []string{"cacert", "insecure-skip-verify", "cert", "key"}

func (t *clientTLS) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.cacert, "cacert", "", "trust the CA certificates in this PEM `FILE` instead of the system's")
	f.BoolVar(&t.insecure, "insecure-skip-verify", false, "do not verify the server's certificate. For testing only: allows man-in-the-middle attacks")
	f.StringVar(&t.cert, "cert", "", "present the client certificate in this PEM `FILE`, which may also contain its intermediate certificates")
	f.StringVar(&t.key, "key", "", "private key of --cert, in this PEM `FILE`")
}

// config reads the files; its errors are usage errors.
func (t *clientTLS) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, InsecureSkipVerify: t.insecure}
	if t.cacert != "" {
		pem, err := os.ReadFile(t.cacert)
		if err != nil {
			return nil, usagef("--cacert %s: %w; use a file with PEM certificates", t.cacert, bareError(err))
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usagef("--cacert %s: contains no certificate; use a file with PEM certificates", t.cacert)
		}
	}
	switch {
	case t.cert == "" && t.key == "":
		return config, nil
	case t.key == "":
		return nil, usagef("--cert %s needs --key: add the file with its private key", t.cert)
	case t.cert == "":
		return nil, usagef("--key %s needs --cert: add the file with its certificate", t.key)
	}
	pair, err := t.pair()
	config.Certificates = []tls.Certificate{pair}
	return config, err
}

func (t *clientTLS) pair() (tls.Certificate, error) {
	var none tls.Certificate
	certPEM, err := os.ReadFile(t.cert)
	if err != nil {
		return none, usagef("--cert %s: %w; use a file with a PEM certificate", t.cert, bareError(err))
	}
	keyPEM, err := os.ReadFile(t.key)
	if err != nil {
		return none, usagef("--key %s: %w; use a file with a PEM private key", t.key, bareError(err))
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return none, usagef("--cert %s and --key %s: %s; use a certificate and the private key that belongs to it, in PEM without a password", t.cert, t.key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return pair, nil
}

// explainTLS turns a TLS error of a connection into what, why and how to fix it. It
// returns nil for all other errors.
func explainTLS(err error) error {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &authority):
		return fmt.Errorf("the server's certificate is not trusted: %w; specify the CA certificate with --cacert (for testing, --insecure-skip-verify accepts any certificate)", bareTLSError(err))
	case errors.As(err, &name):
		return fmt.Errorf("the server's certificate is for another name: %w; use that name in --url (for testing, --insecure-skip-verify accepts any certificate)", bareTLSError(err))
	case errors.As(err, &invalid):
		return fmt.Errorf("the server's certificate is not valid: %w; renew it (for testing, --insecure-skip-verify accepts any certificate)", bareTLSError(err))
	case errors.As(err, &op) && op.Op == "remote error" && aboutClientCertificate(op.Err.Error()):
		return fmt.Errorf("the server requires a client certificate: %w; specify one that it accepts with --cert and --key", bareTLSError(op.Err))
	case errors.As(err, &op) && op.Op == "remote error":
		return temporary{fmt.Errorf("the server rejected the TLS handshake: %w; does it require a client certificate (--cert and --key), or a TLS version older than 1.2?", bareTLSError(op.Err))}
	}
	return nil
}

// aboutClientCertificate reports whether an alert means that the server rejects the
// client's certificate, or its absence. Package tls does not export the type of alerts.
func aboutClientCertificate(alert string) bool {
	for _, words := range []string{"certificate required", "bad certificate", "unknown certificate", "expired certificate",
		"revoked certificate", "unsupported certificate", "access denied"} {
		if strings.Contains(alert, words) {
			return true
		}
	}
	return false
}

// bareTLSError strips the packages' names: the message around it says whose error it is.
func bareTLSError(err error) error {
	text := err.Error()
	for _, prefix := range []string{"tls: ", "failed to verify certificate: ", "x509: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return errors.New(text)
}
