package main

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
)

func TestCertificateAndKeyMustBeAPair(t *testing.T) {
	one, other := clitest.NewIdentity(t), clitest.NewIdentity(t)
	for _, command := range []string{"pub news x", "sub news", "health", "top", "nodes"} {
		c := clitest.Start(t, newRootCommand(nil), nil, append(strings.Fields(command), "--cert", one.Cert, "--key", other.Key)...)
		c.WantExit(cli.ExitUsage, "--cert "+one.Cert+" and --key "+other.Key+": private key does not match public key; use a certificate and the private key that belongs to it")
	}
}

func TestHealthShowsItsCertificateWhereOneIsWanted(t *testing.T) {
	me := clitest.NewIdentity(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it logs the clients that it rejects
	s.TLS = new(tls.Config)
	me.Demand(s.TLS)
	s.StartTLS()
	defer s.Close()
	ca := clitest.WriteFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	clitest.WantCertificate(t, func() *cobra.Command { return newRootCommand(nil) }, me, ca, "health", "--url", s.URL)
}

func TestTheWrongNameOrNoTLSAtAllIsTold(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	ca := clitest.WriteFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	named := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	clitest.Start(t, newRootCommand(nil), nil, "health", "--url", named, "--cacert", ca).WantExit(cli.ExitFailed, "the server's certificate is for another name", "use that name in --url")
	onlyTLS := []string{"SLUICE_LISTEN=off", "SLUICE_TLS_LISTEN=" + s.Listener.Addr().String()}
	wantHealth(t, onlyTLS, "--cacert "+ca, 0, "")
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	clitest.Start(t, newRootCommand(nil), nil, "health", "--url", strings.Replace(plain.URL, "http", "https", 1)).WantExit(cli.ExitFailed, "the server does not speak TLS; use http://")
}
