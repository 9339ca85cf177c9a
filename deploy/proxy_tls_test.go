package deploy_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/gobwas/ws"
)

// The lines for TLS are in the files, commented out: with them in place of the plain
// one, a wss client gets through.
func TestProxyTakesTLSOff(t *testing.T) {
	each(t, func(t *testing.T, p proxy) {
		if p.cert == "" {
			t.Skipf("%s gets its certificate by itself, for a name: nothing to try offline", p.name)
		}
		dir, pool := certificateFiles(t)
		text := shipped(t, p.file)
		if p.plain != "" {
			text = substitute(t, text, p.plain, "# "+p.plain)
		}
		for _, line := range p.secure {
			text = substitute(t, text, "#"+line, line)
		}
		if p.key != "" {
			text = substitute(t, text, p.cert, dir+"/cert", p.key, dir+"/key")
		} else {
			text = substitute(t, text, p.cert, dir+"/both")
		}
		address := p.startWith(t, serve(t), text)
		d := ws.Dialer{Timeout: patience, TLSConfig: &tls.Config{RootCAs: pool},
			Header: ws.HandshakeHeaderHTTP{"Origin": {"https://" + address}}}
		c, _, _, err := d.Dial(t.Context(), "wss://"+address+"/echo")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := echo(c, "over TLS"); err != nil {
			t.Fatal(err)
		}
	})
}

// certificateFiles makes a directory with a certificate for 127.0.0.1 in cert, its key
// in key and the two in both, and returns what a client has to trust.
func certificateFiles(t *testing.T) (dir string, pool *x509.CertPool) {
	t.Helper()
	donor := httptest.NewTLSServer(http.NotFoundHandler())
	defer donor.Close()
	certificate := donor.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	dir = t.TempDir()
	for name, data := range map[string][]byte{"cert": certPEM, "key": keyPEM, "both": append(certPEM, keyPEM...)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AddCert(donor.Certificate())
	return dir, pool
}
