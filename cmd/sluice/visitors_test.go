package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/bench/child"
	"sluice/cmd/internal/clitest"
)

// guests are visitors that the page of a gateway has brought.
type guests struct {
	t       *testing.T
	gateway *child.Process
	pid     int            // of their process
	before  map[string]int // the gateway's descriptors, before they came
	lines   *bufio.Scanner
	leave   context.CancelFunc // the page is closed
}

// asPage sends a request as the page does.
func asPage(ctx context.Context, t *testing.T, p *child.Process, scheme, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "POST", p.URL(scheme, path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "keep-alive")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig.InsecureSkipVerify = true // it is the test's own gateway
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// serveVisitors starts a gateway and brings visitors.
func serveVisitors(t *testing.T, scheme string, count int, flags ...string) *guests {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p, err := child.Serve(path, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	g := &guests{t: t, gateway: p, before: descriptors(p.PID())}
	g.bring(scheme, count)
	return g
}

func (g *guests) bring(scheme string, count int) {
	g.t.Helper()
	ctx, leave := context.WithCancel(g.t.Context())
	g.leave = leave
	resp := asPage(ctx, g.t, g.gateway, scheme, "/demo/visitors", fmt.Sprintf(`{"count":%d}`, count))
	if resp.StatusCode != http.StatusOK {
		g.t.Fatalf("the visitors are answered %s", resp.Status)
	}
	g.lines = bufio.NewScanner(resp.Body)
	g.want("all to connect", func(l map[string]any) bool { return l["connected"] == float64(count) })
	processes := children(g.gateway.PID())
	if len(processes) != 1 {
		g.t.Fatalf("the gateway has the children %v, want one", processes)
	}
	g.pid = processes[0]
}

// want returns the first line that fits.
func (g *guests) want(why string, fits func(l map[string]any) bool) map[string]any {
	g.t.Helper()
	timeout := time.AfterFunc(clitest.Patience, g.leave)
	defer timeout.Stop()
	for g.lines.Scan() {
		var line map[string]any
		if err := json.Unmarshal(g.lines.Bytes(), &line); err != nil {
			g.t.Fatalf("%s: %v", g.lines.Bytes(), err)
		}
		if fits(line) {
			return line
		}
	}
	g.t.Fatalf("waited for %s: the lines have ended: %v", why, g.lines.Err())
	return nil
}

// wantGone waits for the end of their process.
func (g *guests) wantGone() {
	g.t.Helper()
	for deadline := time.Now().Add(clitest.Patience); running(g.pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(g.pid, syscall.SIGKILL)
			g.t.Fatal("the visitors' process has stayed")
		}
	}
}

// running reports whether a process runs. One that nobody has waited for has ended, too.
func running(pid int) bool {
	state, _ := stat(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	return state != "" && state != "Z"
}

// stat returns a process's state, "" if there is none, and its parent.
func stat(file string) (state string, parent int) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", 0
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may contain anything
	fmt.Sscan(rest, &state, &parent)              // ignored: then it is not found
	return state, parent
}

// children returns the running processes that a process has started.
func children(pid int) (found []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // fails only for a bad pattern
	for _, f := range files {
		if state, parent := stat(f); parent == pid && state != "Z" {
			var n int
			fmt.Sscan(filepath.Base(filepath.Dir(f)), &n) // ignored: it is a number
			found = append(found, n)
		}
	}
	return found
}

// descriptors counts a process's files by what they are.
func descriptors(pid int) map[string]int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // fails only for a bad pattern
	found := map[string]int{}
	for _, f := range files {
		if target, err := os.Readlink(f); err == nil {
			kind, _, numbered := strings.Cut(target, ":[")
			if numbered && kind != "anon_inode" {
				target = kind // socket:[NUMBER], pipe:[NUMBER]
			}
			found[target]++
		}
	}
	return found
}

func TestVisitorsLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			testVisitors(t, scheme, 200, 50)
		})
	}
}

func testVisitors(t *testing.T, scheme string, count, cut int) {
	var flags []string
	if scheme == "https" {
		flags = []string{"--tls-listen", "127.0.0.1:0", "--tls-self-signed"}
	}
	g := serveVisitors(t, scheme, count, flags...)
	if kinds := descriptors(g.pid); kinds["socket"] != count || kinds["anon_inode:[eventpoll]"] > 1 {
		t.Errorf("the visitors' process has the descriptors %v, want %d sockets and nothing of the gateway's", kinds, count)
	}
	publish := func(n int) {
		t.Helper()
		for range n {
			if _, err := g.gateway.Post("/publish/lobby", "text/plain", "hello"); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(10)
	if l := g.want("all to receive all", func(l map[string]any) bool {
		return l["type"] == "ledger" && l["received"].(float64) >= float64(10*count)
	}); l["lost"] != 0.0 || l["repeated"] != 0.0 || l["p50"] == 0.0 {
		t.Errorf("%v", l)
	}
	if resp := asPage(t.Context(), t, g.gateway, scheme, "/demo/visitors/cut", fmt.Sprintf(`{"count":%d}`, cut)); resp.StatusCode != http.StatusAccepted {
		t.Errorf("the cut is answered %s", resp.Status)
	}
	g.want("some to go dark", func(l map[string]any) bool { return l["type"] == "open" })
	publish(5)
	back := g.want("those to come back", func(l map[string]any) bool { return l["type"] == "back" })
	if back["cut"] != float64(cut) || back["lost"] != 0.0 || back["repeated"] != 0.0 {
		t.Errorf("%v", back)
	}
	if l := g.want("the ledger", func(l map[string]any) bool {
		return l["type"] == "ledger" && l["received"].(float64) >= float64(15*count)
	}); l["lost"] != 0.0 || l["repeated"] != 0.0 {
		t.Errorf("%v", l)
	}
	g.leave()
	g.wantGone()
	g.bring(scheme, 3) // the next page can
	g.leave()
	g.wantGone()
	if err := g.gateway.Stop(); err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
}

// Neither the visitors nor anything of theirs stays behind.
func TestVisitorsEndWithTheGatewayHoweverItEnds(t *testing.T) {
	t.Parallel()
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		g := serveVisitors(t, "http", 20)
		g.gateway.Kill()
		g.wantGone()
	})
	t.Run("shut down", func(t *testing.T) {
		t.Parallel()
		g := serveVisitors(t, "http", 20)
		if err := g.gateway.Stop(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		g.wantGone()
	})
	t.Run("shut down while they are stopped", func(t *testing.T) {
		t.Parallel()
		g := serveVisitors(t, "http", 20)
		if err := syscall.Kill(g.pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		g.leave()
		g.wantGone()
		if err := g.gateway.Stop(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	t.Run("the page is closed", func(t *testing.T) {
		t.Parallel()
		g := serveVisitors(t, "http", 20)
		g.leave()
		g.wantGone()
		for deadline := time.Now().Add(clitest.Patience); ; time.Sleep(5 * time.Millisecond) {
			kinds := descriptors(g.gateway.PID())
			diff := cmp.Diff([]int{g.before["pipe"], g.before["anon_inode:[pidfd]"]}, []int{kinds["pipe"], kinds["anon_inode:[pidfd]"]})
			if diff == "" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the gateway keeps pipes or handles of processes: %s", diff)
			}
		}
	})
}
