package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
)

// tls reads how an https endpoint is called; nil for the default.
func (r *reader) tls(where string, raw json.RawMessage) *tls.Config {
	var enabled bool
	var certificate, key, authority string
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	seen := r.object(where, raw,
		r.flag("enabled", &enabled), r.text("cert_pem", &certificate), r.text("key_pem", &key), r.text("server_ca_pem", &authority),
		r.text("server_name", &c.ServerName), r.flag("insecure_skip_verify", &c.InsecureSkipVerify),
		r.refused("client_ca_pem", "it is for servers, which have clients to verify"),
	)
	delete(seen, "enabled")
	if !enabled {
		if len(seen) > 0 {
			r.fault(where, `it has no effect without enabled; add "enabled": true, or remove it`)
		}
		return nil
	}
	if authority != "" {
		if pem, err := r.pem(authority); err != nil {
			r.fault(join(where, "server_ca_pem"), "%w", err)
		} else if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			r.fault(join(where, "server_ca_pem"), "it has no certificate in PEM format")
		}
	}
	if (certificate == "") != (key == "") {
		r.fault(where, "cert_pem and key_pem belong together; add the other one, or remove both")
		return c
	}
	if certificate == "" {
		return c
	}
	certPEM, err := r.pem(certificate)
	if err != nil {
		r.fault(join(where, "cert_pem"), "%w", err)
	}
	keyPEM, err := r.pem(key)
	if err != nil {
		r.fault(join(where, "key_pem"), "%w", err)
	}
	if certPEM == nil || keyPEM == nil {
		return c
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		r.fault(where, "cert_pem and key_pem: %w", err)
		return c
	}
	c.Certificates = []tls.Certificate{pair}
	return c
}

var pemBegin = []byte("-----BEGIN")

// pem returns PEM that a value is, that it is in base64, or that is in the file which it names.
func (r *reader) pem(value string) ([]byte, error) {
	if bytes.Contains([]byte(value), pemBegin) {
		return []byte(value), nil
	}
	if b, err := base64.StdEncoding.DecodeString(value); err == nil && bytes.Contains(b, pemBegin) {
		return b, nil
	}
	b, err := r.readFile(value)
	if err != nil {
		return nil, errors.New("it is neither PEM, nor PEM in base64, nor a file that can be read") // not its text: a key that was cut is a secret
	}
	if !bytes.Contains(b, pemBegin) {
		return nil, errors.New("the file has nothing in PEM format")
	}
	return b, nil
}
