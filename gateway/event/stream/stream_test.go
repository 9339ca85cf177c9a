package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/gateway/event"
	"sluice/poller/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const patience = 30 * time.Second

// client reads a stream.
type client struct {
	*testing.T
	resp  *http.Response
	lines *bufio.Scanner
	id    string
}

func dial(t *testing.T, url, last string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Last-Event-ID", last)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &client{T: t, resp: resp, lines: bufio.NewScanner(resp.Body)}
}

// next returns the next event.
func (c *client) next() (e event.Event) {
	c.Helper()
	for c.lines.Scan() {
		if id, ok := strings.CutPrefix(c.lines.Text(), "id: "); ok {
			c.id = id
		}
		if data, ok := strings.CutPrefix(c.lines.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				c.Fatal(err)
			}
			return e
		}
	}
	c.Fatal("no event: ", c.lines.Err())
	return e
}

// want checks the next events, such as "occupied news".
func (c *client) want(all ...string) {
	c.Helper()
	for _, want := range all {
		e := c.next()
		if got := strings.TrimSpace(e.Type.String() + " " + e.Channel); got != want {
			c.Fatalf("got %s, want %s", got, want)
		}
	}
}

func serve(t *testing.T) (*event.Notifier, string) {
	n := event.New(event.Config{VacatedDelay: -1})
	s := httptest.NewServer(handler{n, 20 * time.Millisecond})
	t.Cleanup(func() {
		n.Close(t.Context()) // ignored: there is no receiver
		s.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return n, s.URL
}

func TestAStreamBeginsWithWhatIsOccupied(t *testing.T) {
	n, url := serve(t)
	n.Join("news")
	c := dial(t, url, "")
	c.want("reset", "occupied news")
	n.Join("chat")
	n.Leave("news")
	for range 2 {
		if e := c.next(); e.Type == event.Occupied && e.Channel != "chat" || e.Type == event.Vacated && e.Channel != "news" {
			t.Errorf("%+v", e)
		}
	}
}

func TestAStreamResumes(t *testing.T) {
	n, url := serve(t)
	c := dial(t, url+"?types=occupied,publication&channels=news", "")
	c.want("reset")
	n.Join("news")
	c.want("occupied news")
	c.resp.Body.Close()
	n.Join("chat")
	n.Emit(event.Event{Type: event.Publication, Channel: "news", Bytes: []byte("42")})
	again := dial(t, url+"?types=occupied,publication&channels=news", c.id)
	again.want("publication news")
	again.resp.Body.Close()
	// Other types were not kept.
	more := dial(t, url+"?types=connected", again.id)
	more.want("reset")
	for _, stale := range []string{"x", "-1", strings.Split(c.id, "-")[0] + "-99999", "0-1"} {
		dial(t, url+"?types=occupied,publication&channels=news", stale).want("reset", "occupied news")
	}
}

func TestAStreamIsKeptAlive(t *testing.T) {
	_, url := serve(t)
	c := dial(t, url, "")
	c.want("reset")
	comments := 0
	for comments < 3 && c.lines.Scan() {
		if c.lines.Text() == ":" {
			comments++
		}
	}
	if comments < 3 {
		t.Error(c.lines.Err())
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	n, url := serve(t)
	for query, want := range map[string]string{
		"?types=ocupied": `did you mean "occupied"?`, "?types=digest": "unknown event", "?channel=a": "unknown parameter",
	} {
		c := dial(t, url+query, "")
		if c.lines.Scan(); c.resp.StatusCode != 400 || !strings.Contains(c.lines.Text(), want) {
			t.Errorf("%s: %d, %s", query, c.resp.StatusCode, c.lines.Text())
		}
	}
	w := httptest.NewRecorder()
	Handler(n).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != 405 {
		t.Error(w.Code)
	}
}
