package bench

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/bench/clienttls"
)

// faultyServer is a small broadcast server that can be told to go wrong. Every
// message of a client goes to all clients, unless deliver does something else.
type faultyServer struct {
	*httptest.Server
	deliver func(s *faultyServer, n int, msg []byte) // under mu; n counts messages from 0
	cacert  string                                   // a file, over TLS

	mu       sync.Mutex
	clients  []*websocket.Conn
	hellos   int
	messages int
	refusals int // POSTs that are still to be answered with 503
	pongs    chan string
}

func newFaultyServer(t *testing.T, deliver func(s *faultyServer, n int, msg []byte)) *faultyServer {
	return startFaultyServer(t, false, deliver)
}

func startFaultyServer(t *testing.T, secure bool, deliver func(s *faultyServer, n int, msg []byte)) *faultyServer {
	s := &faultyServer{deliver: deliver, pongs: make(chan string, 100)}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", s.serve)
	mux.HandleFunc("/echo", s.echo)
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
	s.Server, s.cacert = startServer(t, secure, mux)
	t.Cleanup(s.stop)
	return s
}

// startServer returns a server, over TLS with the file of its certificate.
func startServer(t *testing.T, secure bool, h http.Handler) (s *httptest.Server, cacert string) {
	if !secure {
		return httptest.NewServer(h), ""
	}
	s = httptest.NewUnstartedServer(h)
	s.Listener = tearing{s.Listener}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail, as they should
	s.StartTLS()
	return s, writePEM(t, "CERTIFICATE", s.Certificate().Raw)
}

func writePEM(t *testing.T, kind string, der []byte) string {
	file := filepath.Join(t.TempDir(), "pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// tearing accepts connections whose writes go out in pieces, so that TLS records
// come in pieces too.
type tearing struct{ net.Listener }

func (l tearing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &torn{Conn: c}, err
}

type torn struct {
	net.Conn
	writes int
}

func (c *torn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		c.writes++
		var m int
		m, err = c.Conn.Write(p[n:min(n+[...]int{3, 500, 20, 4000}[c.writes%4], len(p))])
		n += m
	}
	return n, err
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
	s.mu.Lock() // whoever knows that it is in, is in
	c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		s.mu.Unlock()
		return
	}
	s.clients = append(s.clients, c)
	s.mu.Unlock()
	defer c.Close()
	c.SetPongHandler(func(data string) error { s.pongs <- data; return nil })
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

// echo returns each message back; a client's Close is answered by package websocket.
func (s *faultyServer) echo(w http.ResponseWriter, r *http.Request) {
	c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	for err == nil {
		var msg []byte
		if _, msg, err = c.ReadMessage(); err == nil {
			err = c.WriteMessage(websocket.TextMessage, msg)
		}
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
		Options:     Options{URL: s.url(), TLS: clienttls.Flags{CACert: s.cacert}, Loops: 2},
		Subscribers: 3, Rate: 200, Duration: 50 * time.Millisecond, Warmup: -1, CatchUp: catchUpOfLoss,
	}
}

// catchUpOfLoss is how long a run waits for what will not come. It has to be enough, on a
// busy machine, for everything that does; the tests that wait so do it side by side.
const catchUpOfLoss = 4 * time.Second

func own() Options { return Options{PID: os.Getpid()} }
