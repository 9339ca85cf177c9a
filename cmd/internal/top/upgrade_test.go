package top

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/cmd/internal/clitest"
	"sluice/cmd/internal/doctor"
)

// signaling is a writer that says when something was written.
type signaling struct {
	bytes.Buffer
	once    sync.Once
	written chan struct{}
}

func (w *signaling) Write(p []byte) (int, error) {
	defer w.once.Do(func() { close(w.written) })
	return w.Buffer.Write(p)
}

func TestUpgradeThatTakesLongSaysSo(t *testing.T) {
	stderr := &signaling{written: make(chan struct{})}
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-stderr.written:
			w.WriteHeader(http.StatusOK)
		case <-r.Context().Done():
		}
	}))
	defer gateway.Close()
	at, err := url.Parse(gateway.URL)
	if err != nil {
		t.Fatal(err)
	}
	u := upgrade{place: doctor.Place{URL: at}, timeout: clitest.Patience}
	if a, err := u.ask(t.Context(), stderr, time.Millisecond); err != nil || a.Status != http.StatusOK {
		t.Errorf("%d, %v", a.Status, err)
	}
	if text := stderr.String(); !strings.Contains(text, "'sluice upgrade --abort'") {
		t.Errorf("it says %q", text)
	}
}

func TestUpgradeReportIsForPeople(t *testing.T) {
	for want, r := range map[string]upgradeReport{
		"upgraded from v1 to v2: process 7 serves\n" +
			"  moved    12,345 connections in 123ms; nobody was served for 4.57ms of that\n" +
			"  drained  1 connection with TLS, which cannot move: each client is asked to reconnect\n" +
			"  copied   2MiB before these 4.57ms, and 64KiB in them\n": {From: "v1", To: "v2", PID: 7, Moved: 12345, Secure: 1, Copied: 2 << 20, Records: 64 << 10, Frozen: 4567890, Took: 123456789},
		"upgraded from v1 to v2[2J: process 7 serves\n" +
			"  moved    0 connections in 1ms; nobody was served for 1ms of that\n" +
			"  copied   0B before these 1ms, and 0B in them\n": {From: "v1", To: "v2\x1b[2J", PID: 7, Frozen: time.Millisecond, Took: time.Millisecond},
	} {
		if got := r.text(); got != want {
			t.Errorf("the report is\n%s\nwant\n%s", got, want)
		}
	}
}

// Whether the gateway goes on is the first thing that an operator has to know.
func TestFailedUpgradeSaysWhetherTheGatewayGoesOn(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"code":"upgrade_failed","message":"max-connections 3"}}`: "not upgraded, the gateway goes on as it was: max-connections 3",
		`{"error":{"code":"shutting_down","message":"stops"}}`:              "not upgraded: stops",
		`{"error":{"code":"upgrade_lost","message":"is lost"}}`:             "not upgraded: is lost",
		"<html>": "http://gateway: the server responded with : this may not be a gateway",
	} {
		u := upgrade{place: doctor.Place{URL: &url.URL{Scheme: "http", Host: "gateway"}}}
		if got := u.failed(doctor.Answer{Status: http.StatusBadGateway, Body: []byte(body)}).Error(); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
