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
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/bench/child"
	"sluice/cmd/internal/clitest"
)

// lineage is a gateway that is replaced by new processes. They all write to one pipe.
type lineage struct {
	*sluice
	pid int // of the process that serves
}

// startLineage runs the real binary, whose new processes end with the test.
func startLineage(t *testing.T, args ...string) *lineage {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, child.Listeners(args)...)
	cmd.Env = child.Environ()
	return startLineageOf(t, cmd)
}

// startLineageOf is startLineage for a command of its own.
func startLineageOf(t *testing.T, cmd *exec.Cmd) *lineage {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log := new(child.Log)
	var writing sync.WaitGroup
	writing.Go(func() { io.Copy(log, out) }) // ignored: it ends with the last process
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close() // ignored: the process has its own
	exited := make(chan struct{})
	go func() {
		cmd.Wait() // ignored: the code says it all
		close(exited)
	}()
	l := &lineage{pid: cmd.Process.Pid, sluice: &sluice{t: t, log: serveLog{log}, exited: exited, code: func() int { return cmd.ProcessState.ExitCode() }}}
	t.Cleanup(func() {
		syscall.Kill(l.pid, syscall.SIGKILL) // ignored: it has ended
		cmd.Process.Kill()                   // ignored: likewise
		writing.Wait()
		out.Close()
		<-exited
		if t.Failed() {
			t.Logf("the processes wrote:\n%s", log)
		}
	})
	l.awaitReady()
	return l
}

// upgrade replaces the process that serves.
func (l *lineage) upgrade() (report struct {
	PID    int
	Moved  int
	Secure int
	Frozen time.Duration `json:"frozen_ns"`
	Took   time.Duration `json:"took_ns"`
}) {
	l.t.Helper()
	code, stdout, stderr := runOnce(nil, "upgrade", "--json", "--url", l.internal)
	if code != 0 {
		l.t.Fatalf("upgrade: exit code %d: %s", code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		l.t.Fatalf("%q: %v", stdout, err)
	}
	l.pid = report.PID
	return report
}

// series checks that numbered messages "NAME NUMBER" of each publisher come without a hole.
type series struct {
	next map[string]int
}

func (s *series) take(text string) error {
	var name string
	var number int
	if _, err := fmt.Sscanf(text, "%s %d", &name, &number); err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	if s.next == nil {
		s.next = make(map[string]int)
	}
	if want := s.next[name]; number != want {
		return fmt.Errorf("%s: message %d, want %d", name, number, want)
	}
	s.next[name]++
	return nil
}

func TestUpgradeUnderLoadLosesNothing(t *testing.T) {
	const upgrades = 3
	l := startLineage(t, "--insecure", "--address-rate", "off")
	ws := "ws" + strings.TrimPrefix(l.url, "http")
	open := func(path string, first ...string) *websocket.Conn {
		conn, _, err := websocket.DefaultDialer.Dial(ws+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetReadDeadline(time.Now().Add(clitest.Patience)) // ignored: then it waits for the test's end
		for _, text := range first {
			if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := conn.ReadMessage(); err != nil {
				t.Fatal(err)
			}
		}
		return conn
	}
	var stop atomic.Bool
	var last [2]atomic.Int64 // of each publisher, once it has stopped
	var publishing, reading sync.WaitGroup
	stopped := make(chan struct{})
	read := func(what string, next func() (texts []string, err error)) {
		reading.Go(func() {
			var s series
			for {
				texts, err := next()
				if err != nil {
					t.Errorf("%s: %v, after %v", what, err, s.next)
					return
				}
				for _, text := range texts {
					if err := s.take(text); err != nil {
						t.Errorf("%s: %v", what, err)
						return
					}
				}
				select {
				case <-stopped:
					if s.next["ws"] == int(last[0].Load())+1 && s.next["http"] == int(last[1].Load())+1 {
						return
					}
				default:
				}
			}
		})
	}
	raw := open("/ws/news")
	read("raw", func() ([]string, error) {
		_, p, err := raw.ReadMessage()
		return []string{string(p)}, err
	})
	record := open("/ws/news?format=json")
	read("json", func() ([]string, error) {
		var r struct{ Data string }
		_, p, err := record.ReadMessage()
		if err == nil {
			err = json.Unmarshal(p, &r)
		}
		return []string{r.Data}, err
	})
	session := open("/connection/websocket", `{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"news"}}`)
	read("centrifugo", func() (texts []string, err error) {
		_, p, err := session.ReadMessage()
		for line := range strings.Lines(string(p)) {
			var push struct {
				Push struct{ Pub struct{ Data string } }
			}
			if err := json.Unmarshal([]byte(line), &push); err != nil {
				return nil, err
			}
			if text := push.Push.Pub.Data; text != "" {
				texts = append(texts, text)
			}
		}
		return texts, err
	})
	stream, err := http.Get(l.url + "/sse/news")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	lines := bufio.NewReader(stream.Body)
	read("sse", func() ([]string, error) {
		for {
			line, err := lines.ReadString('\n')
			if text, ok := strings.CutPrefix(line, "data: "); ok || err != nil {
				return []string{strings.TrimSpace(text)}, err
			}
		}
	})

	// One publisher over WebSocket, which moves itself, and one over HTTP with a connection that it keeps.
	publisher := open("/ws/news?echo=off")
	publishing.Go(func() {
		for n := 0; ; n++ {
			if err := publisher.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "ws %d", n)); err != nil {
				t.Errorf("publish: %v", err)
			}
			if last[0].Store(int64(n)); stop.Load() || t.Failed() {
				return
			}
			time.Sleep(200 * time.Microsecond)
		}
	})
	publishing.Go(func() {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: clitest.Patience}
		defer client.CloseIdleConnections()
		for n := 0; ; n++ {
			resp, err := client.Post(l.internal+"/publish/news", "text/plain", strings.NewReader(fmt.Sprintf("http %d", n)))
			if err != nil {
				t.Errorf("POST: %v", err)
				return
			}
			body, _ := io.ReadAll(resp.Body) // ignored: the status says it
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("POST: %s %s", resp.Status, body)
			}
			if last[1].Store(int64(n)); stop.Load() || t.Failed() {
				return
			}
		}
	})

	for i := range upgrades {
		// A client in the middle of its request, which it ends in the next process.
		late, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer late.Close()
		io.WriteString(late, "GET /ws/other HTTP/1.1\r\nHost: x\r\nUpgr") // ignored: the answer is missing then
		at := last[0].Load()
		r := l.upgrade()
		t.Logf("upgrade %d: %d connections, frozen for %v of %v", i, r.Moved, r.Frozen, r.Took)
		if r.Moved < 5 {
			t.Errorf("%d connections were moved, want 5", r.Moved)
		}
		io.WriteString(late, "ade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n") // ignored: likewise
		late.SetReadDeadline(time.Now().Add(clitest.Patience))                                                                                            // ignored: likewise
		if answer, err := bufio.NewReader(late).ReadString('\n'); !strings.HasPrefix(answer, "HTTP/1.1 101 ") {
			t.Errorf("the handshake that moved was answered %q, %v", answer, err)
		}
		for end := time.Now().Add(clitest.Patience); last[0].Load() < at+100 && !t.Failed() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if i == 0 {
			l.wantExit(0)
		}
	}
	stop.Store(true)
	publishing.Wait()
	close(stopped)
	// One more of each, so that nobody waits who has had the last one before.
	if err := publisher.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "ws %d", last[0].Add(1))); err != nil {
		t.Errorf("publish: %v", err)
	}
	if status, answer := post(t, l.sluice, "/publish/news", "", fmt.Sprintf("http %d", last[1].Add(1))); status != http.StatusOK {
		t.Errorf("publish: %d %v", status, answer)
	}
	reading.Wait()
}

// With a data directory, the store moves when the new process serves: until then, publishers try again.
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
		for end := time.Now().Add(clitest.Patience); next > 0; time.Sleep(time.Millisecond) {
			status, answer := post(t, l.sluice, "/publish/news", "", fmt.Sprintf("x %d", next))
			if status == http.StatusOK {
				break
			}
			if status != http.StatusServiceUnavailable || time.Now().After(end) {
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
