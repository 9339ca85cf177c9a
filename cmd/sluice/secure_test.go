package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
	"sluice/gateway/edge/certificate"
)

// writePair writes a certificate for this machine, made at a given time, to the files cert
// and key.
func writePair(t *testing.T, cert, key string, made time.Time) *x509.Certificate {
	t.Helper()
	pair, err := certificate.SelfSigned(made)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{key: {Type: "PRIVATE KEY", Bytes: der}, cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pair.Leaf
}

// trusting returns a client's configuration that accepts one certificate only.
func trusting(leaf *x509.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{RootCAs: roots}
}

// dialTLS opens a WebSocket over TLS.
func dialTLS(t *testing.T, s *sluice, path string, config *tls.Config) peer {
	t.Helper()
	return dialWith(t, &websocket.Dialer{TLSClientConfig: config}, "wss"+strings.TrimPrefix(s.url, "https")+path)
}

func TestSelfSignedCertificateIsEnoughForATrial(t *testing.T) {
	s := start(t, "--listen", "off", "--tls-listen", "127.0.0.1:0", "--tls-self-signed")
	ready := s.log.wait(t, "ready")
	want := "self-signed, for trials only: 'curl -k " + s.url + "/' or 'sluice sub --insecure-skip-verify --url " + s.url + " news'"
	if !strings.HasPrefix(s.url, "https://127.0.0.1:") || ready["certificate"] != want || ready["raw"] != "publish" {
		t.Errorf("ready: %v, want URL with https and certificate %q", ready, want)
	}
	trial := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	resp, err := (&http.Client{Transport: trial, Timeout: clitest.Patience}).Get(s.url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s", resp.Status)
	}
	c := dialTLS(t, s, "/echo", trial.TLSClientConfig)
	c.send(websocket.TextMessage, "hello")
	c.want(websocket.TextMessage, "hello")

	s.signal(syscall.SIGHUP) // there are no certificate files, and the process goes on
	s.log.wait(t, "configuration reloaded")
	c.send(websocket.TextMessage, "still here")
	c.want(websocket.TextMessage, "still here")
	c.conn.Close() // ignored: one that is open and not read holds up the end
	s.stop()
}

func TestHangupChangesTheCertificateUnderOpenConnections(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	first := writePair(t, cert, key, time.Now())
	s := start(t, "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
	s.url = s.secureURL()
	old := dialTLS(t, s, "/echo", trusting(first))

	second := writePair(t, cert, key, time.Now())
	s.signal(syscall.SIGHUP)
	s.log.wait(t, "certificates reloaded")
	fresh := dialTLS(t, s, "/echo", trusting(second)) // accepts no other certificate
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGHUP)
	r := s.log.wait(t, "cannot reload the certificates, keeping the current ones")
	if why, _ := r["error"].(string); !strings.HasPrefix(why, "--tls-key "+key+": it contains no private key; ") {
		t.Errorf("error %q", why)
	}
	for _, c := range []peer{old, fresh, dialTLS(t, s, "/echo", trusting(second))} {
		c.send(websocket.TextMessage, "still here")
		c.want(websocket.TextMessage, "still here")
		c.conn.Close() // ignored: as above
	}
	s.stop()
}

// secureURL is that of the last listener, which speaks TLS.
func (s *sluice) secureURL() string {
	urls := s.log.wait(s.t, "ready")["urls"].([]any)
	return strings.TrimSuffix(urls[len(urls)-1].(string), "/")
}

func TestTLSListenerWithinReachOnlyLetsListen(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writePair(t, cert, key, time.Now())
	s := startHere(t, "--listen", "127.0.0.1:0", "--tls-listen", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key)
	if raw := s.log.wait(t, "ready")["raw"]; raw != "listen" {
		t.Errorf("raw %v, want listen", raw)
	}
	s.stop()
}

func TestCheckTellsOfCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	leaf := writePair(t, cert, key, time.Now().AddDate(0, 0, -20)) // ten days are left
	end := leaf.NotAfter.UTC().Format(time.RFC3339)
	found := runCheck(t, 0, nil, append(freePorts, "--tls-listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)...)
	for _, want := range []string{
		"ok --tls-listen 127.0.0.1:0: free",
		"ok --tls-cert: for localhost, 127.0.0.1, ::1, until " + end,
		"warning --tls-cert " + cert + ": expires at " + end + ", and clients will reject it then; renew it",
		"ok clients on this machine (loopback) are exempt from --max-per-address, --address-rate, --message-rate, --control-rate until you set them",
	} {
		wantFinding(t, found, want)
	}
	tls := func(cert, key string) []string {
		return append(freePorts, "--tls-listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
	}
	late := filepath.Join(dir, "late")
	ended := writePair(t, late, filepath.Join(dir, "late.key"), time.Now().AddDate(-1, 0, 0))
	for _, tt := range []struct{ cert, key, want string }{
		{key, cert, "fault --tls-cert " + key + " contains a private key and --tls-key " + cert + " a certificate: swap them"},
		{cert, late + ".key", "fault --tls-key " + late + ".key does not match the certificate in " + cert + ": use the key that belongs to it"},
		{late, late + ".key", "fault --tls-cert " + late + ": expired at " + ended.NotAfter.UTC().Format(time.RFC3339) + ", so clients reject it; renew it"},
	} {
		wantFinding(t, runCheck(t, cli.ExitFailed, nil, tls(tt.cert, tt.key)...), tt.want)
	}
	found = runCheck(t, cli.ExitFailed, nil, append(freePorts, "--tls-listen", "127.0.0.1:0", "--tls-cert", key, "--tls-key", key)...)
	wantFinding(t, found, "fault --tls-cert "+key+": it contains no certificate; use a PEM file with the certificate and its chain")

	found = runCheck(t, 0, nil, append(freePorts, "--max-per-address", "9", "--address-rate", "off", "--message-rate", "9", "--trusted-proxies", "127.0.0.1")...)
	var exempt []string
	for _, line := range found {
		if strings.HasPrefix(line, "ok clients ") {
			exempt = append(exempt, line)
		}
	}
	if diff := cmp.Diff([]string{"ok clients on this machine (loopback) are exempt from --control-rate until you set them"}, exempt); diff != "" {
		t.Error(diff)
	}
}
