package proxy

import (
	"crypto/tls"
	"io"
	"log"
	"net/http/httptest"
	"testing"
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
