//go:build !nonats

package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
)

// startServers starts gateways that share their channels through a NATS server.
func startServers(t *testing.T, n int, cfg Config, url string) (all []*server) {
	t.Helper()
	cfg.Store.NATSURL = []string{url}
	for i := range n {
		cfg.Name = fmt.Sprint("node-", i)
		all = append(all, start(t, cfg))
	}
	return all
}

// asked returns what the internal listener answers.
func (s *server) asked(method, target, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.InternalHandler(Internal{}).ServeHTTP(w, httptest.NewRequest(method, "http://127.0.0.1"+target, strings.NewReader(body)))
	return w
}

func (s *server) wantReady(why string, status int, text string) {
	s.T.Helper()
	if w := s.asked("GET", "/readyz", ""); w.Code != status || strings.TrimSpace(w.Body.String()) != text {
		s.T.Errorf("%s: readyz is %d %q, want %d %q", why, w.Code, w.Body, status, text)
	}
}

// A gateway waits for its NATS servers at the start only: later it is ready without them. Publishing into a
// history fails at once while they are away, and it goes on when they are back.
func TestReadinessWaitsForServersAtTheStart(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, natstest.Options{JetStream: true})
	servers.Stop()
	s := startServers(t, 1, Config{}, servers.URL())[0]
	refused := func(why string) {
		t.Helper()
		if w := s.asked("POST", "/publish/x", "hello"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d %v %s", why, w.Code, w.Header(), w.Body)
		}
	}
	s.wantReady("they are not there", http.StatusServiceUnavailable, "not ready: the NATS servers have not answered yet")
	refused("they are not there")
	servers.Restart()
	clienttest.WaitFor(t, "the gateway to be ready", func() bool { return s.asked("GET", "/readyz", "").Code == http.StatusOK })
	raw, record := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x?format=json")
	first := s.publish("x", "one")
	raw.WantText("it is published", "one")
	record.WantData("it is published", first.Offset, "one")
	servers.Stop()
	clienttest.WaitFor(t, "the servers to be missed", func() bool { return s.asked("POST", "/publish/x", "lost").Code != http.StatusOK })
	s.wantReady("they are away", http.StatusOK, "ok")
	refused("they are away")
	raw.Send(clienttest.Text("two")) // it waits
	clienttest.WaitFor(t, "it to wait", func() bool { return s.parked() == 1 })
	servers.Restart()
	raw.WantText("it was published once they were back", "two")
	clienttest.WaitFor(t, "its publisher to know", func() bool { return s.parked() == 0 })
}

// What is published on one node is received on all, in one order, and a client resumes on another node.
func TestClientsOfSeveralNodes(t *testing.T) {
	t.Parallel()
	url := natstest.Start(t, natstest.Options{JetStream: true}).URL()
	nodes := startServers(t, 3, Config{}, url)
	for _, s := range nodes {
		clienttest.WaitFor(t, "the gateway to be ready", func() bool { return s.asked("GET", "/readyz", "").Code == http.StatusOK })
	}
	// One that subscribes to an empty channel on one node, while others get something in theirs, and moves.
	empty := member(t, nodes[0], "")
	empty.Joins("later", `"recoverable":true`)
	at := clienttest.Dial(t, nodes[0], "/ws/later?format=json&since=now").Record("where it begins")
	nodes[1].publish("other", "x")

	var all []*clienttest.Client
	for _, s := range nodes {
		all = append(all, clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x?format=json"))
	}
	for _, s := range nodes {
		clienttest.WaitFor(t, "them to be subscribed", func() bool { ch := s.space.Find("x"); return ch != nil && ch.Subscribers() == 2 })
	}
	var offsets []uint64
	for i, s := range nodes {
		offsets = append(offsets, s.publish("x", fmt.Sprint("from ", i)).Offset)
	}
	for i, c := range all {
		for j, offset := range offsets {
			if i%2 == 0 {
				c.WantText("in order", fmt.Sprint("from ", j))
			} else {
				c.WantData("in order", offset, fmt.Sprint("from ", j))
			}
		}
	}
	epoch := nodes[0].publish("x", "last").Epoch.String()
	all[4].WantText("the third node has it, too", "last") // until then it is no part of what is recovered there, and comes after it
	r := member(t, nodes[2], "").Recovers("x", epoch, offsets[0]).Subscribe
	if !r.Recovered || len(r.Publications) != 3 {
		t.Errorf("on another node: %+v", r)
	}
	// The position in the empty channel is ahead of, or behind, what other nodes know, and nothing was missed.
	for _, s := range nodes {
		moved := clienttest.Dial(t, s, fmt.Sprintf("/ws/later?format=json&since=%v:%d", at.Epoch, at.Offset))
		if got, err := readAhead(moved); err != nil || got != "" {
			t.Errorf("one that has moved is sent %s, %v", got, err)
		}
		defer func() {
			if r := moved.Record("it goes on"); r.Gap != nil || r.Prev > at.Offset || r.Data == nil || *r.Data != "at last" {
				t.Errorf("it is sent %+v, and was at %d", r, at.Offset)
			}
		}()
	}
	nodes[1].publish("later", "at last")
}

// readAhead returns what a client is sent before the answer to a ping.
func readAhead(c *clienttest.Client) (text string, err error) {
	c.Send(clienttest.Ping("x"))
	for {
		op, p, err := c.Next()
		if err != nil || op == 10 {
			return text, err
		}
		text += p
	}
}

// A directory has one gateway, and a gateway that ends leaves it. Nothing is published afterwards.
func TestDataDirectoryHasOneGateway(t *testing.T) {
	t.Parallel()
	dir := natstest.Dir(t)
	s := start(t, Config{Store: Store{DataDir: dir}})
	if _, err := New(Config{Store: Store{DataDir: dir}}); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second one in its directory: %v", err)
	}
	name := s.Name()
	s.publish("x", "kept")
	ctx, cancel := context.WithTimeout(t.Context(), clienttest.Patience)
	defer cancel()
	if err := s.shutdown(ctx); err != nil {
		t.Error(err)
	}
	select {
	case err := <-s.Failed():
		t.Errorf("one that was shut down has failed: %v", err)
	default:
	}
	if _, err := s.Publish(ctx, Message{Channel: "x", Payload: []byte("late")}); err == nil {
		t.Error("it publishes after Shutdown")
	}
	if s = start(t, Config{Store: Store{DataDir: dir}}); s.Name() != name || name == "" {
		t.Errorf("its name was %q, and is %q", name, s.Name())
	}
}

// A client that has seen a channel empty comes back after others have published elsewhere: it has missed nothing,
// and what is published then does not look as if it had.
func TestPositionInAnEmptyChannel(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Store: Store{DataDir: natstest.Dir(t)}})
	s.publish("other", "1")
	c := clienttest.Dial(t, s, "/ws/x?format=json&since=now")
	at := c.Record("where it begins")
	c.Vanish()
	clienttest.WaitFor(t, "the channel to end", func() bool { return s.space.Find("x") == nil })
	s.publish("other", "2")
	other := clienttest.Dial(t, s, "/ws/x?format=json&since=now")
	other.Record("where another one begins")
	s.publish("other", "3")
	c = clienttest.Dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%v:%d", at.Epoch, at.Offset))
	if got, err := readAhead(c); err != nil || got != "" {
		t.Errorf("it is sent %s, %v", got, err)
	}
	s.publish("x", "first")
	if r := c.Record("it goes on"); r.Gap != nil || r.Prev > at.Offset || r.Data == nil || *r.Data != "first" {
		t.Errorf("it is sent %+v, and was at %d", r, at.Offset)
	}
}
