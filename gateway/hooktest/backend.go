package hooktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Backend is the backend in Go.
type Backend struct {
	URL string // of the hooks: URL/connect and so on

	ended chan struct{} // calls that hang go on when it is closed

	mu    sync.Mutex
	asked []string // guarded by mu
	calls []Call   // guarded by mu
}

// Call is a call as it came.
type Call struct {
	Event  string
	Header http.Header
	Body   string
}

// Start starts a backend in Go, which ends with the test.
func Start(t testing.TB) *Backend {
	b := &Backend{ended: make(chan struct{}), asked: []string{}}
	mux := http.NewServeMux()
	for event, decide := range map[string]decision{
		"connect": connect, "refresh": refresh, "subscribe": subscribe, "sub_refresh": subRefresh, "publish": publish, "rpc": rpc,
	} {
		mux.HandleFunc("POST /"+event, func(w http.ResponseWriter, r *http.Request) { b.serve(w, r, event, decide) })
	}
	mux.HandleFunc("GET /asked", func(w http.ResponseWriter, _ *http.Request) { reply(w, b.take()) })
	s := httptest.NewServer(mux)
	b.URL = s.URL
	t.Cleanup(func() {
		close(b.ended)
		s.Close()
	})
	return b
}

// Calls returns the calls so far.
func (b *Backend) Calls() []Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

func (b *Backend) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := b.asked
	b.asked = []string{}
	return asked
}

// request is the JSON of all events.
type request struct {
	Client    string
	Transport string
	Protocol  string
	Encoding  string

	User     *string
	Channel  *string
	Channels []string
	Method   *string
	Name     *string
	Version  *string
	Data     json.RawMessage
	B64Data  *string
	Meta     *struct{ Tenant int }

	cookies map[string]string
	event   string
}

// fields are those that a request of an event has to have, and can have, beside the first four.
var fields = map[string]struct{ must, may []string }{
	"connect":     {nil, []string{"name", "version", "channels", "data", "b64data"}},
	"refresh":     {[]string{"user"}, []string{"meta"}},
	"subscribe":   {[]string{"user", "channel"}, []string{"meta", "data", "b64data"}},
	"sub_refresh": {[]string{"user", "channel"}, []string{"meta"}},
	"publish":     {[]string{"user", "channel"}, []string{"meta", "data", "b64data"}},
	"rpc":         {[]string{"user"}, []string{"method", "meta", "data", "b64data"}},
}

// parse returns the request of an event, or what is wrong with it.
func parse(event string, r *http.Request, body []byte) (*request, error) {
	if got := r.Header.Get("Content-Type"); got != "application/json" {
		return nil, fmt.Errorf("the type is %q", got)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, err
	}
	of := fields[event]
	must := append([]string{"client", "transport", "protocol", "encoding"}, of.must...)
	for _, name := range must {
		if all[name] == nil {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	for name := range all {
		if !slices.Contains(must, name) && !slices.Contains(of.may, name) {
			return nil, fmt.Errorf("%s is unknown", name)
		}
	}
	q := &request{event: event, cookies: make(map[string]string)}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(q); err != nil {
		return nil, err
	}
	for _, c := range r.Cookies() {
		q.cookies[c.Name] = c.Value
	}
	return q, nil
}

func (b *Backend) serve(w http.ResponseWriter, r *http.Request, event string, decide decision) {
	body, _ := io.ReadAll(r.Body) // ignored: what is missing is not JSON
	q, err := parse(event, r, body)
	if err != nil {
		b.note("malformed: " + event + ": " + err.Error())
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b.note(q.String())
	b.mu.Lock()
	b.calls = append(b.calls, Call{event, r.Header.Clone(), string(body)})
	b.mu.Unlock()

	result, word := decide(q)
	switch word {
	case "error":
		reply(w, answer{Error: &failed{Code: 403, Message: "not you"}})
	case "unauthorized":
		reply(w, answer{Error: &failed{Code: 401, Message: "who are you?"}})
	case "later":
		reply(w, answer{Error: &failed{Code: 1000, Message: "try later", Temporary: true}})
	case "disconnect":
		reply(w, answer{Disconnect: &disconnect{4501, "banned"}})
	case "reconnect":
		reply(w, answer{Disconnect: &disconnect{4001, "move"}})
	case "all":
		reply(w, answer{result, &failed{Code: 403, Message: "not you"}, &disconnect{4501, "banned"}})
	case "both":
		reply(w, answer{Result: result, Error: &failed{Code: 403, Message: "not you"}})
	case "empty":
		reply(w, answer{})
	case "null":
		reply(w, map[string]any{"result": nil})
	case "nothing":
		reply(w, map[string]any{"result": map[string]any{}})
	case "nulls":
		reply(w, map[string]any{"error": nil, "disconnect": nil, "result": map[string]any{
			"user": nil, "expire_at": nil, "info": nil, "b64info": nil, "data": nil, "b64data": nil, "channels": nil, "subs": nil, "meta": nil, "override": nil, "tags": nil,
		}})
	case "created":
		w.WriteHeader(http.StatusCreated)
		reply(w, answer{Result: result})
	case "none":
		w.WriteHeader(http.StatusNoContent)
	case "redirect":
		w.Header().Set("Location", "/"+event)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case "fails":
		http.Error(w, "the application has failed", http.StatusInternalServerError)
	case "busy":
		http.Error(w, "slow down", http.StatusTooManyRequests)
	case "broken":
		io.WriteString(w, `{"result":`) // ignored, as all errors of writing: the gateway has gone
	case "text":
		io.WriteString(w, "OK")
	case "number":
		reply(w, map[string]any{"result": map[string]any{"user": 7, "expire_at": json.RawMessage("1.7e9"), "tags": 1, "data": 1, "b64data": 1}})
	case "expired":
		reply(w, map[string]any{"result": map[string]any{"expired": true}})
	case "hangs":
		select {
		case <-r.Context().Done():
		case <-b.ended:
		}
	case "past":
		result["expire_at"] = time.Now().Unix() - 60
		reply(w, answer{Result: result})
	default:
		if seconds, ok := strings.CutPrefix(word, "+"); ok {
			n, _ := strconv.Atoi(seconds) // ignored: a test's mistake, which it sees
			result["expire_at"] = time.Now().Unix() + int64(n)
		}
		reply(w, answer{Result: result})
	}
}
