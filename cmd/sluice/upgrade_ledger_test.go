package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	pid    int    // of the process that serves, or of one before it
	points string // the directory that says what happens at points of an upgrade (startPoints)
}

// envLineage marks the processes of a lineage.
const envLineage = "_LINEAGE"

// startLineage runs the real binary, whose new processes end with the test.
func startLineage(t *testing.T, args ...string) *lineage {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return startLineageOf(t, exec.Command(path, child.Listeners(args)...))
}

// withPoints builds the command with points (package handover), once.
var withPoints = sync.OnceValues(func() (string, error) {
	path, err := binary()
	if err != nil {
		return "", err
	}
	path += "-points"
	return path, child.Build(context.Background(), path, "-tags", "points")
})

// startPoints is startLineage for processes that are killed or stopped at points of an upgrade.
func startPoints(t *testing.T, args ...string) *lineage {
	t.Helper()
	path, err := withPoints()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, child.Listeners(args)...)
	dir := t.TempDir()
	cmd.Env = append(child.Environ(), "_SLUICE_POINTS="+dir)
	l := startLineageOf(t, cmd)
	l.points = dir
	return l
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
	if cmd.Env == nil {
		cmd.Env = child.Environ()
	}
	mark := fmt.Sprintf("%s=%d.%p", envLineage, os.Getpid(), log)
	cmd.Env = append(cmd.Env, mark)
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
		cmd.Process.Kill() // ignored: it has ended
		<-exited
		killMarked(mark)
		writing.Wait()
		out.Close()
		if t.Failed() {
			t.Logf("the processes wrote:\n%s", log)
		}
	})
	l.awaitReady()
	return l
}

// killMarked kills the processes that have the mark in their environment.
func killMarked(mark string) {
	for again := true; again; { // one may be starting another
		again = false
		all, _ := filepath.Glob("/proc/[0-9]*/environ") // fails only for a bad pattern
		for _, path := range all {
			env, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(env), mark+"\x00") {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
				again = true
			}
		}
	}
}

// upgradeReport is what sluice upgrade says.
type upgradeReport struct {
	PID    int
	Moved  int
	Secure int
	Frozen time.Duration `json:"frozen_ns"`
	Took   time.Duration `json:"took_ns"`
}

// upgrade replaces the process that serves.
func (l *lineage) upgrade() (report upgradeReport) {
	l.t.Helper()
	report, err := l.tryUpgrade()
	if err != nil {
		l.t.Fatalf("upgrade: %v", err)
	}
	return report
}

// tryUpgrade is upgrade for any goroutine.
func (l *lineage) tryUpgrade() (report upgradeReport, err error) {
	code, stdout, stderr := runOnce(nil, "upgrade", "--json", "--url", l.internal)
	if code != 0 {
		return report, fmt.Errorf("exit code %d: %s", code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		return report, fmt.Errorf("%q: %w", stdout, err)
	}
	l.pid = report.PID
	return report, nil
}

// wantRefused tries to replace the process that serves, and wants an error that says why not.
func (l *lineage) wantRefused(why string) {
	l.t.Helper()
	if _, err := l.tryUpgrade(); err == nil || !strings.Contains(err.Error(), why) {
		l.t.Errorf("upgrade: got %v, want an error with %q", err, why)
	}
}

// at says what happens at a point, such as "old.ready".
func (l *lineage) at(point, action string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.points, point), []byte(action), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// reached waits for a point, and returns the process that has come there.
func (l *lineage) reached(point, action string) (pid int) {
	l.t.Helper()
	role, name, _ := strings.Cut(point, ".")
	return int(l.log.wait(l.t, role+" "+name+": "+action)["pid"].(float64))
}

// ledger is clients of every protocol and publishers of numbered messages. Each client checks that it gets each message once,
// in its publisher's order.
type ledger struct {
	*lineage
	publisher  *websocket.Conn
	sent       map[string]*atomic.Int64 // by publisher
	stop       atomic.Bool
	publishing sync.WaitGroup
	readers    sync.WaitGroup
	cut        atomic.Bool  // connections may end
	closed     atomic.Int64 // of the readers' connections
}

// ledgerReaders is how many clients read.
const ledgerReaders = 4

// series checks that messages "NAME NUMBER" of each publisher come without a hole.
type series struct {
	next map[string]int
}

func (s *series) take(text string) error {
	var name string
	var number int
	if _, err := fmt.Sscanf(text, "%s %d", &name, &number); err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	if want := s.next[name]; number != want {
		return fmt.Errorf("%s: message %d, want %d", name, number, want)
	}
	s.next[name]++
	return nil
}

// startLedger connects clients, and publishes by "ws", a client that moves itself, and by "http", through a connection that
// is kept.
func startLedger(l *lineage, publishers ...string) *ledger {
	t := l.t
	t.Helper()
	g := &ledger{lineage: l, sent: make(map[string]*atomic.Int64)}
	t.Cleanup(g.readers.Wait) // after their connections are closed
	raw := g.open("/ws/news")
	g.read("raw", func() ([]string, error) {
		_, p, err := raw.ReadMessage()
		return []string{string(p)}, err
	})
	records := g.open("/ws/news?format=json")
	g.read("json", func() ([]string, error) {
		var r struct{ Data string }
		_, p, err := records.ReadMessage()
		if err == nil {
			err = json.Unmarshal(p, &r)
		}
		return []string{r.Data}, err
	})
	session := g.open("/connection/websocket", `{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"news"}}`)
	g.read("centrifugo", func() (texts []string, err error) {
		_, p, err := session.ReadMessage()
		for line := range strings.Lines(string(p)) {
			var push struct {
				Push struct{ Pub struct{ Data string } }
			}
			if err := json.Unmarshal([]byte(line), &push); err != nil {
				return nil, err
			}
			if line = strings.TrimSpace(line); line == "{}" { // a ping
				if err := session.WriteMessage(websocket.TextMessage, []byte(line)); err != nil {
					return nil, err
				}
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
	t.Cleanup(func() { stream.Body.Close() })
	lines := bufio.NewReader(stream.Body)
	g.read("sse", func() ([]string, error) {
		for {
			line, err := lines.ReadString('\n')
			if text, ok := strings.CutPrefix(line, "data: "); ok || err != nil {
				return []string{strings.TrimSpace(text)}, err
			}
		}
	})
	g.publisher = g.open("/ws/news?echo=off")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: clitest.Patience}
	t.Cleanup(client.CloseIdleConnections)
	for _, name := range publishers {
		publish := g.publishWS
		if name == "http" {
			publish = func(text string) error {
				for end := time.Now().Add(clitest.Patience); ; time.Sleep(10 * time.Millisecond) {
					resp, err := client.Post(l.internal+"/publish/news", "text/plain", strings.NewReader(text))
					if err != nil {
						return err
					}
					body, _ := io.ReadAll(resp.Body) // ignored: the status says it
					resp.Body.Close()                // ignored: it was read
					switch {
					case resp.StatusCode == http.StatusOK:
						return nil
					case resp.StatusCode == http.StatusServiceUnavailable && bytes.Contains(body, []byte("pushed_back")) && time.Now().Before(end):
						// Not published: the other publisher was faster than the readers, as after the process was stopped.
					default:
						return fmt.Errorf("%s %s", resp.Status, body)
					}
				}
			}
		}
		sent := new(atomic.Int64)
		g.sent[name] = sent
		g.publishing.Go(func() {
			for !g.stop.Load() && !t.Failed() {
				if err := publish(fmt.Sprintf("%s %d", name, sent.Load())); err != nil {
					if !g.cut.Load() {
						t.Errorf("publish by %s: %v", name, err)
					}
					return
				}
				sent.Add(1)
				time.Sleep(200 * time.Microsecond) // it publishes at a rate
			}
		})
	}
	t.Cleanup(func() { // before the clients' own: they would miss the processes
		g.stop.Store(true)
		g.publishing.Wait()
	})
	return g
}

func (g *ledger) publishWS(text string) error {
	return g.publisher.WriteMessage(websocket.TextMessage, []byte(text))
}

// open connects a client, which sends what comes first and reads an answer to each.
func (g *ledger) open(path string, first ...string) *websocket.Conn {
	g.t.Helper()
	conn := dial(g.t, g.sluice, path).conn
	for _, text := range first {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			g.t.Fatal(err)
		}
		if _, _, err := conn.ReadMessage(); err != nil {
			g.t.Fatal(err)
		}
	}
	conn.SetReadDeadline(time.Now().Add(4 * clitest.Patience)) // ignored: then it waits for the test's end
	return conn
}

// read checks what a client gets, until the end.
func (g *ledger) read(what string, next func() (texts []string, err error)) {
	g.readers.Go(func() {
		s := series{next: make(map[string]int)}
		for {
			texts, err := next()
			if err != nil {
				var timeout interface{ Timeout() bool }
				if g.cut.Load() && !(errors.As(err, &timeout) && timeout.Timeout()) {
					g.closed.Add(1)
				} else {
					g.t.Errorf("%s: %v, after %v", what, err, s.next)
				}
				return
			}
			for _, text := range texts {
				if text == "end 0" {
					for name, sent := range g.sent {
						if got, want := s.next[name], int(sent.Load()); got != want {
							g.t.Errorf("%s: %d messages of %s, want %d", what, got, name, want)
						}
					}
					return
				}
				if err := s.take(text); err != nil {
					g.t.Errorf("%s: %v", what, err)
					return
				}
			}
		}
	})
}

// more waits until each publisher has published some more.
func (g *ledger) more(n int64) {
	g.t.Helper()
	for name, sent := range g.sent {
		at := sent.Load()
		for end := time.Now().Add(clitest.Patience); sent.Load() < at+n && !g.t.Failed(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				g.t.Fatalf("%s publishes nothing any more", name)
			}
		}
	}
}

// balance ends the publishers, and waits until each client has everything.
func (g *ledger) balance() {
	g.t.Helper()
	g.stop.Store(true)
	g.publishing.Wait()
	if err := g.publishWS("end 0"); err != nil {
		g.t.Errorf("publish: %v", err)
	}
	g.readers.Wait()
}

// mayEnd says that connections may end from now on.
func (g *ledger) mayEnd() { g.cut.Store(true) }

// wantAllClosed waits until the connections of all readers are closed. What they had got until then has no hole.
func (g *ledger) wantAllClosed() {
	g.t.Helper()
	g.stop.Store(true)
	g.publishing.Wait()
	g.readers.Wait()
	if n := g.closed.Load(); n != ledgerReaders {
		g.t.Errorf("%d connections were closed, want all %d", n, ledgerReaders)
	}
}

// wantService checks that new clients are served.
func (g *ledger) wantService() {
	g.t.Helper()
	c := dial(g.t, g.sluice, "/ws/other")
	c.send(websocket.TextMessage, "hello")
	c.want(websocket.TextMessage, "hello")
}
