package bench

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// churnServer echoes, and goes wrong with every fifth connection.
type churnServer struct {
	fault string

	mu          sync.Mutex
	connections int
	goroutines  int // as its metrics tell
	files       []*os.File
	kept        []*websocket.Conn
}

func (s *churnServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/metrics" {
		fmt.Fprintf(w, "# TYPE go_goroutines gauge\ngo_goroutines %d\n", 7+s.goroutines)
		return
	}
	s.connections++
	fault := s.fault
	if s.connections%5 != 0 {
		fault = ""
	}
	switch fault {
	case "refuses":
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case "leaves a goroutine":
		s.goroutines++
	case "leaves a file":
		f, err := os.Open(os.DevNull)
		if err != nil {
			panic(err)
		}
		s.files = append(s.files, f)
	}
	c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	if fault == "keeps the connection" {
		s.kept = append(s.kept, c)
	}
	if fault == "closes with another code" {
		c.SetCloseHandler(func(int, string) error {
			return c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1011, ""), time.Now().Add(time.Second))
		})
	}
	go serveChurn(c, fault)
}

func serveChurn(c *websocket.Conn, fault string) {
	for {
		_, msg, err := c.ReadMessage()
		if err != nil {
			if fault != "keeps the connection" {
				c.Close() // ignored: the client sees it
			}
			return
		}
		switch fault {
		case "closes instead":
			msg := websocket.FormatCloseMessage(1008, "")
			c.WriteMessage(websocket.CloseMessage, msg) // ignored: the client sees it
		case "says nothing":
		default:
			c.WriteMessage(websocket.TextMessage, msg) // ignored: the client sees it
		}
	}
}

func TestChurnTellsWhatFailedAndWhatIsLeft(t *testing.T) {
	// The server is this process, whose memory must not grow by 5 %.
	ballast := make([]byte, 256<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	defer runtime.KeepAlive(ballast)
	for _, tc := range []struct {
		fault string
		want  map[string]float64 // of 20 cycles; those left out are 0
		why   string
	}{
		{fault: "nothing", want: map[string]float64{"cycles": 20, "clean": 10, "reset": 10}},
		{fault: "refuses", want: map[string]float64{"cycles": 16, "failed": 4, "failed_upgrade": 4}, why: "4 cycles failed"},
		{fault: "closes instead", want: map[string]float64{"cycles": 16, "failed": 4, "failed_message": 4}, why: "4 cycles failed"},
		{fault: "says nothing", want: map[string]float64{"cycles": 16, "failed": 4, "failed_message": 4}, why: "4 cycles failed"},
		{fault: "closes with another code", want: map[string]float64{"cycles": 18, "failed": 2, "failed_close": 2}, why: "2 cycles failed"},
		{fault: "leaves a goroutine", want: map[string]float64{"cycles": 20, "goroutines_left": 4}, why: "4 goroutines leaked"},
		{fault: "leaves a file", want: map[string]float64{"cycles": 20, "descriptors_left": 4}, why: "4 file descriptors leaked"},
		{fault: "keeps the connection", want: map[string]float64{"cycles": 18, "failed": 2, "failed_close": 2, "descriptors_left": 4, "epoll_left": 4},
			why: "2 cycles failed; 4 file descriptors leaked; 4 epoll entries leaked"},
	} {
		for _, secure := range []bool{false, true} {
			s := &churnServer{fault: tc.fault}
			server, cacert := startServer(t, secure, s)
			metrics, _ := startServer(t, false, s)
			o := ChurnOptions{
				Options: own(), Cycles: 20, Concurrency: 1, Warmup: -1, // one after the other, so that faults fall on the same closings
				Metrics: metrics.URL + "/metrics", Settle: time.Second,
			}
			o.URL, o.TLS.CACert = "ws"+strings.TrimPrefix(server.URL, "http"), cacert
			o.Timeout = 10 * time.Second
			if tc.fault == "says nothing" || tc.fault == "keeps the connection" {
				o.Timeout = 2 * time.Second // enough for a good cycle on a busy machine
			}
			if tc.fault == "says nothing" {
				o.Concurrency = 4 // those that wait do so together: none of them gets to closing
			}
			if tc.why == "" {
				o.Settle = 20 * time.Second // it ends when nothing is left
			}
			r, err := Churn(t.Context(), o)
			names := []string{"cycles", "failed", "failed_connect", "failed_tls", "failed_upgrade", "failed_message", "failed_close",
				"descriptors_left", "goroutines_left", "epoll_left"}
			want := map[string]float64{}
			for _, name := range names {
				want[name] = 0
			}
			for name, v := range tc.want {
				if want[name] = v; name == "clean" || name == "reset" {
					names = append(names, name)
				}
			}
			if diff := cmp.Diff(want, figures(r, names...)); diff != "" {
				t.Errorf("%s, TLS %v: notes %q; want -, got +:\n%s", tc.fault, secure, r.Notes, diff)
			}
			if verdict := map[bool]string{true: VerdictPass, false: VerdictFail}[tc.why == ""]; r.Verdict != verdict || (err != nil) != (tc.why != "") || err != nil && err.Error() != tc.why {
				t.Errorf("%s, TLS %v: verdict %s, %v", tc.fault, secure, r.Verdict, err)
			}
			for _, f := range s.files {
				f.Close() // ignored: opened for reading
			}
			for _, c := range s.kept {
				c.Close() // ignored: its client has gone
			}
			server.Close()
			metrics.Close()
		}
	}
}

func TestCensusAllowsMemoryToDifferALittle(t *testing.T) {
	before := census{descriptors: 9, epoll: 5, threads: 3, goroutines: 7, rss: 1000}
	for _, tc := range []struct {
		after census
		want  []string
	}{
		{census{descriptors: 9, epoll: 5, threads: 8, goroutines: 7, rss: 1050}, nil},
		{census{descriptors: 8, epoll: 4, threads: 2, goroutines: 6, rss: 500}, nil},
		{census{descriptors: 10, epoll: 7, threads: 3, goroutines: 10, rss: 1051},
			[]string{"1 file descriptors leaked", "3 goroutines leaked", "2 epoll entries leaked", "memory grew by 5.1 %, more than 5 %"}},
	} {
		if diff := cmp.Diff(tc.want, tc.after.faults(before)); diff != "" {
			t.Errorf("%+v: want -, got +:\n%s", tc.after, diff)
		}
	}
}

func TestChurnIsNotJudgedByHalf(t *testing.T) {
	s := newFaultyServer(t, nil)
	o := ChurnOptions{Options: Options{URL: s.url()}, Cycles: 4, Warmup: -1}
	r, err := Churn(t.Context(), o)
	if err != nil || r.Verdict != VerdictOK || r.Metrics["cycles"] != 4 || len(r.Notes) != 1 {
		t.Errorf("verdict %s, %v, notes %q", r.Verdict, err, r.Notes)
	}
	o.URL = "ws://127.0.0.1:1"
	if r, err = Churn(t.Context(), o); err == nil || r.Verdict != VerdictFailed || r.Metrics["failed_connect"] != 4 {
		t.Errorf("nobody listens: verdict %s, %v, %v", r.Verdict, err, r.Metrics)
	}
	o.Warmup = 2 * failuresMost
	// Several callers run at once, so each may fail once more before it sees that it is hopeless.
	told := regexp.MustCompile(`^warming up: 10\d\d cycles failed and 0 succeeded: dial`)
	if r, err = Churn(t.Context(), o); err == nil || !told.MatchString(err.Error()) || r.Verdict != VerdictFailed {
		t.Errorf("nobody listens to the warm-up: verdict %s, %v", r.Verdict, err)
	}
}
