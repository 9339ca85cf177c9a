package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/google/go-cmp/cmp"
)

// rows asks the inspector.
func (s *server) rows(query string) (rows []loop.Description) {
	s.T.Helper()
	status, _, body := askHTTP(s.T, "GET", s.internal("").URL+"/api/connections"+query, nil)
	var answer struct{ Connections []loop.Description }
	if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil {
		s.T.Fatalf("the inspector answers %d %q, %v", status, body, err)
	}
	return answer.Connections
}

func TestInspectorShowsWhatAConnectionIs(t *testing.T) {
	clienttest.UncompressedOnly(t)
	clienttest.PlainOnly(t)
	t.Parallel()
	s := start(t, Config{Loops: 1, SendBuffer: 4 << 10, PingInterval: -1, WriteTimeout: -1, SlowPolicy: []SlowRule{{Pattern: "*", Skip: true}}})
	if rows := s.rows(""); rows == nil || len(rows) != 0 {
		t.Errorf("nobody is there: %v", rows)
	}
	clients := []*clienttest.Client{clienttest.DialSmall(t, s, "/ws/a"), clienttest.Dial(t, s, "/ws/b?format=json"), clienttest.Dial(t, s, "/echo"), clienttest.Stream(t, s, "/sse/c"), clienttest.Stream(t, s, "/sse/d?format=json")}
	s.Quiet()
	rows := s.rows("?sort=id&limit=10")
	slices.Reverse(rows)
	want := []loop.Description{
		{Protocol: "websocket", Format: "raw", Channels: []string{"a"}}, {Protocol: "websocket", Format: "json", Channels: []string{"b"}},
		{Protocol: "echo", Format: "raw", Channels: []string{}}, {Protocol: "event_stream", Format: "raw", Channels: []string{"c"}},
		{Protocol: "event_stream", Format: "json", Channels: []string{"d"}},
	}
	first := rows[0].ID // the others' follow
	for i := range want {
		w := &want[i]
		w.ID, w.Address, w.TLS, w.State = first+uint64(i), clients[i].Conn.LocalAddr().String(), s.secured, "open"
	}
	for i := range rows {
		rows[i].RTT = 0 // whatever it is
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("the connections are (-want +got):\n%s", diff)
	}

	for i := 0; i < 64 || s.Blocked() == 0; i++ { // more than sockets hold of who does not read
		s.publish("a", clienttest.Stars(2<<10))
		s.Quiet()
	}
	for range 5 {
		s.publish("a", "behind")
	}
	s.Pass(7)
	for _, sort := range []string{"pending", "lag", "age"} {
		row := s.rows("?limit=1&sort=" + sort)[0]
		if row.ID != first || row.State != "blocked" || row.Lag < 5 || row.Lag > 1000 || row.Age < 5000 || row.Age > 60_000 || sort == "pending" && row.Pending < 0 {
			t.Errorf("by %s a slow reader is shown as %+v", sort, row)
		}
	}
	clients[1].Send(clienttest.Ping("x"))
	clients[1].WantPong("others go on", "x")
	s.Do(func(l *loop.Loop) { l.End(first + 1) })
	if i := slices.IndexFunc(s.rows(""), func(r loop.Description) bool { return r.ID == first+1 && r.State == "closing" }); i < 0 {
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
	a, b, other := clienttest.Dial(t, s, "/ws/x"), clienttest.Stream(t, s, "/sse/x"), clienttest.Dial(t, s, "/ws/x")
	s.Quiet()
	rows := s.rows("?sort=id") // the newest first
	for _, row := range rows[len(rows)-2:] {
		id := strconv.FormatUint(row.ID, 10)
		if status, _, body := askHTTP(t, "POST", at+id+"/close", nil); status != 200 || strings.TrimSpace(body) != fmt.Sprintf(`{"id":%q,"closed":true}`, id) {
			t.Errorf("%d %s", status, body)
		}
		status, _, body := askHTTP(t, "POST", at+id+"/close", nil)
		if status != 404 {
			t.Errorf("it was closed already: %d", status)
		}
		wantError(t, "it was closed already", body, "not_found")
	}
	if _, p, err := a.Next(); err != nil || p != "\x03\xf0closed by an operator" {
		t.Errorf("got %q, %v", p, err)
	}
	a.EndClose("it is told")
	b.WantBegin("the stream", 0)
	b.WantEvent("it is told", "event: close\ndata: {\"code\":1008,\"reason\":\"closed by an operator\"}\n")
	b.EndClose("the stream ends")
	s.WantClosed(loop.ReasonOperator, 2)
	other.Settle(s)
}

func TestInspectorFindsTheWorstAmongThousands(t *testing.T) {
	t.Parallel()
	n := clienttest.Scaled(5000, 500)
	if *clienttest.OverTLS {
		n = 500
	}
	s := start(t, Config{PingInterval: -1, SendBuffer: 4 << 10, WriteTimeout: -1})
	var all []*clienttest.Client
	for range n {
		all = append(all, clienttest.Dial(t, s, "/ws/x"))
	}
	clienttest.DialSmall(t, s, "/ws/slow")
	// A socket that refuses bytes may take some a moment later, until the client's kernel has no room at all.
	clienttest.WaitFor(t, "the slow client to be behind", func() bool {
		s.publish("slow", clienttest.Stars(2<<10))
		s.Quiet()
		worst := s.rows("?sort=lag&limit=1")[0]
		return worst.Channels[0] == "slow" && worst.Lag > 0
	})
	rows := s.rows("?sort=id&limit=" + strconv.Itoa(min(n, 1000)))
	for i, r := range rows {
		if r.ID != rows[0].ID-uint64(i) {
			t.Fatalf("row %d is of %d", i, r.ID)
		}
	}
	if len(rows) != min(n, 1000) {
		t.Errorf("%d rows", len(rows))
	}
	for _, c := range all {
		c.Vanish()
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
				c, status, _ := clienttest.Try(t, s)
				if status != 101 {
					t.Errorf("status %d", status)
					return
				}
				c.Conn.Write([]byte(clienttest.Text("hello"))) // ignored: it may have been closed
				c.Vanish()
			}
		})
	}
	for i := range 40 {
		for _, r := range s.rows("?sort=" + []string{"pending", "lag", "age", "id"}[i%4]) {
			if r.Protocol != "websocket" || r.Format != "raw" {
				t.Fatalf("%+v", r)
			}
			if status, _, _ := askHTTP(t, "POST", fmt.Sprint(at, r.ID, "/close"), nil); status != 200 && status != 404 {
				t.Fatalf("status %d", status)
			}
		}
	}
	close(over)
	busy.Wait()
	s.wantConnections(0)
}
