package bench

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// nodesServer is two servers of one channel in JSON records, which can be told to go wrong.
type nodesServer struct {
	servers [2]*httptest.Server
	own     bool                                           // each node has an epoch and offsets of its own, as without a history
	node    func(node, offset int, record string) []string // what node sends instead of its record

	mu      sync.Mutex
	clients [2][]*websocket.Conn
	offset  int
	next    [2]int
}

func newNodesServer(t *testing.T) *nodesServer {
	s := &nodesServer{next: [2]int{0, 40}}
	for i := range s.servers {
		mux := http.NewServeMux()
		mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) { s.serve(i, w, r) })
		mux.HandleFunc("POST /publish", func(_ http.ResponseWriter, r *http.Request) {
			msg, _ := io.ReadAll(r.Body) // ignored: the test's client sends whole bodies
			s.mu.Lock()
			defer s.mu.Unlock()
			s.publish(string(msg))
		})
		s.servers[i] = httptest.NewServer(mux)
		t.Cleanup(s.servers[i].CloseClientConnections)
		t.Cleanup(s.servers[i].Close)
	}
	return s
}

func (s *nodesServer) url(i int) string { return "ws" + strings.TrimPrefix(s.servers[i].URL, "http") }

func (s *nodesServer) serve(node int, w http.ResponseWriter, r *http.Request) {
	s.mu.Lock() // what is published after the 101 is for this client too
	c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err == nil && r.FormValue("mode") != "publish" {
		s.clients[node] = append(s.clients[node], c)
	}
	s.mu.Unlock()
	for err == nil {
		var msg []byte
		if _, msg, err = c.ReadMessage(); err == nil {
			s.mu.Lock()
			s.publish(string(msg))
			s.mu.Unlock()
		}
	}
	if c != nil {
		c.Close()
	}
}

// publish sends a message to all clients of both nodes.
func (s *nodesServer) publish(payload string) {
	s.offset++
	for node, clients := range s.clients {
		epoch, offset := "shared", s.offset
		if s.own {
			s.next[node]++
			epoch, offset = fmt.Sprintf("own%d", node), s.next[node]
		}
		record := fmt.Sprintf(`{"channel":"news","epoch":%q,"offset":%d,"prev":%d,"at":1763712000123,"from":"17","data":%q}`, epoch, offset, offset-1, payload)
		records := []string{record}
		if s.node != nil {
			records = s.node(node, s.offset, record)
		}
		for _, c := range clients {
			for _, r := range records {
				c.WriteMessage(websocket.TextMessage, []byte(r)) // ignored: a client that has gone is a client less
			}
		}
	}
}

func TestFanoutSpreadsOverNodesAndComparesThem(t *testing.T) {
	t.Parallel()
	var kept string
	for _, tc := range []struct {
		name string
		own  bool
		node func(node, offset int, record string) []string
		want map[string]float64
	}{
		{"one order", false, nil, map[string]float64{"delivered": 40, "orders": 1}},
		{"an order of each node", true, nil, map[string]float64{"delivered": 40, "orders": 2}},
		{"a node loses one", false, func(node, offset int, record string) []string {
			if node == 1 && offset == 4 {
				return nil
			}
			return []string{record}
		}, map[string]float64{"delivered": 38, "lost": 2, "holes": 2, "orders": 1}},
		{"a node loses one and says so", false, func(node, offset int, record string) []string {
			switch {
			case node == 1 && offset == 4:
				return nil
			case node == 1 && offset == 5:
				return []string{`{"gap":true,"channel":"news","epoch":"shared","offset":4,"conn":"17"}`, record}
			}
			return []string{record}
		}, map[string]float64{"delivered": 38, "lost": 2, "gaps": 2, "orders": 1}},
		{"a node has two the other way round", false, func(node, offset int, record string) []string {
			if node == 0 || offset != 4 && offset != 5 {
				return []string{record}
			}
			if offset == 4 {
				kept = record
				return nil
			}
			swapped := strings.NewReplacer(`"offset":5`, `"offset":4`, `"prev":4`, `"prev":3`).Replace(record)
			return []string{swapped, strings.NewReplacer(`"offset":4`, `"offset":5`, `"prev":3`, `"prev":4`).Replace(kept)}
		}, map[string]float64{"delivered": 40, "orders": 1, "disagreements": 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newNodesServer(t)
			s.own, s.node = tc.own, tc.node
			r, err := Fanout(t.Context(), FanoutOptions{
				Options:     Options{URL: s.url(0), Protocol: JSON, Loops: 1},
				Nodes:       []string{s.url(1)},
				Subscribers: 4, Publishers: 2, Rate: 200, Duration: 50 * time.Millisecond, Warmup: -1, CatchUp: catchUpOfLoss,
			})
			if err != nil {
				t.Fatal(err)
			}
			got := figures(r, "delivered", "lost", "holes", "gaps", "repeats", "repeated", "orders", "disagreements")
			for name, v := range got {
				if v == 0 {
					delete(got, name)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if n := len(r.Nodes); n != 2 || r.Nodes[0].Subscribers != 2 || r.Nodes[1].Delivered != int64(tc.want["delivered"])-20 || r.Nodes[1].Lost != int64(tc.want["lost"]) {
				t.Errorf("nodes: %+v", r.Nodes)
			}
		})
	}
}

// slowNode delays what the other node's publishers send.
func TestFanoutTellsTheLatencyOfOtherNodesApart(t *testing.T) {
	t.Parallel()
	s := newNodesServer(t)
	const delay = 30 * time.Millisecond
	s.node = func(node, _ int, record string) []string {
		if node == 1 {
			time.Sleep(delay) // it is slow: the load of this test
		}
		return []string{record}
	}
	r, err := Fanout(t.Context(), FanoutOptions{
		Options:     Options{URL: s.url(0), Protocol: JSON},
		Nodes:       []string{s.url(1)},
		PublishURLs: []string{"http" + strings.TrimPrefix(s.url(0), "ws") + "/publish"}, // all to the first node
		Subscribers: 2, Rate: 5, Duration: time.Second, Warmup: -1, CatchUp: catchUpOfLoss,
	})
	if err != nil {
		t.Fatal(err)
	}
	if same, other := r.Metrics["same_node_p50"], r.Metrics["other_nodes_p50"]; other < delay.Seconds()*0.99 || same <= 0 || same >= other {
		t.Errorf("same node %v, other node %v, want at least %v more", same, other, delay)
	}
	if r.Metrics["max"] < r.Metrics["other_nodes_p50"] || r.Metrics["p50"] > r.Metrics["other_nodes_max"] {
		t.Errorf("the latency of all does not hold both: %v", r.Metrics)
	}
}

func TestNodesOfFanoutMustFitTogether(t *testing.T) {
	for _, tc := range []struct {
		o   FanoutOptions
		why string
	}{
		{FanoutOptions{Nodes: []string{"ws://127.0.0.1:2"}, Subscribers: 1}, "--url was given 2 times: use it at most 64 times, and not more often than there are --subscribers (1)"},
		{FanoutOptions{Nodes: []string{"http://127.0.0.1:2"}}, `--url "http://127.0.0.1:2" is not a WebSocket URL`},
		{FanoutOptions{PublishURLs: []string{"http://127.0.0.1:2", "http://127.0.0.1:3"}}, "--publish-url was given 2 times: use it once, or once for each --url (1)"},
	} {
		if _, err := Fanout(t.Context(), tc.o); err == nil || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("got %v, want %s", err, tc.why)
		}
	}
}
