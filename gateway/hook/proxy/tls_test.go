package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"testing"

	"sluice/gateway/hook"
	"sluice/gateway/hook/queue"
)

// newTLSBackend returns a backend that demands a certificate, for which its own one is good.
func newTLSBackend(t *testing.T) *httptest.Server {
	s := httptest.NewUnstartedServer(says(`{"result":{}}`))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestMutualTLS(t *testing.T) {
	server := newTLSBackend(t)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	certificate := server.TLS.Certificates[0]
	for name, c := range map[string]struct {
		tls  *tls.Config
		want bool
	}{
		"with a certificate":    {&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}}, true},
		"without a certificate": {&tls.Config{RootCAs: roots}, false},
		"another authority":     {&tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{certificate}}, false},
		"no configuration":      {nil, false},
	} {
		h := endpoint(t, Config{Endpoint: server.URL, TLS: c.tls}).Subscribe()
		_, err := call(t, h, subscribing("news"))
		if (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if f, ok := errors.AsType[*hook.Failure](err); err != nil && (!ok || f.Outcome != queue.Refused) {
			t.Errorf("%s: %#v", name, err)
		}
		h.Close()
	}
}
