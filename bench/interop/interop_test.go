// Package interop drives six WebSocket clients that share no code against a real gateway, over ws
// and wss, and fails where one of them sees anything else than the others: gorilla/websocket,
// coder/websocket, lxzan/gws, our own one, npm ws and Chromium. ./run installs what it needs and
// starts it; there are only tests in it.
//
// All of that is done without compression, and with it.
//
// Every client does the same cases (cases_test.go) on connections of its own. Beside them each
// holds two connections to one channel, with and without format=json, into which all of them and
// the internal listener publish at once; what arrives is kept in ledgers (ledger_test.go), which
// must be identical and complete. At the end the gateway is stopped and must say so to everyone.
//
// It is a module of its own, so that the clients are no dependencies of the gateway. It knows
// nothing of the gateway but what gateway/PROTOCOL.md promises to clients.
package interop

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/bench/child"
)

func TestSixClientsSeeTheSame(t *testing.T) { sixClients(t, false) }

// Five of the six negotiate compression, of every publication; ours has none.
func TestSixClientsSeeTheSameCompressed(t *testing.T) { sixClients(t, true) }

func sixClients(t *testing.T, compression bool) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cert := newCertificate(t)
	var flags []string
	if compression {
		flags = []string{"--compression", "shared", "--compression-min", "1"}
	}
	g := startGateway(t, cert, flags...)
	clients := allClients(ctx, t, g, cert)
	subs, err := subscribe(ctx, clients, g)
	if err != nil {
		t.Fatal(err)
	}
	ends := ends{reasons: map[string]int{}}
	eachClient(clients, func(c *client) { doCases(ctx, t, c, g, &ends) })
	stayedOpen(t, subs, g)
	wantCompressed(t, g, len(subs), compression)
	exchange(ctx, t, subs, g)
	ends.check(t, g, len(subs))
	if err := g.Stop(); err != nil {
		t.Errorf("the gateway exited with an error: %v", err)
	}
	lastWords(ctx, t, subs)
}

// gateway is the process under test.
type gateway struct {
	*child.Process
	*certificate
}

// maxMessage is the gateway's default --max-message.
const maxMessage = 64 << 10

// startGateway starts the binary SLUICE_BIN. The channel's buffer holds all that is published, so
// that no client is too slow for it on a busy machine; pings come every second, so that each
// client has to answer some.
func startGateway(t *testing.T, cert *certificate, flags ...string) *gateway {
	t.Helper()
	p, err := child.Serve(os.Getenv("SLUICE_BIN"), append(flags, "--tls-listen", "127.0.0.1:0", "--tls-cert", cert.certFile, "--tls-key", cert.keyFile,
		"--channel-buffer", "32MiB", "--ping-interval", "1s", "--pong-timeout", "3s")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", &p.Log)
		}
	})
	return &gateway{p, cert}
}

// wantCompressed sees which of the open connections have negotiated compression: all but our own client's, or none.
func wantCompressed(t *testing.T, g *gateway, open int, compression bool) {
	t.Helper()
	text, err := g.Get("/api/connections?limit=1000")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Connections []struct{ Compression string }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	compressed, want := 0, 0
	for _, c := range answer.Connections {
		if c.Compression == "permessage-deflate" {
			compressed++
		}
	}
	if compression {
		want = open / 6 * 5
	}
	if len(answer.Connections) != open || compressed != want {
		t.Errorf("%d of %d connections have negotiated compression, want %d of %d", compressed, len(answer.Connections), want, open)
	}
}

func (g *gateway) publish(channel string, m message) error {
	kind := "text/plain"
	if m.binary {
		kind = "application/octet-stream"
	}
	_, err := g.Post("/publish/"+channel, kind, m.payload)
	return err
}

// until waits until a counter is at least want, or there is no patience left, and returns what it
// is then. label and value choose its series as for Metrics.Sum.
func (g *gateway) until(t *testing.T, want int, name, label, value string) (got int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // between two looks
		metrics, err := g.Metrics()
		if err != nil {
			t.Fatal(err)
		}
		if got = int(metrics.Sum(name, label, value)); got >= want || time.Now().After(end) {
			return got
		}
	}
}

// result reports a check of a client as a subtest.
func result(t *testing.T, c *client, scheme, name string, err error) {
	t.Run(c.name+" "+scheme+": "+name, func(t *testing.T) {
		if err != nil {
			t.Error(err)
		}
	})
}

// ends are the reasons for which connections must end.
type ends struct {
	mu      sync.Mutex
	reasons map[string]int // guarded by mu
}

// expect notes that one more connection will end for a reason.
func (e *ends) expect(reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reasons[reason]++
}

// check compares the gateway's own counters with what the clients did.
func (e *ends) check(t *testing.T, g *gateway, open int) {
	t.Helper()
	total := 0
	for _, reason := range slices.Sorted(maps.Keys(e.reasons)) {
		want := e.reasons[reason]
		if got := g.until(t, want, "sluice_connections_closed_total", "reason", reason); got != want {
			t.Errorf("connections closed with the reason %s: %d, want %d", reason, got, want)
		}
		total += want
	}
	got := [2]int{g.until(t, 0, "sluice_connections_closed_total", "", ""), g.until(t, 0, "sluice_connections", "", "")}
	if want := [2]int{total, open}; got != want {
		t.Errorf("connections closed, and still open: %v, want %v", got, want)
	}
}
