package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
)

// peer is a WebSocket client that shares no code with the gateway.
type peer struct {
	t    *testing.T
	conn *websocket.Conn
}

func dial(t *testing.T, s *sluice, path string) peer {
	t.Helper()
	return dialWith(t, websocket.DefaultDialer, "ws"+strings.TrimPrefix(s.url, "http")+path)
}

func dialWith(t *testing.T, d *websocket.Dialer, url string) peer {
	t.Helper()
	conn, resp, err := d.Dial(url, nil)
	if err != nil {
		t.Fatalf("dial %s: %v (%+v)", url, err, resp)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(clitest.Patience)); err != nil {
		t.Fatal(err)
	}
	return peer{t, conn}
}

// join dials a channel and waits until what it sends comes back: from then on
// it gets everything that is published.
func join(t *testing.T, s *sluice, path, name string) peer {
	t.Helper()
	c := dial(t, s, path)
	c.send(websocket.TextMessage, "join "+name)
	c.want(websocket.TextMessage, "join "+name)
	return c
}

func (c peer) send(kind int, text string) {
	c.t.Helper()
	if err := c.conn.WriteMessage(kind, []byte(text)); err != nil {
		c.t.Fatalf("send %q: %v", text, err)
	}
}

// want reads up to the message, over joins of others.
func (c peer) want(kind int, text string) {
	c.t.Helper()
	for {
		k, p, err := c.conn.ReadMessage()
		if err != nil {
			c.t.Fatalf("waiting for %q: %v", text, err)
		}
		if k == kind && string(p) == text {
			return
		}
		if !strings.HasPrefix(string(p), "join ") {
			c.t.Fatalf("got %d %q, want %d %q", k, p, kind, text)
		}
	}
}

// wantClose reads the Close frame; the library answers it.
func (c peer) wantClose(code int) {
	c.t.Helper()
	for {
		_, p, err := c.conn.ReadMessage()
		if err == nil && strings.HasPrefix(string(p), "join ") {
			continue
		}
		if !websocket.IsCloseError(err, code) {
			c.t.Errorf("got %q, %v; want close code %d", p, err, code)
		}
		c.conn.Close() // ignored: as every client does then, and the gateway waits for it
		return
	}
}

// post publishes through the internal listener.
func post(t *testing.T, s *sluice, path, key, body string) (status int, answer map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clitest.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.internal+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Errorf("POST %s: status %d, no JSON: %v", path, resp.StatusCode, err)
	}
	return resp.StatusCode, answer
}

func TestRealBinaryCarriesAChat(t *testing.T) {
	s := start(t)
	a := join(t, s, "/ws", "a")
	b := join(t, s, "/", "b") // an upgrade on / is /ws
	echo := dial(t, s, "/echo")

	a.send(websocket.TextMessage, "hello, 世界")
	a.want(websocket.TextMessage, "hello, 世界")
	b.want(websocket.TextMessage, "hello, 世界")
	b.send(websocket.BinaryMessage, "\x00\xff")
	a.want(websocket.BinaryMessage, "\x00\xff")
	b.want(websocket.BinaryMessage, "\x00\xff")

	status, receipt := post(t, s, "/publish/lobby", "", "from a backend")
	if status != http.StatusOK || receipt["subscribers"] != 2.0 {
		t.Errorf("status %d, receipt %v; want 200 and 2 subscribers", status, receipt)
	}
	a.want(websocket.TextMessage, "from a backend")
	b.want(websocket.TextMessage, "from a backend")

	echo.send(websocket.TextMessage, "to myself") // the first it gets: nothing of the lobby reached it
	echo.want(websocket.TextMessage, "to myself")

	s.signal(syscall.SIGTERM)
	for _, c := range []peer{a, b, echo} {
		c.wantClose(websocket.CloseGoingAway)
	}
	s.wantExit(0)
	if r := s.log.wait(t, "stopping"); r["reason"] != "terminated" {
		t.Errorf("stopping for %q, want terminated", r["reason"])
	}
}

// With keys or namespaces, no raw client may publish just because --raw is publish.
func TestReadyNamesWhatDecidesAboutRawClients(t *testing.T) {
	key := "--token-hmac-secret-file=" + clitest.WriteFile(t, "secret", strings.Repeat("s", 40))
	namespaces := "--namespaces=" + clitest.WriteFile(t, "channels.json", "{}")
	const hook = "--connect-hook=http://127.0.0.1:1"
	for args, want := range map[string]string{
		"": "publish", "--raw=off": "off", key: "by keys", namespaces: "by namespaces", key + " " + namespaces: "by keys and namespaces",
		namespaces + " --raw=publish": "by namespaces", namespaces + " --raw=listen": "listen", key + " --insecure": "publish",
		hook: "by hooks", hook + " " + key + " --raw=auto": "by keys and hooks", hook + " --raw=listen": "listen", "--publish-hook=http://127.0.0.1:1": "publish",
	} {
		s := startHere(t, strings.Fields(args)...)
		if raw := s.log.wait(t, "ready")["raw"]; raw != want {
			t.Errorf("%q: raw = %v, want %s", args, raw, want)
		}
		s.stop()
	}
}

func TestStartIsToldInTwoRecords(t *testing.T) {
	s := start(t, "--max-connections", "100", "--loops", "2", "--max-message", "32KiB")
	ready, limits := s.log.wait(t, "ready"), s.log.wait(t, "limits")
	if ready["raw"] != "publish" {
		t.Errorf("ready: raw = %v, want publish", ready["raw"])
	}
	for key, want := range map[string]any{
		"connections": 100.0, "loops": 2.0, "message": "32KiB", "channel_buffer": "256KiB", "max_buffered": "512MiB",
	} {
		if limits[key] != want {
			t.Errorf("limits: %s = %v, want %v", key, limits[key], want)
		}
	}
	if because, _ := limits["because"].(string); !strings.HasPrefix(because, "--max-connections, file descriptor limit ") {
		t.Errorf("limits: because = %q", because)
	}
	s.stop()
}

// A client that does not answer its Close frame holds up the shutdown.
func silentClient(t *testing.T, s *sluice) {
	t.Helper()
	dial(t, s, "/ws")
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	s := start(t, "--close-timeout", "10m", "--shutdown-timeout", "10m")
	silentClient(t, s)
	s.signal(syscall.SIGINT)
	s.log.wait(t, "stopping")
	if r := s.log.wait(t, "draining"); r["open"] != 0.0 || r["closing"] != 1.0 || r["of"] != 1.0 {
		t.Errorf("the progress of the shutdown: %v", r)
	}
	s.signal(syscall.SIGTERM)
	s.wantExit(cli.ExitFailed)
	if text := s.log.String(); !strings.HasSuffix(text, "sluice: second signal (terminated): exiting immediately\n") {
		t.Errorf("stderr ends in %q", text)
	}
}

func TestShutdownThatTakesTooLongIsForced(t *testing.T) {
	s := start(t, "--close-timeout", "10m", "--shutdown-timeout", "100ms", "--drain-duration", "off")
	silentClient(t, s)
	s.signal(syscall.SIGTERM)
	s.wantExit(0)
	s.log.wait(t, "forced stop: connections were still open")
}

func TestRunLeavesNothingBehind(t *testing.T) {
	s := startHere(t, "serve")
	c := join(t, s, "/ws/news%2Fsport", "c")
	s.signal(os.Interrupt)
	c.wantClose(websocket.CloseGoingAway)
	s.wantExit(0) // goroutines are counted at the end of all tests
}

func TestListenersWithinReachOnlyLetListen(t *testing.T) {
	s := startHere(t, "--listen", "0.0.0.0:0")
	if !strings.HasPrefix(s.url, "http://localhost:") {
		t.Errorf("URL %s, want one with localhost", s.url)
	}
	c := dial(t, s, "/ws")
	c.send(websocket.TextMessage, "x")
	c.wantClose(websocket.ClosePolicyViolation)
	s.stop()

	s = startHere(t, "--listen", "0.0.0.0:0", "--raw", "publish")
	join(t, s, "/ws", "a").conn.Close()
	s.stop()
}

func TestInternalListenerCanBeOff(t *testing.T) {
	s := startHere(t, "--internal-listen", "off")
	if s.internal != "off" {
		t.Errorf("internal %q, want off", s.internal)
	}
	s.stop()
}

func TestInternalListenerDemandsItsKey(t *testing.T) {
	s := startHere(t, "--internal-listen", "0.0.0.0:0", "--api-key-file", clitest.WriteFile(t, "key", "\n sesame \n"))
	if status, _ := post(t, s, "/publish/lobby", "", "x"); status != http.StatusUnauthorized {
		t.Errorf("without the key: status %d, want 401", status)
	}
	if status, _ := post(t, s, "/publish/lobby", "sesame", "x"); status != http.StatusOK {
		t.Errorf("with the key: status %d, want 200", status)
	}
	s.stop()
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()

	s := start(t, "--listen", "unix:"+path)
	if s.url != "unix:"+path {
		t.Errorf("URL %q", s.url)
	}
	dialer := &websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return net.Dial("unix", path) }}
	c := dialWith(t, dialer, "ws://localhost/ws")
	c.send(websocket.TextMessage, "over a socket file")
	c.want(websocket.TextMessage, "over a socket file")

	code, _, stderr := runOnce(nil, "--listen", "unix:"+path, "--internal-listen", "off")
	want := "sluice: --listen unix:" + path + ": the socket is in use by another process; stop that process, or use another path\n"
	if code != cli.ExitFailed || stderr != want {
		t.Errorf("a second one: exit code %d, stderr %q; want %d, %q", code, stderr, cli.ExitFailed, want)
	}

	s.signal(syscall.SIGTERM)
	c.wantClose(websocket.CloseGoingAway)
	s.wantExit(0)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket file is left behind: %v", err)
	}
}

func TestFilesThatAreNoSocketsAreLeftAlone(t *testing.T) {
	path := clitest.WriteFile(t, "precious", "data")
	code, _, stderr := runOnce(nil, "--listen", "unix:"+path, "--internal-listen", "off")
	if code != cli.ExitFailed || !strings.HasSuffix(stderr, "the path exists and is not a socket; remove it, or use another path\n") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "data" {
		t.Errorf("the file is now %q, %v", data, err)
	}
}

func TestPageShowsWhereToPublish(t *testing.T) {
	s := startHere(t)
	if page := get(t, s.url+"/"); !strings.Contains(page, `"`+s.internal+`"`) {
		t.Errorf("the page does not name %s", s.internal)
	}
	s.stop()
	s = startHere(t, "--page", "off")
	if page := get(t, s.url+"/"); strings.Contains(page, "<html") {
		t.Errorf("--page off: %q", page)
	}
	s.stop()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("our own"), 0o644); err != nil {
		t.Fatal(err)
	}
	s = startHere(t, "--web-root", dir)
	if page := get(t, s.url+"/"); page != "our own" {
		t.Errorf("--web-root: %q", page)
	}
	s.stop()
}

// get returns the body of an answer, whatever its status.
func get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clitest.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
