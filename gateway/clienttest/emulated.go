package clienttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Emulated is a two-way client without WebSocket: it is sent a stream, and sends its commands beside it.
type Emulated struct {
	*Client         // the stream
	Posts   *Client // to which its requests go
	Session string  // of its connect reply
	Node    string
}

// Posting is a request for a stream, whose body is what the client says.
func Posting(target, body string, fields ...string) string {
	return "POST " + target + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
		strings.Join(append(fields, fmt.Sprint("Content-Length: ", len(body)), ""), "\r\n") + "\r\n" + body
}

// Lines asks for a stream of lines, and reads the head of the answer.
func Lines(t testing.TB, s listening, target, body string, fields ...string) *Client {
	t.Helper()
	c := Connect(t, s)
	c.Write(Posting(target, body, fields...))
	c.WantLines(target)
	return c
}

// WantLines reads the head of the answer to a request for a stream of lines.
func (c *Client) WantLines(why string) {
	c.T.Helper()
	c.Patience()
	resp, err := http.ReadResponse(c.In, nil)
	if err != nil || resp.StatusCode != http.StatusOK || !resp.Close || resp.ContentLength != -1 {
		c.T.Fatalf("%s: got %+v, %v", why, resp, err)
	}
	for field, want := range map[string]string{"Content-Type": "application/x-ndjson", "X-Accel-Buffering": "no"} {
		if got := resp.Header.Get(field); got != want {
			c.T.Errorf("%s: %s is %q, want %q", why, field, got, want)
		}
	}
	c.Decodes(resp)
}

// Emulate connects an emulated client with a stream of lines.
func Emulate(t testing.TB, s listening, token string, fields ...string) *Emulated {
	t.Helper()
	cmd, _ := json.Marshal(map[string]any{"id": 1, "connect": map[string]any{"token": token}}) // cannot fail
	e := &Emulated{Client: Lines(t, s, "/connection/http_stream", string(cmd), fields...), Posts: Connect(t, s)}
	e.Knows(e.Told("connect"))
	return e
}

// Knows takes the session from a connect reply.
func (e *Emulated) Knows(reply string) {
	e.T.Helper()
	var r struct {
		Connect struct{ Session, Node string } `json:"connect"`
	}
	if err := json.Unmarshal([]byte(reply), &r); err != nil || r.Connect.Session == "" || r.Connect.Node == "" {
		e.T.Fatalf("connect: got %s, %v", reply, err)
	}
	e.Session, e.Node = r.Connect.Session, r.Connect.Node
}

// Emulation is the body of a request with commands.
func (e *Emulated) Emulation(commands string) string {
	b, _ := json.Marshal(map[string]string{"session": e.Session, "node": e.Node, "data": commands}) // cannot fail
	return string(b)
}

// Does sends commands, each in a request, on one connection.
func (e *Emulated) Does(commands ...string) {
	e.T.Helper()
	for _, cmd := range commands {
		e.Posts.Write(Posting("/emulation", e.Emulation(cmd)))
		if a := e.Posts.WantStatus("a command", http.StatusNoContent); a.Close {
			e.T.Fatalf("the connection is not kept: %v", a.Header)
		}
	}
}

// Told reads what the client is sent, passing over pings.
func (e *Emulated) Told(why string) string {
	e.T.Helper()
	for {
		e.Patience()
		line, err := e.In.ReadString('\n')
		if err != nil {
			e.T.Fatalf("%s: got %q, %v", why, line, err)
		}
		if line = strings.TrimSuffix(line, "\n"); line != "{}" {
			return line
		}
		e.Does("{}")
	}
}

// WantTold reads what the client is sent, and compares it.
func (e *Emulated) WantTold(why, want string) {
	e.T.Helper()
	if got := Constant(e.Told(why)); got != want {
		e.T.Fatalf("%s:\n got %s\nwant %s", why, got, want)
	}
}
