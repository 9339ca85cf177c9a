package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
)

// channelServer is a small server of one channel with a history, which speaks JSON
// records and event streams. It can be told to go wrong.
type channelServer struct {
	*httptest.Server
	wrong  func(offset int, record string) []string // what a subscriber gets instead; nil: the record
	epoch  string
	cacert string // a file, over TLS

	mu      sync.Mutex
	log     []string // payloads; the first has offset 1
	kept    int      // how many a joining client can get; 0: all
	skips   int      // how many of what it missed a joining client does not get
	clients map[*channelClient]bool
	paths   []string // of all requests
}

// channelClient writes what one subscriber gets.
type channelClient struct {
	send func(text string) error
	sse  bool
}

func newChannelServer(t *testing.T, wrong func(offset int, record string) []string) *channelServer {
	return startChannelServer(t, false, wrong)
}

func startChannelServer(t *testing.T, secure bool, wrong func(offset int, record string) []string) *channelServer {
	s := &channelServer{wrong: wrong, epoch: "3w5e11264sg1", clients: map[*channelClient]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws/", s.socket)
	mux.HandleFunc("/sse/", s.stream)
	mux.HandleFunc("POST /publish/", func(_ http.ResponseWriter, r *http.Request) {
		msg, _ := io.ReadAll(r.Body) // ignored: the test's client sends whole bodies
		s.publish(string(msg))
	})
	s.Server, s.cacert = startServer(t, secure, mux)
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(s.Server.Close)
	return s
}

func (s *channelServer) url() string { return "ws" + strings.TrimPrefix(s.URL, "http") }

func (s *channelServer) publish(payload string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, payload)
	for c := range s.clients {
		s.write(c, len(s.log))
	}
}

// write sends the publication with this offset.
func (s *channelServer) write(c *channelClient, offset int) {
	record := string(inProtocol(SSE, offset, []byte(s.log[offset-1])))
	if !c.sse {
		b, _ := json.Marshal(s.log[offset-1]) // ignored: a string is always JSON
		record = fmt.Sprintf(`{"channel":"news","epoch":%q,"offset":%d,"prev":%d,"at":1763712000123,"from":"17","data":%s}`, s.epoch, offset, offset-1, b)
	}
	records := []string{record}
	if s.wrong != nil {
		records = s.wrong(offset, record)
	}
	for _, r := range records {
		c.send(r) // ignored: a client that has gone is a client less
	}
}

func (s *channelServer) socket(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock() // what is published after the 101 is for this client too
	ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		s.mu.Unlock()
		return
	}
	defer ws.Close()
	c := &channelClient{send: func(text string) error { return ws.WriteMessage(websocket.TextMessage, []byte(text)) }}
	if r.FormValue("mode") != "publish" {
		s.joinLocked(c, r.FormValue("since"))
		defer s.leave(c)
	}
	s.paths = append(s.paths, r.RequestURI)
	s.mu.Unlock()
	for {
		_, msg, err := ws.ReadMessage()
		if err != nil {
			return
		}
		s.publish(string(msg))
	}
}

// joinLocked sends the position where that is due, what was missed, and subscribes.
func (s *channelServer) joinLocked(c *channelClient, since string) {
	head := len(s.log)
	_, offset, asked := strings.Cut(since, ":")
	from, gap := head, false
	if asked {
		from, _ = strconv.Atoi(offset) // ignored: the test's client asks for numbers
		gap = s.kept > 0 && from < head-s.kept
	}
	if gap {
		from = head - s.kept
	}
	stands := from
	record := fmt.Sprintf(`{"gap":%v,"channel":"news","epoch":%q,"offset":%d,"conn":"17"}`, gap, s.epoch, stands)
	switch {
	case c.sse && gap:
		c.send(fmt.Sprintf("retry: 1500\nid: %s:%d\nevent: gap\ndata: %s\n\n", s.epoch, stands, record))
	case c.sse:
		c.send(fmt.Sprintf("retry: 1500\nid: %s:%d\n\n", s.epoch, stands))
	case gap || since == "now":
		c.send(record)
	}
	for from = min(from+s.skips, head); from < head; from++ {
		s.write(c, from+1)
	}
	s.clients[c] = true
}

func (s *channelServer) leave(c *channelClient) {
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
}

func (s *channelServer) stream(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	c := &channelClient{sse: true, send: func(text string) error { _, err := io.WriteString(conn, text); return err }}
	s.mu.Lock()
	c.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
	s.joinLocked(c, r.FormValue("since"))
	s.paths = append(s.paths, r.RequestURI)
	s.mu.Unlock()
	conn.Read(make([]byte, 1)) // ignored: until the client leaves
	s.leave(c)
}
