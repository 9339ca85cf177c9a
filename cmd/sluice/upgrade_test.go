package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/cmd/internal/clitest"
)

// upgradesInARow is how many upgrades some tests have one after the other: SLUICE_TEST_UPGRADES, or a few.
func upgradesInARow() int {
	if n, err := strconv.Atoi(os.Getenv("SLUICE_TEST_UPGRADES")); err == nil {
		return n
	}
	return 3
}

// startHead sends the first half of a request for a WebSocket connection or an event stream, and returns what sends the rest and reads the answer.
func startHead(l *lineage, path string) (finish func()) {
	t := l.t
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	first, rest, want := "GET "+path+" HTTP/1.1\r\nHost: x\r\nUpgr", "ade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", "HTTP/1.1 101 "
	if strings.HasPrefix(path, "/sse/") {
		first, rest, want = "GET "+path+" HTTP/1.1\r\nHost: x\r\nAcc", "ept: text/event-stream\r\n\r\n", "HTTP/1.1 200 "
	}
	io.WriteString(conn, first) // ignored: the answer is missing then
	return func() {
		t.Helper()
		io.WriteString(conn, rest)                             // ignored: likewise
		conn.SetReadDeadline(time.Now().Add(clitest.Patience)) // ignored: likewise
		if answer, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(answer, want) {
			t.Errorf("the request for %s, which moved, was answered %q, %v", path, answer, err)
		}
	}
}

func TestUpgradeUnderLoadLosesNothing(t *testing.T) {
	l := startLineage(t, "--insecure", "--address-rate", "off")
	g := startLedger(l, "ws", "http")
	for i := range upgradesInARow() {
		// Clients in the middle of their requests, which they end in the next process.
		websocket, stream := startHead(l, "/ws/other"), startHead(l, "/sse/other")
		r := l.upgrade()
		t.Logf("upgrade %d: %d connections, frozen for %v of %v", i, r.Moved, r.Frozen, r.Took)
		if r.Moved < ledgerReaders+1 {
			t.Errorf("%d connections were moved, want %d", r.Moved, ledgerReaders+1)
		}
		websocket()
		stream()
		g.more(100)
		if i == 0 {
			l.wantExit(0)
		}
	}
	g.balance()
}

// With a data directory, the store moves when the new process serves: until then, publishers wait.
func TestUpgradeMovesTheDataDirectory(t *testing.T) {
	l := startLineage(t, "--data-dir", filepath.Join(t.TempDir(), "data"), "--raw", "publish")
	at := "ws" + strings.TrimPrefix(l.url, "http") + "/ws/news?format=json"
	reader := dialWith(t, websocket.DefaultDialer, at)
	var epoch string
	var away time.Duration // the longest time without a publication
	next, since := 0, time.Now()
	publish := func() {
		t.Helper()
		if next == 0 { // what a client sends comes back when it has joined
			reader.send(websocket.TextMessage, "x 0")
		}
		if next > 0 { // it waits while the store moves
			if status, answer := post(t, l.sluice, "/publish/news", "", fmt.Sprintf("x %d", next)); status != http.StatusOK {
				t.Fatalf("publish: %d %v", status, answer)
			}
		}
		away, since = max(away, time.Since(since)), time.Now()
		var r struct {
			Data, Epoch string
			Offset      int
			Gap         bool
		}
		_, p, err := reader.conn.ReadMessage()
		if err == nil {
			err = json.Unmarshal(p, &r)
		}
		next++
		if err != nil || r.Data != fmt.Sprintf("x %d", next-1) || r.Offset != next || r.Gap || epoch != "" && r.Epoch != epoch {
			t.Fatalf("publication %d is %s, %v; the epoch was %s", next, p, err, epoch)
		}
		epoch = r.Epoch
	}
	for range 2 {
		for range 20 {
			publish()
		}
		l.upgrade()
	}
	for range 20 {
		publish()
	}
	t.Logf("at most %v between two publications", away)
	again := dialWith(t, websocket.DefaultDialer, at+"&since="+epoch+":0")
	for i := range next {
		var r struct{ Data string }
		if _, p, err := again.conn.ReadMessage(); err != nil || json.Unmarshal(p, &r) != nil || r.Data != fmt.Sprintf("x %d", i) {
			t.Fatalf("publication %d is read from the store as %s, %v", i, p, err)
		}
	}
}

func TestUpgradeTellsClientsWithTLSToComeBack(t *testing.T) {
	l := startLineage(t, "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--tls-self-signed", "--upgrade-tls", "1s")
	trusting := &websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	at := "wss" + strings.TrimPrefix(l.secureURL(), "https") + "/ws/news"
	var all []peer
	for range 5 {
		all = append(all, dialWith(t, trusting, at))
	}
	if r := l.upgrade(); r.Secure != len(all) || r.Moved != 0 {
		t.Errorf("%d connections were moved, and %d are told to come back; want 0 and %d", r.Moved, r.Secure, len(all))
	}
	for _, c := range all {
		c.wantClose(websocket.CloseServiceRestart)
	}
	l.wantExit(0)
	again := dialWith(t, trusting, at)
	again.send(websocket.TextMessage, "back")
	again.want(websocket.TextMessage, "back")
}

// A configuration that would not accept what is live, or none at all, leaves everything as it is.
func TestUpgradeIsRefusedByName(t *testing.T) {
	config := clitest.WriteFile(t, "conf", "raw = publish\n")
	l := startLineage(t, "--config", config)
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(l.url, "http")+"/ws/news", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if code, _, stderr := runOnce(nil, "upgrade", "--abort", "--url", l.internal); code != 1 || !strings.Contains(stderr, "no upgrade is under way") {
		t.Errorf("abort: exit code %d, %s", code, stderr)
	}
	for _, test := range []struct{ config, why string }{
		{"raw = off\n", "its configuration would not accept what is live: --raw off, and 1 of its clients are connected"},
		{"raw = publish\nmax-connections = 0x\n", "max-connections"},
		{"raw = publish\ndata-dir = " + t.TempDir() + "\n", "channels are backed by data directory, and not by memory"},
	} {
		if err := os.WriteFile(config, []byte(test.config), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := runOnce(nil, "upgrade", "--url", l.internal); code != 1 || !strings.Contains(stderr, test.why) {
			t.Errorf("with %q: exit code %d, %s", test.config, code, stderr)
		}
	}
	if err := conn.WriteMessage(websocket.TextMessage, []byte("still here")); err != nil {
		t.Error(err)
	}
	conn.SetReadDeadline(time.Now().Add(clitest.Patience)) // ignored: then it waits for the test's end
	if _, p, err := conn.ReadMessage(); string(p) != "still here" {
		t.Errorf("got %q, %v", p, err)
	}
}
