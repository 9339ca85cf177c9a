package bench

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// faultyServer is a small broadcast server that can be told to go wrong. Every
// message of a client goes to all clients, unless deliver does something else.
type faultyServer struct {
	*httptest.Server
	deliver func(s *faultyServer, n int, msg []byte) // under mu; n counts messages from 0

	mu       sync.Mutex
	clients  []*websocket.Conn
	hellos   int
	messages int
	refusals int // POSTs that are still to be answered with 503
	pongs    chan string
}

func newFaultyServer(t *testing.T, deliver func(s *faultyServer, n int, msg []byte)) *faultyServer {
	s := &faultyServer{deliver: deliver, pongs: make(chan string, 100)}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", s.serve)
	mux.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) {
		msg, _ := io.ReadAll(r.Body) // ignored: the test's client sends whole bodies
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refusals > 0 {
			s.refusals--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.publish(msg)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.stop)
	return s
}

func (s *faultyServer) stop() {
	s.mu.Lock()
	for _, c := range s.clients {
		c.Close()
	}
	s.mu.Unlock()
	s.Server.Close()
}

func (s *faultyServer) url() string { return "ws" + strings.TrimPrefix(s.URL, "http") }

func (s *faultyServer) serve(w http.ResponseWriter, r *http.Request) {
	c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetPongHandler(func(data string) error { s.pongs <- data; return nil })
	s.mu.Lock()
	s.clients = append(s.clients, c)
	s.mu.Unlock()
	for {
		_, msg, err := c.ReadMessage()
		if err != nil {
			return
		}
		s.mu.Lock()
		if string(msg) == "hello" {
			s.hellos++
		} else {
			s.publish(msg)
		}
		s.mu.Unlock()
	}
}

func (s *faultyServer) publish(msg []byte) {
	n := s.messages
	s.messages++
	if s.deliver != nil {
		s.deliver(s, n, msg)
		return
	}
	s.toAll(msg)
}

func (s *faultyServer) toAll(msg []byte) {
	for _, c := range s.clients {
		c.WriteMessage(websocket.TextMessage, msg) // ignored: a client that has gone is a client less
	}
}

// fanoutOptions are for a quick run of 10 messages to 3 subscribers.
func fanoutOptions(s *faultyServer) FanoutOptions {
	return FanoutOptions{
		Options:     Options{URL: s.url(), Loops: 2},
		Subscribers: 3, Rate: 200, Duration: 50 * time.Millisecond, Warmup: -1, CatchUp: 300 * time.Millisecond,
	}
}

func own() Options { return Options{PID: os.Getpid()} }
