package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/bench/child"
	"sluice/cmd/internal/clitest"
)

// awaitMetric waits until a metric is at least so much.
func (l *lineage) awaitMetric(least float64, name, label, value string) {
	l.t.Helper()
	var got float64
	for end := time.Now().Add(clitest.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got = l.metric(name, label, value); got >= least {
			return
		}
	}
	l.t.Fatalf("%s is %v, want %v or more", name, got, least)
}

// metric returns a metric's value now.
func (l *lineage) metric(name, label, value string) float64 {
	l.t.Helper()
	resp, err := http.Get(l.internal + "/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	m, err := child.ReadMetrics(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return m.Sum(name, label, value)
}

// A client that has read a part of a frame, and publishers that wait because of it, move as they are.
func TestUpgradeInTheMiddleOfFrames(t *testing.T) {
	t.Parallel()
	const publishers, each = 20, 5
	l := startLineage(t, "--raw", "publish", "--channel-buffer", "2M", "--address-rate", "off")
	var readers []peer
	for range 5 {
		c := dial(t, l.sluice, "/ws/big")
		c.send(websocket.TextMessage, "join")
		for joined := false; !joined; { // what others send there comes, too
			_, p, err := c.conn.ReadMessage()
			if err != nil {
				t.Fatal(err)
			}
			joined = string(p) == "join"
		}
		readers = append(readers, c)
	}
	var sending sync.WaitGroup
	for i := range publishers {
		conn := dial(t, l.sluice, "/ws/big?echo=off").conn
		go func() { // what others send: it reads fast
			for {
				if _, _, err := conn.NextReader(); err != nil {
					return
				}
			}
		}()
		sending.Go(func() {
			for n := range each {
				text := fmt.Sprintf("p%d %d %s", i, n, strings.Repeat(fmt.Sprintf("%03d%02d", i, n), 8000))
				if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
					t.Errorf("publisher %d: %v", i, err)
					return
				}
			}
		})
	}
	l.awaitMetric(1, "sluice_push_backs_total", "", "")
	l.awaitMetric(float64(len(readers)), "sluice_blocked_connections", "", "")
	// From now on a client that does not read is closed as too slow after some seconds, as it should be: on a machine that
	// needs so long for two upgrades there is nothing to see.
	var tooSlow atomic.Bool
	first := l.upgrade()
	l.upgrade()
	var reading sync.WaitGroup
	for _, c := range readers {
		reading.Go(func() {
			c.conn.SetReadDeadline(time.Now().Add(clitest.Patience)) // ignored: then it waits for the test's end
			s := series{next: make(map[string]int)}
			for got := 0; got < publishers*each; {
				_, p, err := c.conn.ReadMessage()
				if websocket.IsCloseError(err, 1013) {
					tooSlow.Store(true)
					return
				}
				if err != nil {
					t.Errorf("after %d messages: %v", got, err)
					return
				}
				if string(p) == "join" {
					continue
				}
				name, rest, _ := strings.Cut(string(p), " ")
				number, body, _ := strings.Cut(rest, " ")
				var i, n int
				fmt.Sscanf(name+" "+number, "p%d %d", &i, &n) // ignored: the body is another one then
				if err := s.take(name + " " + number); err != nil || body != strings.Repeat(fmt.Sprintf("%03d%02d", i, n), 8000) {
					t.Errorf("message %s of %s: %v, %d bytes", number, name, err, len(body))
					return
				}
				got++
			}
		})
	}
	sending.Wait()
	reading.Wait()
	if tooSlow.Load() {
		t.Skip("the upgrades took so long that readers were closed as too slow")
	}
	if want := publishers + len(readers); first.Moved != want {
		t.Errorf("%d connections were moved, want %d", first.Moved, want)
	}
}

// Clients that come and go during upgrades are all served, and each join and leave is seen once. Those that move have none.
func TestUpgradeDuringJoinsAndLeaves(t *testing.T) {
	t.Parallel()
	rights := clitest.WriteFile(t, "namespaces", `{"without_namespace":{"allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true,"presence":true,"join_leave":true,"force_push_join_leave":true}}`)
	l := startLineage(t, "--insecure", "--namespaces", rights, "--raw", "publish", "--join-rate", "off", "--address-rate", "off")
	g := startLedger(l, "ws")
	const room = `{"id":2,"subscribe":{"channel":"room","join_leave":true}}`
	watcher := g.open("/connection/websocket", `{"id":1,"connect":{}}`, room)
	stays := g.open("/connection/websocket", `{"id":1,"connect":{}}`, room)
	var stop atomic.Bool
	var storm sync.WaitGroup
	var came atomic.Int64
	for i := range 4 {
		storm.Go(func() {
			for !stop.Load() && !t.Failed() {
				conn, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(l.url, "http")+"/connection/websocket", nil)
				if err != nil {
					t.Errorf("dial: %v (%+v)", err, resp)
					return
				}
				conn.SetReadDeadline(time.Now().Add(clitest.Patience)) // ignored: then it waits for the test's end
				for _, text := range []string{`{"id":1,"connect":{}}`, room} {
					if err = conn.WriteMessage(websocket.TextMessage, []byte(text)); err == nil {
						_, _, err = conn.ReadMessage()
					}
					if err != nil {
						t.Errorf("a client that comes: %v", err)
						conn.Close()
						return
					}
				}
				came.Add(1)
				if i%2 == 0 { // in order, or not
					conn.WriteControl(websocket.CloseMessage, nil, time.Now().Add(time.Second)) // ignored: it leaves
				}
				conn.Close()
			}
		})
	}
	for range upgradesInARow() {
		at := came.Load()
		l.upgrade()
		for end := time.Now().Add(clitest.Patience); came.Load() < at+50 && !t.Failed() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	storm.Wait()
	g.more(10)
	g.balance()
	joined, left := make(map[string]int), make(map[string]int)
	for len(left) < int(came.Load()) && !t.Failed() {
		_, p, err := watcher.ReadMessage()
		if err != nil {
			t.Fatalf("after %d joins and %d leaves of %d clients: %v", len(joined), len(left), came.Load(), err)
		}
		for line := range strings.Lines(string(p)) {
			var m struct {
				Push struct {
					Join, Leave *struct{ Info struct{ Client string } }
				}
			}
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if m.Push.Join != nil {
				joined[m.Push.Join.Info.Client]++
			}
			if m.Push.Leave != nil {
				left[m.Push.Leave.Info.Client]++
			}
		}
	}
	t.Logf("%d clients came and left", came.Load())
	for id, n := range joined {
		if n != 1 || left[id] > 1 {
			t.Errorf("client %s has joined %d times and left %d times", id, n, left[id])
		}
	}
	for _, c := range []*websocket.Conn{watcher, stays} { // both are still there, and nobody else
		if err := c.WriteMessage(websocket.TextMessage, []byte(`{"id":3,"presence_stats":{"channel":"room"}}`)); err != nil {
			t.Fatal(err)
		}
		for answer := ""; !strings.Contains(answer, `"id":3`); {
			_, p, err := c.ReadMessage()
			if err != nil {
				t.Fatal(err)
			}
			if answer = string(p); strings.Contains(answer, `"id":3`) && !strings.Contains(answer, `"num_clients":2`) {
				t.Errorf("presence is %s, want 2 clients", answer)
			}
		}
	}
}

// request is a request to the internal listener that is sent in parts.
type request struct {
	t    *testing.T
	conn net.Conn
}

func (l *lineage) begin(text string) *request {
	l.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.internal, "http://"))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(clitest.Patience)) // ignored: then it waits for the test's end
	r := &request{l.t, conn}
	r.send(text)
	return r
}

func (r *request) send(text string) {
	io.WriteString(r.conn, text) // ignored: the answer is another one then
}

// want reads the response.
func (r *request) want(status int) {
	r.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(r.conn), nil)
	if err != nil {
		r.t.Errorf("no response: %v, want %d", err, status)
		return
	}
	body, _ := io.ReadAll(resp.Body) // ignored: the status says it
	if resp.StatusCode != status {
		r.t.Errorf("status %d %s, want %d", resp.StatusCode, body, status)
	}
}

// Requests to publish whose bodies come in pieces, before and after the upgrade, are done once, by one of the processes.
func TestUpgradeInTheMiddleOfRequests(t *testing.T) {
	t.Parallel()
	l := startLineage(t, "--raw", "publish", "--max-message", "64K")
	reader := dial(t, l.sluice, "/ws/news?format=json")
	reader.send(websocket.TextMessage, "joined")
	const head = "POST /publish/news HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	chunk := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
	much := strings.Repeat("x", 50_000)
	plain := l.begin(head + "Content-Length: 8\r\n\r\nhalf")
	chunked := l.begin(head + "Transfer-Encoding: chunked\r\n\r\n" + chunk("half a "))
	over := l.begin(head + "Transfer-Encoding: chunked\r\n\r\n" + chunk(much))
	inHead := l.begin(head + "Content-Le")
	kept := l.begin("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	kept.want(http.StatusOK)
	keptToo := l.begin("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	keptToo.want(http.StatusOK)
	l.upgrade()
	plain.send("full")
	chunked.send(chunk("chunk") + "0\r\n\r\n")
	over.send(chunk(much) + "0\r\n\r\n")
	inHead.send("ngth: 4\r\n\r\nhead")
	kept.send(head + "Content-Length: 4\r\n\r\nkept")
	keptToo.send(head + "Content-Length: 100000\r\n\r\n" + much + much)
	plain.want(http.StatusOK)
	chunked.want(http.StatusOK)
	over.want(http.StatusRequestEntityTooLarge)
	inHead.want(http.StatusOK)
	kept.want(http.StatusOK)
	keptToo.want(http.StatusRequestEntityTooLarge)
	if status, answer := post(t, l.sluice, "/publish/news", "", "end"); status != http.StatusOK {
		t.Errorf("publish: %d %v", status, answer)
	}
	got := make(map[string]int)
	for got["end"] == 0 {
		var r struct{ Data string }
		_, p, err := reader.conn.ReadMessage()
		if err != nil || json.Unmarshal(p, &r) != nil {
			t.Fatalf("got %s, %v, after %v", bytes.TrimSpace(p), err, got)
		}
		got[r.Data]++
	}
	for _, want := range []string{"joined", "halffull", "half a chunk", "head", "kept", "end"} {
		if got[want] != 1 {
			t.Errorf("%q was published %d times, want once", want, got[want])
		}
	}
	if len(got) != 6 {
		t.Errorf("published: %v", got)
	}
	l.wantExit(0)
}

// Many publishers that wait, and many upgrades in a row, as sluice bench has them.
func TestManyUpgradesInARow(t *testing.T) {
	if os.Getenv("SLUICE_TEST_UPGRADES") == "" {
		t.Skip("SLUICE_TEST_UPGRADES is not set")
	}
	names := []string{"disconnected", "lost", "repeated", "holes", "presence_missing", "parked_lost", "parked_repeated"}
	for name, n := range benchUpgrade(t, names, "--connections", "1000", "--protocols", "raw,json,sse,centrifugo,centrifugo-protobuf", "--rate", "100", "--parked", "1000",
		"--upgrades", fmt.Sprint(upgradesInARow()), "--every", "500ms") {
		if n != 0 {
			t.Errorf("%s: %v", name, n)
		}
	}
}
