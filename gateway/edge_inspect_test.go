package gateway

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInspectorShowsWhatAConnectionIs(t *testing.T) {
	plainOnly(t)
	t.Parallel()
	s := start(t, Config{Loops: 1, SendBuffer: 4 << 10, PingInterval: -1, WriteTimeout: -1, SlowPolicy: []SlowRule{{"*", true}}})
	if rows := s.rows(""); rows == nil || len(rows) != 0 {
		t.Errorf("nobody is there: %v", rows)
	}
	clients := []*client{dialSmall(t, s, "/ws/a"), dial(t, s, "/ws/b?format=json"), dial(t, s, "/echo"), stream(t, s, "/sse/c"), stream(t, s, "/sse/d?format=json")}
	s.quiet()
	rows := s.rows("?sort=id&limit=10")
	slices.Reverse(rows)
	want := []inspected{
		{Protocol: "websocket", Format: "raw", Channels: []string{"a"}}, {Protocol: "websocket", Format: "json", Channels: []string{"b"}},
		{Protocol: "echo", Format: "raw", Channels: []string{}}, {Protocol: "event_stream", Format: "raw", Channels: []string{"c"}},
		{Protocol: "event_stream", Format: "json", Channels: []string{"d"}},
	}
	for i := range want {
		w := &want[i]
		w.ID, w.Address, w.TLS, w.State = strconv.Itoa(i+1), clients[i].conn.LocalAddr().String(), s.secured, "open"
	}
	for i := range rows {
		rows[i].RTT = 0 // whatever it is
	}
	if diff := cmp.Diff(want, rows, cmp.AllowUnexported(inspected{})); diff != "" {
		t.Errorf("the connections are (-want +got):\n%s", diff)
	}

	for i := 0; i < 64 || s.blocked() == 0; i++ { // more than sockets hold of who does not read
		s.publish("a", stars(2<<10))
		s.quiet()
	}
	for range 5 {
		s.publish("a", "behind")
	}
	s.pass(7)
	for _, sort := range []string{"pending", "lag", "age"} {
		row := s.rows("?limit=1&sort=" + sort)[0]
		if row.ID != "1" || row.State != "blocked" || row.Lag < 5 || row.Lag > 1000 || row.Age < 5000 || row.Age > 60_000 || sort == "pending" && row.Pending < 0 {
			t.Errorf("by %s a slow reader is shown as %+v", sort, row)
		}
	}
	clients[1].send(ping("x"))
	clients[1].wantPong("others go on", "x")
	s.do(func(l *loop) {
		for _, c := range l.conns {
			if c.id == 2 {
				c.close(reasonNotAllowed)
				c.settle()
			}
		}
	})
	if i := slices.IndexFunc(s.rows(""), func(r inspected) bool { return r.ID == "2" && r.State == "closing" }); i < 0 {
		t.Error("a connection that is being closed is not shown so")
	}
}

func TestInspectorRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1})
	at := s.internal("").URL + "/api/connections"
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "?sort=size", 400, "bad_sort"}, {"GET", "?limit=0", 400, "bad_limit"}, {"GET", "?limit=-1", 400, "bad_limit"},
		{"GET", "?limit=1001", 400, "bad_limit"}, {"GET", "?limit=x", 400, "bad_limit"},
		{"POST", "/x/close", 400, "bad_id"}, {"POST", "/-1/close", 400, "bad_id"}, {"POST", "/99/close", 404, "not_found"},
		{"POST", "/0/close", 404, "not_found"}, {"POST", "/18446744073709551616/close", 400, "bad_id"},
	} {
		status, _, body := askHTTP(t, c.method, at+c.path, nil)
		if status != c.status {
			t.Errorf("%s %s: status %d, want %d", c.method, c.path, status, c.status)
		}
		wantError(t, c.path, body, c.code)
	}
	if status, _, _ := askHTTP(t, "POST", at+"/1/close", nil, "Origin: https://evil.example"); status != 403 {
		t.Errorf("a page may close connections: %d", status)
	}
	if status, _, _ := askHTTP(t, "GET", s.internal("key").URL+"/api/connections", nil); status != 401 {
		t.Errorf("without the key: %d", status)
	}
}

func TestOperatorClosesAConnection(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1})
	at := s.internal("").URL + "/api/connections/"
	a, b, other := dial(t, s, "/ws/x"), stream(t, s, "/sse/x"), dial(t, s, "/ws/x")
	s.quiet()
	for _, id := range []string{"1", "2"} {
		if status, _, body := askHTTP(t, "POST", at+id+"/close", nil); status != 200 || strings.TrimSpace(body) != fmt.Sprintf(`{"id":%q,"closed":true}`, id) {
			t.Errorf("%d %s", status, body)
		}
		status, _, body := askHTTP(t, "POST", at+id+"/close", nil)
		if status != 404 {
			t.Errorf("it was closed already: %d", status)
		}
		wantError(t, "it was closed already", body, "not_found")
	}
	if _, p, err := a.next(); err != nil || p != "\x03\xf0closed by an operator" {
		t.Errorf("got %q, %v", p, err)
	}
	a.endClose("it is told")
	b.wantBegin("the stream", 0)
	b.wantEvent("it is told", "event: close\ndata: {\"code\":1008,\"reason\":\"closed by an operator\"}\n")
	b.endClose("the stream ends")
	s.wantClosed(reasonOperator, 2)
	other.settle(s)
}

func TestInspectorFindsTheWorstAmongThousands(t *testing.T) {
	t.Parallel()
	n := scaled(5000, 500)
	if *overTLS {
		n = 500
	}
	s := start(t, Config{PingInterval: -1, SendBuffer: 4 << 10, WriteTimeout: -1})
	var all []*client
	for range n {
		all = append(all, dial(t, s, "/ws/x"))
	}
	dialSmall(t, s, "/ws/slow")
	for s.blocked() == 0 {
		s.publish("slow", stars(2<<10))
		s.quiet()
	}
	s.publish("slow", "behind")
	if rows := s.rows("?sort=lag&limit=1"); rows[0].Channels[0] != "slow" || rows[0].Lag == 0 {
		t.Errorf("the worst is %+v", rows[0])
	}
	rows := s.rows("?sort=id&limit=" + strconv.Itoa(min(n, inspectMost)))
	for i, r := range rows {
		if r.ID != strconv.Itoa(n+1-i) {
			t.Fatalf("row %d is of %s", i, r.ID)
		}
	}
	if len(rows) != min(n, inspectMost) {
		t.Errorf("%d rows", len(rows))
	}
	for _, c := range all {
		c.vanish()
	}
}

func TestInspectorWhileClientsComeAndGo(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1})
	at := s.internal("").URL + "/api/connections/"
	over := make(chan struct{})
	var busy sync.WaitGroup
	for range 3 {
		busy.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				c, status, _ := try(t, s)
				if status != 101 {
					t.Errorf("status %d", status)
					return
				}
				c.conn.Write([]byte(text("hello"))) // ignored: it may have been closed
				c.vanish()
			}
		})
	}
	for i := range 40 {
		for _, r := range s.rows("?sort=" + []string{"pending", "lag", "age", "id"}[i%4]) {
			if r.Protocol != "websocket" || r.Format != "raw" {
				t.Fatalf("%+v", r)
			}
			if status, _, _ := askHTTP(t, "POST", at+r.ID+"/close", nil); status != 200 && status != 404 {
				t.Fatalf("status %d", status)
			}
		}
	}
	close(over)
	busy.Wait()
	s.wantConnections(0)
}
