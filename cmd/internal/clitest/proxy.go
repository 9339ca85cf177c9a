package clitest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/internal/cli"
)

// TLSProxy forwards TLS connections to another address. It returns its own address and
// the file with its certificate. change, if any, alters its configuration.
func TLSProxy(t *testing.T, to string, change ...func(*tls.Config)) (addr, certificate string) {
	t.Helper()
	donor := httptest.NewTLSServer(http.NotFoundHandler()) // has a certificate for 127.0.0.1
	config := donor.TLS.Clone()
	config.NextProtos = nil
	for _, f := range change {
		f(config)
	}
	certificate = writePEM(t, "ca.pem", "CERTIFICATE", donor.Certificate().Raw)
	donor.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	must(t, err)
	PipeTo(t, l, to)
	return l.Addr().String(), certificate
}

// Pipes is a proxy that copies bytes, and can be cut.
type Pipes struct {
	Listener net.Listener
	served   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// PipeTo copies the bytes of connections to l to another address and back.
func PipeTo(t *testing.T, l net.Listener, to string) *Pipes {
	p := &Pipes{Listener: l}
	p.served.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, server)
			p.mu.Unlock()
			pipe := func(to, from net.Conn) {
				io.Copy(to, from) // error ignored: the other side sees the end
				to.Close()
				from.Close()
			}
			p.served.Go(func() { pipe(client, server) })
			p.served.Go(func() { pipe(server, client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.Cut()
		p.served.Wait()
	})
	return p
}

// Cut ends all connections; new ones can be made.
func (p *Pipes) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// Identity is a certificate that signs itself, and its files.
type Identity struct {
	certificate *x509.Certificate
	Cert, Key   string
}

// NewIdentity returns a new one.
func NewIdentity(t *testing.T) Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	id := Identity{Cert: writePEM(t, "cert.pem", "CERTIFICATE", der)}
	id.certificate, err = x509.ParseCertificate(der)
	must(t, err)
	id.Key, _ = KeyFiles(t, key)
	return id
}

// Demand makes a server require id. Below TLS 1.3 it rejects clients within the handshake,
// so that its alert cannot be lost to what the client sends.
func (id Identity) Demand(config *tls.Config) {
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs = x509.NewCertPool()
	config.ClientCAs.AddCert(id.certificate)
	config.MaxVersion = tls.VersionTLS12
}

// Numbered returns "line FIRST" to "line LAST", a line each.
func Numbered(first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

// WantCertificate runs a command line against a TLS server that demands id, with id and
// without, and with the server's certificate in the file ca and without.
func WantCertificate(t *testing.T, root func() *cobra.Command, id Identity, ca string, args ...string) {
	t.Helper()
	with := func(more ...string) *Running {
		return Start(t, root(), nil, append(args[:len(args):len(args)], more...)...)
	}
	with("--cacert", ca).WantExit(cli.ExitFailed, "does it require a client certificate (--cert and --key)")
	with("--cacert", ca, "--cert", id.Cert, "--key", id.Key).WantExit(0)
	with("--insecure-skip-verify", "--cert", id.Cert, "--key", id.Key).WantExit(0)
	with().WantExit(cli.ExitFailed, "the server's certificate is not trusted", "--cacert", "--insecure-skip-verify")
}
