package edge

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

// lasting is what a demo's answer that goes on shows of itself.
type lasting struct {
	begun chan context.Context
	write chan string // what it is to write next
	ended chan struct{}
}

// serve answers a request at /demo/lasting until its context ends.
func (l *lasting) serve(w http.ResponseWriter, r *http.Request, last func() context.Context) bool {
	if r.URL.Path != "/demo/lasting" {
		return false
	}
	out := http.NewResponseController(w)
	out.SetWriteDeadline(time.Now().Add(-time.Second)) // ignored: the one of net/http, long ago
	ctx := last()
	defer close(l.ended)
	w.WriteHeader(http.StatusOK)
	out.Flush() // ignored: the client finds out
	l.begun <- ctx
	for {
		select {
		case text := <-l.write:
			io.WriteString(w, text) // ignored: likewise
			out.Flush()
		case <-ctx.Done():
			return true
		}
	}
}

// startLasting returns a client that has such an answer.
func startLasting(t *testing.T, cfg settings) (*rig, *lasting, *clienttest.Client) {
	t.Helper()
	l := &lasting{begun: make(chan context.Context, 1), write: make(chan string), ended: make(chan struct{})}
	cfg.Demo = l.serve
	s := start(t, cfg)
	c := clienttest.Connect(t, s)
	c.Write("GET /demo/lasting HTTP/1.1\r\nHost: localhost\r\n\r\n")
	clienttest.Receive(t, "the answer to begin", l.begun)
	return s, l, c
}

func TestAnAnswerThatLastsHasNoDeadlineAndNoPlace(t *testing.T) {
	t.Parallel()
	const head = 200 * time.Millisecond
	s, l, c := startLasting(t, settings{MaxHandshakes: 1, HandshakeTimeout: head})
	other := clienttest.Connect(t, s)
	other.Write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	other.WantStatus("the only place is for others", http.StatusOK)
	time.Sleep(2 * head) // not to wait for anything: so that a deadline would have passed
	select {
	case l.write <- "still there\n":
	case <-l.ended:
		t.Fatal("the answer has ended")
	}
	resp, err := http.ReadResponse(c.In, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Patience()
	line := make([]byte, len("still there\n"))
	if _, err := io.ReadFull(resp.Body, line); err != nil || string(line) != "still there\n" {
		t.Errorf("got %q, %v", line, err)
	}
	c.Vanish()
	clienttest.Receive(t, "the answer to end with its client", l.ended)
}

func TestAnAnswerThatLastsEndsWithTheEdge(t *testing.T) {
	t.Parallel()
	s, l, _ := startLasting(t, settings{})
	s.edge.Close()
	clienttest.Receive(t, "the answer to end", l.ended)
}
