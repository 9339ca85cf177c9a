package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"

	"sluice/cmd/internal/clitest"
)

// dialSmall is dial for a client whose receive buffer has so many bytes from the beginning.
func dialSmall(l *lineage, path string, bytes int) peer {
	l.t.Helper()
	small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bytes) }); e != nil {
			return e
		}
		return err
	}}
	return dialWith(l.t, &websocket.Dialer{NetDialContext: small.DialContext}, "ws"+strings.TrimPrefix(l.url, "http")+path)
}

// Clients with a window of a few hundred bytes, each blocked inside a frame, are sent the rest of it by the next processes.
func TestUpgradeOfReadersWithATinyWindow(t *testing.T) {
	t.Parallel()
	const readers, messages, size = 3, 3, 12 << 10
	l := startLineage(t, "--raw", "publish", "--send-buffer", "4K", "--write-timeout", "off", "--address-rate", "off")
	var all []peer
	for range readers {
		c := dialSmall(l, "/ws/big", 2048)
		all = append(all, c)
		for joined := false; !joined; { // those of the others come, too
			c.send(websocket.TextMessage, fmt.Sprint("join ", len(all)))
			_, p, err := c.conn.ReadMessage()
			if err != nil {
				t.Fatal(err)
			}
			joined = string(p) == fmt.Sprint("join ", len(all))
		}
	}
	text := func(n int) string { return strings.Repeat(fmt.Sprintf("%d%07d", n, n), size/8) }
	for n := range messages {
		if status, answer := post(t, l.sluice, "/publish/big", "", text(n)); status != http.StatusOK {
			t.Fatalf("publish: %d %v", status, answer)
		}
	}
	for range 2 {
		l.awaitMetric(readers, "sluice_blocked_connections", "", "")
		if r := l.upgrade(); r.Moved != readers {
			t.Errorf("%d connections were moved, want %d", r.Moved, readers)
		}
	}
	l.awaitMetric(readers, "sluice_blocked_connections", "", "")
	var reading sync.WaitGroup
	for i, c := range all {
		reading.Go(func() {
			c.conn.SetReadDeadline(time.Now().Add(4 * clitest.Patience)) // ignored: then it waits for the test's end
			for n := 0; n < messages; {
				_, p, err := c.conn.ReadMessage()
				if err != nil {
					t.Errorf("reader %d: %v after %d messages", i, err, n)
					return
				}
				if strings.HasPrefix(string(p), "join ") {
					continue
				}
				if string(p) != text(n) {
					t.Errorf("reader %d: message %d has %d bytes, and is not what was published", i, n, len(p))
					return
				}
				n++
			}
		})
	}
	reading.Wait()
}

// Publishers that wait in a full channel are answered once each by the next processes, and what they publish is there once.
func TestUpgradeWithAFullChannel(t *testing.T) {
	t.Parallel()
	publishers, size := 100, 60_000 // 6 MB in all, and the log has 4 MiB
	if os.Getenv("SLUICE_TEST_UPGRADES") != "" {
		publishers, size = 1000, 8000
	}
	rights := clitest.WriteFile(t, "namespaces", `{"without_namespace":{"allow_publish_for_client":true,"allow_publish_for_anonymous":true,
		"allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true,"presence":true,"join_leave":true,"force_push_join_leave":true}}`)
	l := startLineage(t, "--insecure", "--namespaces", rights, "--raw", "publish", "--send-buffer", "4K", "--channel-buffer", "4M",
		"--write-timeout", "off", "--address-rate", "off")
	reader := dialSmall(l, "/ws/big", 16<<10)
	reader.send(websocket.TextMessage, "join")
	reader.want(websocket.TextMessage, "join")
	const enter = `{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"big","join_leave":true}}` + "\n" + `{"id":3,"ping":{}}`
	session := func(text string) *websocket.Conn {
		conn := dial(t, l.sluice, "/connection/websocket").conn
		if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	watcher := session(enter)
	readUntil(t, watcher, `"id":3`)
	seen := make(chan string, 1) // of a client that comes and goes
	go func() {
		var joinsAndLeaves strings.Builder
		for !strings.Contains(joinsAndLeaves.String(), `"leave"`) {
			_, p, err := watcher.ReadMessage()
			if err != nil {
				fmt.Fprint(&joinsAndLeaves, err)
				break
			}
			for line := range strings.Lines(string(p)) {
				if strings.Contains(line, `"join"`) || strings.Contains(line, `"leave"`) {
					joinsAndLeaves.WriteString(line)
				}
			}
		}
		seen <- joinsAndLeaves.String()
	}()
	var all []*websocket.Conn
	for i := range publishers {
		message := fmt.Sprintf(`{"id":1,"connect":{}}`+"\n"+`{"id":2,"publish":{"channel":"big","data":"%d %s"}}`+"\n"+`{"id":3,"ping":{}}`, i, strings.Repeat("x", size))
		all = append(all, session(message))
	}
	l.awaitMetric(float64(publishers)/10, "sluice_push_backs_total", "", "") // about a quarter of the messages finds no room
	comes := session(enter)                                                  // and what others are told of it does not either
	readUntil(t, comes, `"id":3`)
	go func() { // what is published: it reads fast
		for {
			if _, _, err := comes.NextReader(); err != nil {
				return
			}
		}
	}()
	for range 2 {
		l.awaitMetric(1, "sluice_blocked_connections", "", "")
		if r := l.upgrade(); r.Moved != publishers+3 {
			t.Errorf("%d connections were moved, want %d", r.Moved, publishers+3)
		}
	}
	reader.conn.SetReadDeadline(time.Now().Add(4 * clitest.Patience)) // ignored: then it waits for the test's end
	got := make([]int, publishers)
	for range publishers {
		var i int
		var rest string
		_, p, err := reader.conn.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseTryAgainLater) {
			t.Skip("the upgrades took so long that the reader was closed as too slow") // as it should be after 16 s
		}
		if err == nil {
			_, err = fmt.Sscanf(string(p), `"%d %s`, &i, &rest)
		}
		if err != nil || len(rest) != size+1 || i < 0 || i >= publishers {
			t.Fatalf("got %.20q of %d bytes: %v", p, len(p), err)
		}
		got[i]++
	}
	if err := comes.WriteMessage(websocket.TextMessage, []byte(`{"id":4,"unsubscribe":{"channel":"big"}}`)); err != nil {
		t.Error(err)
	}
	// The watcher's own join comes first.
	if got := <-seen; strings.Count(got, `"join"`) != 2 || strings.Count(got, `"leave"`) != 1 {
		t.Errorf("joins and leaves: %s, want each once", got)
	}
	for i, conn := range all {
		if got[i] != 1 {
			t.Errorf("message %d was published %d times", i, got[i])
		}
		answers := readUntil(t, conn, `"id":3`)
		if strings.Count(answers, `{"id":2,"publish":{}}`) != 1 {
			t.Errorf("publisher %d was answered %s", i, answers)
		}
	}
}

// readUntil reads what comes, until it has this in it.
func readUntil(t *testing.T, conn *websocket.Conn, end string) string {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(clitest.Patience)) // ignored: then it waits for the test's end
	var got strings.Builder
	for !strings.Contains(got.String(), end) {
		_, p, err := conn.ReadMessage()
		if err != nil {
			t.Fatalf("%v, after %q", err, got.String())
		}
		got.Write(append(p, '\n'))
	}
	return got.String()
}

// A token whose key the old process does not have yet is verified by the new one.
func TestUpgradeWithTokensThatWait(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	asked, ended := make(chan struct{}), make(chan struct{})
	var n atomic.Int64
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) {
		case 1: // of the old process, which starts without keys
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2: // it asks again
			close(asked)
			select {
			case <-ended:
			case <-r.Context().Done():
			}
		default: // of the new process
			fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"%s"}]}`, encode(public)) // ignored: the test fails later
		}
	}))
	t.Cleanup(keys.Close)
	t.Cleanup(func() { close(ended) })
	l := startPoints(t, "--jwks-url", keys.URL, "--loops", "1")
	text := encode([]byte(`{"alg":"EdDSA","kid":"k"}`)) + "." + encode(fmt.Appendf(nil, `{"sub":"42","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	token := text + "." + encode(ed25519.Sign(private, []byte(text)))
	var waiting []*websocket.Conn
	for range 5 {
		waiting = append(waiting, dial(t, l.sluice, "/connection/websocket").conn)
	}
	select { // which it does after some seconds, and is answered within ten
	case <-asked:
	case <-time.After(clitest.Patience):
		t.Fatal("the key set was not fetched again")
	}
	l.at("hold", "")
	l.at("old.copied", "hold")
	answered := l.tryLater()
	l.reached("old.copied", "hold")
	for _, conn := range waiting { // for two seconds at most
		message := fmt.Sprintf(`{"id":1,"connect":{"token":"%s"}}`, token) + "\n" + `{"id":2,"ping":{}}`
		if err := conn.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	last := dial(t, l.sluice, "/connection/websocket").conn // the loop has read them when it answers this one
	if err := last.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"connect":{"token":"none"}}`)); err != nil {
		t.Fatal(err)
	}
	if _, p, err := last.ReadMessage(); !websocket.IsCloseError(err, 3500) {
		t.Errorf("a bad token is answered %s, %v", p, err)
	}
	if err := os.Remove(filepath.Join(l.points, "hold")); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	l.wantExit(0)
	for _, conn := range waiting {
		if got := readUntil(t, conn, `"id":2`); strings.Count(got, `{"id":1,"connect":{"client":"`) != 1 {
			t.Errorf("got %s, want that it is connected", got)
		}
	}
}
