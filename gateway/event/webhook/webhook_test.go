package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/gateway/event"
	"sluice/poller/leaktest"
)

func TestMain(m *testing.M) {
	os.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // must not be used
	leaktest.Main(m)
}

// delivery is a request that an endpoint was sent.
type delivery struct {
	header http.Header
	path   string
	body   string
}

// endpoint serves deliveries, and keeps the last one.
type endpoint struct {
	*httptest.Server
	mu   sync.Mutex
	last delivery
}

func newEndpoint(t *testing.T, serve http.HandlerFunc) *endpoint {
	e := new(endpoint)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // ignored: the test sees what is missing
		e.mu.Lock()
		e.last = delivery{r.Header, r.URL.String(), string(body)}
		e.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) seen() delivery {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

func answers(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func webhook(t *testing.T, c Config) *Webhook {
	t.Helper()
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	w.now = func() time.Time { return time.Unix(1614265330, 0) }
	t.Cleanup(w.Close)
	return w
}

func deliver(t *testing.T, w *Webhook) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return w.Deliver(ctx, &event.Batch{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", Events: []event.Event{{Type: event.Occupied, Channel: "news", Time: 1790000000123, ID: "e-1-2", Seq: 2, Partition: 1, Epoch: "e", Node: "n1"}}})
}

func TestBytesOfADelivery(t *testing.T) {
	e := newEndpoint(t, answers(200, `{"result":{}}`))
	key, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
	if err != nil {
		t.Fatal(err)
	}
	other, err := ParseSecret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX")
	if err != nil {
		t.Fatal(err)
	}
	u := strings.Replace(e.URL, "http://", "http://me:secret@", 1) + "/hook?a=b"
	w := webhook(t, Config{URL: u, Secrets: []Secret{key, other}, StaticHeaders: map[string]string{"X-Tenant": "4", "Content-Type": "text/plain"}})
	if err := deliver(t, w); err != nil {
		t.Fatal(err)
	}
	got := e.seen()
	wantBody := `{"events":[{"time_ms":1790000000123,"channel":"news","type":"occupied","id":"e-1-2","seq":2,"partition":1,"epoch":"e","node":"n1"}]}`
	if got.body != wantBody || got.path != "/hook?a=b" {
		t.Errorf("%s\n%s", got.path, got.body)
	}
	for name, want := range map[string]string{
		"Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "Webhook-Timestamp": "1614265330", "Content-Type": "application/json",
		"X-Tenant": "4", "Authorization": "Basic bWU6c2VjcmV0",
		"Webhook-Signature": string(key.sign(nil, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(wantBody))) + " " +
			string(other.sign(nil, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(wantBody))),
	} {
		if diff := cmp.Diff(want, got.header.Get(name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, sent := got.header["Idempotency-Key"]; sent {
		t.Error("Idempotency-Key is sent")
	}
	if strings.Contains(w.String(), "secret") {
		t.Error(w)
	}
}

// The example of the specification's libraries.
func TestSignatures(t *testing.T) {
	key, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := string(key.sign(nil, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)))
	if diff := cmp.Diff("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", got); diff != "" {
		t.Error(diff)
	}
}

func TestAnswers(t *testing.T) {
	for _, x := range []struct {
		name    string
		serve   http.HandlerFunc
		want    string // of the error; "" for accepted
		after   time.Duration
		permits bool
	}{
		{name: "Centrifugo's", serve: answers(200, `{"result":{}}`)},
		{name: "empty", serve: answers(204, "")},
		{name: "a text", serve: answers(200, "ok")},
		{name: "accepted", serve: answers(202, `"error"`)},
		{name: "error null", serve: answers(200, `{"error":null}`)},
		{name: "error", serve: answers(200, `{"error":{"code":1000,"message":"no"}}`), want: `the answer is an error: "{\"code\":1000`},
		{name: "redirect", serve: answers(307, "", "Location", "/other"), want: "redirects are not followed"},
		{name: "failure", serve: answers(500, "what went wrong"), want: `500 and not 2xx: "what went wrong"`},
		{name: "long", serve: answers(400, strings.Repeat("x", 1000)), want: `xxx..."`},
		{name: "busy", serve: answers(503, "", "Retry-After", "120"), want: "503", after: 2 * time.Minute},
		{name: "busy until", serve: answers(429, "", "Retry-After", "Thu, 25 Feb 2021 15:03:10 GMT"), want: "429", after: time.Minute},
		{name: "busy, and does not say how long", serve: answers(429, "", "Retry-After", "soon"), want: "429"},
		{name: "breaks off", serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "{}")
		}, want: "unexpected EOF"},
	} {
		t.Run(x.name, func(t *testing.T) {
			e := newEndpoint(t, x.serve)
			err := deliver(t, webhook(t, Config{URL: e.URL + "/hook"}))
			if x.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Fatalf("%v", err)
			}
			later, ok := errors.AsType[*event.Later](err)
			if ok != (x.after > 0) || ok && later.After != x.after {
				t.Errorf("%+v", later)
			}
			if got := e.seen().path; got != "/hook" {
				t.Errorf("it was followed to %s", got)
			}
			if e.seen().header.Get("Webhook-Signature") != "" {
				t.Error("signed without a secret")
			}
		})
	}
	t.Run("gone", func(t *testing.T) {
		e := newEndpoint(t, answers(410, ""))
		if err := deliver(t, webhook(t, Config{URL: e.URL})); !errors.Is(err, event.ErrGone) {
			t.Error(err)
		}
	})
	t.Run("endless", func(t *testing.T) {
		e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		})
		if err := deliver(t, webhook(t, Config{URL: e.URL})); err != nil {
			t.Error(err) // what is read is no JSON, and the rest is not read
		}
	})
	t.Run("nobody", func(t *testing.T) {
		e := newEndpoint(t, nil)
		e.Close()
		if err := deliver(t, webhook(t, Config{URL: strings.Replace(e.URL, "//", "//me:secret@", 1)})); err == nil || strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	})
}

func TestEndpointsThatAreNeverCalled(t *testing.T) {
	for _, u := range []string{"", "grpc://host:1", "host", "http://169.254.169.254/latest", "http://[::ffff:169.254.169.254]/", "ftp://host/", "http://host/#a"} {
		if _, err := New(Config{URL: u}); err == nil {
			t.Errorf("%q", u)
		}
	}
}

func TestSecretsThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"": "empty", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": "does not begin", "whsec_%%": "not base64", "whsec_AAEC": "3 bytes", "whsk_AAEC": "Ed25519",
		"whsec_" + strings.Repeat("AAAA", 22): "66 bytes",
	} {
		if _, err := ParseSecret(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if s := (Secret("0123456789")).String(); s != "whsec_..." {
		t.Error(s)
	}
}

// The same events, with the same ID, until the endpoint accepts them; each attempt has its own time.
func TestEventsReachAnEndpoint(t *testing.T) {
	type attempt struct{ ID, Body string }
	var mu sync.Mutex
	var attempts []attempt
	accepted := make(chan event.Event, 1000)
	e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // ignored: the test sees what is missing
		var b struct{ Events []event.Event }
		if err := json.Unmarshal(body, &b); err != nil {
			t.Error(err)
		}
		if last := b.Events[len(b.Events)-1]; last.Type == event.Occupied {
			mu.Lock()
			attempts = append(attempts, attempt{r.Header.Get("Webhook-Id"), string(body)})
			n := len(attempts)
			mu.Unlock()
			if n < 4 {
				w.WriteHeader(500)
				return
			}
			accepted <- last
		}
	}))
	defer e.Close()
	n := event.New(event.Config{Node: "n1"})
	n.Add(event.Options{Name: e.URL, Backoff: time.Millisecond}, webhook(t, Config{URL: e.URL}))
	n.Join("news")
	select {
	case got := <-accepted:
		if got.Channel != "news" || got.Node != "n1" {
			t.Errorf("%+v", got)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no event")
	}
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, a := range attempts {
		if a != attempts[0] || a.ID == "" {
			t.Errorf("%v, %v", a, attempts[0])
		}
	}
}
