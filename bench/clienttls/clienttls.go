// Package clienttls is TLS on the client's side for all commands that connect to a server: from
// their four flags to a [tls.Config], and from an error of a handshake to what it means and how to
// fix it. It is a package of its own because the load tester uses it, which must not use the
// WebSocket client beside it.
//
// Its texts name the flags --cacert, --insecure-skip-verify, --cert, --key and --url, which are the
// same in every command. The package does not know what is sent over a connection.
package clienttls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// Flags are the values of the flags.
type Flags struct {
	CACert   string // file with CA certificates to trust instead of the system's
	Insecure bool   // the server's certificate is not verified
	Cert     string // file with the client's certificate
	Key      string // file with its key
}

// Names are the flags' names, for help and environment.
var Names = []string{"cacert", "insecure-skip-verify", "cert", "key"}

// AddFlags adds the flags.
func (o *Flags) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.CACert, "cacert", "", "trust the CA certificates in this PEM `FILE` instead of the system's")
	f.BoolVar(&o.Insecure, "insecure-skip-verify", false, "do not verify the server's certificate. For testing only: allows man-in-the-middle attacks")
	f.StringVar(&o.Cert, "cert", "", "present the client certificate in this PEM `FILE`, which may also contain its intermediate certificates")
	f.StringVar(&o.Key, "key", "", "private key of --cert, in this PEM `FILE`")
}

// Config reads the files. Its errors are faults of the flags.
func (o *Flags) Config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, InsecureSkipVerify: o.Insecure}
	if o.CACert != "" {
		pem, err := os.ReadFile(o.CACert)
		if err != nil {
			return nil, fmt.Errorf("--cacert %s: %w; use a file with PEM certificates", o.CACert, bareFile(err))
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert %s: contains no certificate; use a file with PEM certificates", o.CACert)
		}
	}
	switch {
	case o.Cert == "" && o.Key == "":
		return config, nil
	case o.Key == "":
		return nil, fmt.Errorf("--cert %s needs --key: add the file with its private key", o.Cert)
	case o.Cert == "":
		return nil, fmt.Errorf("--key %s needs --cert: add the file with its certificate", o.Key)
	}
	cert, err := os.ReadFile(o.Cert)
	if err != nil {
		return nil, fmt.Errorf("--cert %s: %w; use a file with a PEM certificate", o.Cert, bareFile(err))
	}
	key, err := os.ReadFile(o.Key)
	if err != nil {
		return nil, fmt.Errorf("--key %s: %w; use a file with a PEM private key", o.Key, bareFile(err))
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("--cert %s and --key %s: %s; use a certificate and the private key that belongs to it, in PEM without a password", o.Cert, o.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// bareFile strips the file's name, which the message around it has.
func bareFile(err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Explain turns a TLS error of a connection into what, why and how to fix it, and reports whether
// another try may end differently. It returns nil for all other errors.
func Explain(err error) (explained error, temporary bool) {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &authority):
		return fmt.Errorf("the server's certificate is not trusted: %w; specify the CA certificate with --cacert (for testing, --insecure-skip-verify accepts any certificate)", bare(err)), false
	case errors.As(err, &name):
		return fmt.Errorf("the server's certificate is for another name: %w; use that name in --url (for testing, --insecure-skip-verify accepts any certificate)", bare(err)), false
	case errors.As(err, &invalid):
		return fmt.Errorf("the server's certificate is not valid: %w; renew it (for testing, --insecure-skip-verify accepts any certificate)", bare(err)), false
	case errors.As(err, &op) && op.Op == "remote error" && aboutClientCertificate(op.Err.Error()):
		return fmt.Errorf("the server requires a client certificate: %w; specify one that it accepts with --cert and --key", bare(op.Err)), false
	case errors.As(err, &op) && op.Op == "remote error":
		return fmt.Errorf("the server rejected the TLS handshake: %w; does it require a client certificate (--cert and --key), or a TLS version older than 1.2?", bare(op.Err)), true
	}
	return nil, false
}

// aboutClientCertificate reports whether an alert means that the server rejects the client's
// certificate, or its absence. Package tls does not export the type of alerts.
func aboutClientCertificate(alert string) bool {
	for _, words := range []string{"certificate required", "bad certificate", "unknown certificate", "expired certificate",
		"revoked certificate", "unsupported certificate", "access denied"} {
		if strings.Contains(alert, words) {
			return true
		}
	}
	return false
}

// bare strips the packages' names: the message around it says whose error it is.
func bare(err error) error {
	text := err.Error()
	for _, prefix := range []string{"tls: ", "failed to verify certificate: ", "x509: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return errors.New(text)
}
