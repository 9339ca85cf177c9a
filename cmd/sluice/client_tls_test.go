package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// identity is a certificate that signs itself, and its files.
type identity struct {
	certificate *x509.Certificate
	cert, key   string
}

func newIdentity(t *testing.T) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	var id identity
	if id.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id.cert = writeFile(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	id.key = writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return id
}

// demand makes a server require id. Below TLS 1.3 it rejects clients within the handshake,
// so that its alert cannot be lost to what the client sends.
func (id identity) demand(config *tls.Config) {
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs = x509.NewCertPool()
	config.ClientCAs.AddCert(id.certificate)
	config.MaxVersion = tls.VersionTLS12
}

func TestCertificateAndKeyMustBeAPair(t *testing.T) {
	one, other := newIdentity(t), newIdentity(t)
	for _, command := range []string{"pub news x", "sub news", "health", "top"} {
		c := startClient(t, nil, append(strings.Fields(command), "--cert", one.cert, "--key", other.key)...)
		c.wantExit(exitUsage, "--cert "+one.cert+" and --key "+other.key+": private key does not match public key; use a certificate and the private key that belongs to it")
	}
}

func TestEveryClientShowsItsCertificateWhereOneIsWanted(t *testing.T) {
	me := newIdentity(t)
	g := newFakeGateway(t, func(c *fakeConn) {
		c.position(false, "e1", 0)
		c.send(ws.OpText, `{"channel":"news","epoch":"e1","offset":1,"at":1,"from":"1","data":"x"}`)
		c.confirm()
	})
	gateway, gatewayCA := newTLSProxy(t, g.l.Addr().String(), me.demand)
	inspector := newFakeInspector(t)
	internal, internalCA := newTLSProxy(t, inspector.Listener.Addr().String(), me.demand)
	for _, tc := range []struct{ command, address, ca string }{
		{"pub news x --retry 0s", gateway, gatewayCA},
		{"sub news --count 1 --retry 0s", gateway, gatewayCA},
		{"top", internal, internalCA},
		{"health", "", ""},
	} {
		if tc.address == "" {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			s.Config.ErrorLog = log.New(io.Discard, "", 0) // it logs the clients that it rejects
			s.TLS = new(tls.Config)
			me.demand(s.TLS)
			s.StartTLS()
			defer s.Close()
			tc.address = s.Listener.Addr().String()
			tc.ca = writeFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
		}
		args := append(strings.Fields(tc.command), "--url", "https://"+tc.address)
		startClient(t, nil, append(args, "--cacert", tc.ca)...).
			wantExit(exitFailed, "does it require a client certificate (--cert and --key)")
		startClient(t, nil, append(args, "--cacert", tc.ca, "--cert", me.cert, "--key", me.key)...).wantExit(0)
		startClient(t, nil, append(args, "--insecure-skip-verify", "--cert", me.cert, "--key", me.key)...).wantExit(0)
		startClient(t, nil, args...).
			wantExit(exitFailed, "the server's certificate is not trusted", "--cacert", "--insecure-skip-verify")
	}
}

// With TLS 1.3, a client learns only after the handshake that it was rejected.
func TestAWantedCertificateIsNamed(t *testing.T) {
	me, other := newIdentity(t), newIdentity(t)
	pair, err := tls.LoadX509KeyPair(me.cert, me.key)
	if err != nil {
		t.Fatal(err)
	}
	for alert, shown := range map[string][]tls.Certificate{"certificate required": nil, "unknown certificate authority": {pair}} {
		config := &tls.Config{Certificates: []tls.Certificate{pair}}
		other.demand(config)
		config.MaxVersion = 0
		client, server := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			tls.Server(server, config).Handshake() // error ignored: the client reports it
			server.Close()
		}()
		conn := tls.Client(client, &tls.Config{InsecureSkipVerify: true, Certificates: shown, // of a test
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &append(shown, tls.Certificate{})[0], nil // even one that the server does not ask for
			}})
		_, err := conn.Read(make([]byte, 1))
		const want = "the server requires a client certificate: %s; specify one that it accepts with --cert and --key"
		if got := fmt.Sprint(explainTLS(err)); got != fmt.Sprintf(want, alert) {
			t.Errorf("%v: %s", err, got)
		}
		client.Close()
		<-served
	}
}

func TestTheWrongNameOrNoTLSAtAllIsTold(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	ca := writeFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	named := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	startClient(t, nil, "health", "--url", named, "--cacert", ca).wantExit(exitFailed, "the server's certificate is for another name", "use that name in --url")
	onlyTLS := []string{"SLUICE_LISTEN=off", "SLUICE_TLS_LISTEN=" + s.Listener.Addr().String()}
	wantHealth(t, onlyTLS, "--cacert "+ca, 0, "")
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	startClient(t, nil, "health", "--url", strings.Replace(plain.URL, "http", "https", 1)).wantExit(exitFailed, "the server does not speak TLS; use http://")
}
