package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
)

const (
	pathHTTP    = "/connection/http_stream"
	pathSSE     = "/connection/sse"
	pathUniHTTP = "/connection/uni_http_stream"
)

// An emulated client has what one with a WebSocket has: its commands come in requests, in their order.
func TestEmulatedTranscript(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Version: "1.2"})
	c := clienttest.Emulate(t, s, "")
	c.Does(`{"id":2,"subscribe":{"channel":"chat:1"}}`)
	c.WantTold("subscribe", `{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}`)
	c.Does(`{"id":3,"publish":{"channel":"chat:1","data":{"a": 1}}}`)
	c.WantTold("its reply goes first", `{"id":3,"publish":{}}`)
	c.WantTold("its own publication", `{"push":{"channel":"chat:1","pub":{"data":{"a": 1},"info":{"user":"","client":"ID"},"offset":1}}}`)
	s.publish("chat:1", "no JSON")
	c.WantTold("text that is no JSON", `{"push":{"channel":"chat:1","pub":{"data":"no JSON","offset":2}}}`)
	c.Does(`{"id":4,"presence_stats":{"channel":"chat:1"}}`+"\n"+`{"id":5,"ping":{}}`, "{}", `{"id":6,"ping":{}}`)
	c.WantTold("presence_stats", `{"id":4,"presence_stats":{"num_clients":1,"num_users":1}}`)
	c.WantTold("another of the same request", `{"id":5,"ping":{}}`)
	c.WantTold("of a later one", `{"id":6,"ping":{}}`)
	c.Does(`{"id":7,"connect":{}}`)
	c.WantTold("connect twice", `{"push":{"disconnect":{"code":3501,"reason":"bad request"}}}`)
	c.WantEOF("the stream ends")
	c.Fin()
	clienttest.WaitFor(t, "it to be gone", func() bool { return s.edge.Counts().Connections == 0 })
	c.Posts.Write(clienttest.Posting("/emulation", c.Emulation(`{}`)))
	if a := c.Posts.WantStatus("its session is over", http.StatusNotFound); !a.Close {
		t.Error("the connection is kept after a refusal")
	}
}

// Events are the other form of such a stream.
func TestEmulatedEvents(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := &clienttest.Emulated{Client: clienttest.Stream(t, s, pathSSE+"?cf_connect="+url.QueryEscape(`{"id":1,"connect":{}}`)), Posts: clienttest.Connect(t, s)}
	c.Knows(c.Pushed(t))
	c.Does(`{"id":2,"subscribe":{"channel":"x"}}`)
	if got := clienttest.Constant(c.Pushed(t)); got != `{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}` {
		t.Errorf("subscribe: got %s", got)
	}
	s.publish("x", "1")
	if got := c.Pushed(t); got != `{"push":{"channel":"x","pub":{"data":1,"offset":1}}}` {
		t.Errorf("a publication: got %s", got)
	}
}

// A unidirectional client is sent bare pushes in lines.
func TestUnidirectionalLines(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for _, body := range []string{"{}", "null", ` {"name":"x"}`} {
		c := &clienttest.Emulated{Client: clienttest.Lines(t, s, pathUniHTTP, body)}
		c.WantTold("connect", `{"connect":{"client":"ID","version":"sluice","ping":25}}`)
	}
	for body, status := range map[string]int{"": 400, "[]": 400, strings.Repeat(" ", defaults.MaxMessage+1): 413} {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.Posting(pathUniHTTP, body))
		c.WantStatus("a request that is none", status)
	}
}
