package clienttest

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Stream asks for an event stream, and reads the head of the answer.
func Stream(t testing.TB, s listening, target string, fields ...string) *Client {
	t.Helper()
	c := Connect(t, s)
	c.Stream(target, fields...)
	return c
}

func (c *Client) Stream(target string, fields ...string) {
	c.T.Helper()
	c.AskForStream(target, fields...)
	c.WantStream("stream " + target)
}

// AskForStream sends the request for an event stream.
func (c *Client) AskForStream(target string, fields ...string) {
	c.T.Helper()
	if *Deflated {
		fields = append(fields, AcceptGzip)
	}
	c.Write("GET " + target + " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n")
}

// WantStream reads the head of its response.
func (c *Client) WantStream(why string) {
	c.T.Helper()
	c.Patience()
	resp, err := http.ReadResponse(c.In, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.T.Fatalf("%s: got %v, %v", why, resp, err)
	}
	for field, want := range map[string]string{"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no", "Cache-Control": "no-store"} {
		if got, _, _ := strings.Cut(resp.Header.Get(field), ", "); got != want {
			c.T.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	if !resp.Close || resp.ContentLength != -1 {
		c.T.Errorf("the answer is not one until the end of the connection: %+v", resp)
	}
	c.Decodes(resp)
}

// Decodes has the client decode the rest of a response.
func (c *Client) Decodes(resp *http.Response) {
	if resp.Header.Get("Content-Encoding") == "gzip" {
		c.gzipped = c.In
		c.In = bufio.NewReader(&gunzip{from: c.gzipped})
	}
}

// Event reads up to the next empty line.
func (c *Client) Event() string {
	c.T.Helper()
	c.Patience()
	var b strings.Builder
	for {
		line, err := c.In.ReadString('\n')
		if err != nil {
			c.T.Fatalf("event: got %q, %v", b.String()+line, err)
		}
		if line == "\n" {
			return b.String()
		}
		b.WriteString(line)
	}
}

func (c *Client) WantEvent(why, want string) {
	c.T.Helper()
	if got := c.Event(); got != want {
		c.T.Fatalf("%s: got event %q, want %q", why, got, want)
	}
}

// WantBegin reads what every stream begins with.
func (c *Client) WantBegin(why string, offset uint64) (epoch string) {
	c.T.Helper()
	got := c.Event()
	var retry int
	var id string
	if n, err := fmt.Sscanf(got, "retry: %d\nid: %s\n", &retry, &id); n != 2 || retry < 1000 || retry > 3000 {
		c.T.Fatalf("%s: a stream begins with %q, %v", why, got, err)
	}
	epoch, number, _ := strings.Cut(id, ":")
	if number != fmt.Sprint(offset) {
		c.T.Fatalf("%s: it begins after %s, want %d", why, id, offset)
	}
	return epoch
}

// Lines reads up to a line, and gives all of them.
func (c *Client) Lines(t testing.TB, last string) (all string) {
	t.Helper()
	for {
		c.Patience()
		line, err := c.In.ReadString('\n')
		if all += line; err != nil {
			t.Fatalf("no line %q: %v, in %q", last, err, all)
		}
		if strings.TrimSpace(line) == last {
			return all
		}
	}
}
