package proxy

import (
	"bytes"
	"errors"
	"net/http"
	"testing"

	"sluice/gateway/hook"
	"sluice/gateway/hook/queue"

	"github.com/google/go-cmp/cmp"
)

// The headers that a backend gets, by the lists.
func TestHeadersOfCalls(t *testing.T) {
	const secret = "X-User-Id" // that a gateway sets, and that the backend trusts
	for name, c := range map[string]struct {
		cfg  Config
		who  hook.Identity
		want http.Header // beside Content-Type
	}{
		"nothing is passed on by default": {
			who: hook.Identity{Headers: hook.Header{{Name: "Cookie", Value: "a=1"}}, Emulated: hook.Header{{Name: "Authorization", Value: "b"}}},
		},
		"names have no case, and all values count": {
			cfg:  Config{Headers: []string{"cookie", "X-NONE"}},
			who:  hook.Identity{Headers: hook.Header{{Name: "COOKIE", Value: "a=1"}, {Name: "Cookie", Value: "b=2"}, {Name: "Other", Value: "x"}}},
			want: http.Header{"Cookie": {"a=1", "b=2"}},
		},
		// CVE-2026-71485.
		"what a client has made up is not a header of its request": {
			cfg: Config{Headers: []string{secret}},
			who: hook.Identity{Emulated: hook.Header{{Name: secret, Value: "1"}, {Name: "x-user-id", Value: "1"}}},
		},
		"a header of the request is not one that a client may make up": {
			cfg: Config{EmulatedHeaders: []string{secret}},
			who: hook.Identity{Headers: hook.Header{{Name: secret, Value: "1"}}},
		},
		"what a client has made up replaces no header of its request": {
			cfg:  Config{Headers: []string{secret}, EmulatedHeaders: []string{secret}},
			who:  hook.Identity{Headers: hook.Header{{Name: "x-user-id", Value: "7"}}, Emulated: hook.Header{{Name: secret, Value: "1"}}},
			want: http.Header{secret: {"7"}},
		},
		"a name on both lists": {
			cfg:  Config{Headers: []string{"authorization"}, EmulatedHeaders: []string{"AUTHORIZATION"}},
			who:  hook.Identity{Emulated: hook.Header{{Name: "Authorization", Value: "Bearer x"}}},
			want: http.Header{"Authorization": {"Bearer x"}},
		},
		"static, made up, of the request": {
			cfg: Config{Headers: []string{"X-C"}, EmulatedHeaders: []string{"X-B", "X-C"}, StaticHeaders: map[string]string{"x-a": "static", "x-b": "static", "x-c": "static"}},
			who: hook.Identity{Headers: hook.Header{{Name: "X-A", Value: "request"}, {Name: "X-B", Value: "request"}, {Name: "X-C", Value: "request"}},
				Emulated: hook.Header{{Name: "X-A", Value: "client"}, {Name: "X-B", Value: "client"}, {Name: "X-C", Value: "client"}}},
			want: http.Header{"X-A": {"static"}, "X-B": {"client"}, "X-C": {"request"}},
		},
		"the content type stays": {
			cfg: Config{Headers: []string{"content-type"}, EmulatedHeaders: []string{"Content-Type"}, StaticHeaders: map[string]string{"Content-Type": "text/plain"}},
			who: hook.Identity{Headers: hook.Header{{Name: "Content-Type", Value: "a/b"}}, Emulated: hook.Header{{Name: "Content-Type", Value: "c/d"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, says(`{}`))
			c.cfg.Endpoint = b.URL
			h := endpoint(t, c.cfg).Refresh()
			defer h.Close()
			for range 2 { // the second time nothing of the first is left
				if _, err := call(t, h, &hook.RefreshRequest{Client: &c.who}); err != nil {
					t.Fatal(err)
				}
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			got := b.header.Clone()
			for _, own := range []string{"User-Agent", "Content-Length"} {
				got.Del(own)
			}
			if c.want == nil {
				c.want = make(http.Header)
			}
			c.want["Content-Type"] = []string{"application/json"}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A header that cannot be sent is the client's fault alone: the circuit breaker does not count it.
func TestAHeaderThatCannotBeSent(t *testing.T) {
	b := newBackend(t, says(`{}`))
	h := endpoint(t, Config{Endpoint: b.URL, EmulatedHeaders: []string{"Authorization"}}).Subscribe()
	defer h.Close()
	q := subscribing("news")
	for _, value := range []string{"a\r\nX-User-Id: 1", "a\x00", "a\x7f"} {
		q.Client.Emulated = hook.Header{{Name: "authorization", Value: value}}
		for range 20 {
			_, err := call(t, h, q)
			if f, ok := errors.AsType[*hook.Failure](err); !ok || f.Outcome != queue.Request || f.Away {
				t.Fatalf("%q: %v", value, err)
			}
		}
	}
	q.Client.Emulated = hook.Header{{Name: "authorization", Value: "Bearer\té"}}
	if _, err := call(t, h, q); err != nil || b.calls.Load() != 1 {
		t.Errorf("the next call: %v, %d calls", err, b.calls.Load())
	}
}

// So it is with a payload that is not JSON.
func TestAPayloadThatIsNotJSON(t *testing.T) {
	b := newBackend(t, says(`{}`))
	plain, binary := endpoint(t, Config{Endpoint: b.URL}).Publish(), endpoint(t, Config{Endpoint: b.URL, Binary: true}).Publish()
	defer plain.Close()
	defer binary.Close()
	q := &hook.PublishRequest{Client: someone(), Channel: "news", Data: []byte("\x00{")}
	_, err := call(t, plain, q)
	if f, ok := errors.AsType[*hook.Failure](err); !ok || f.Outcome != queue.Request || f.Away {
		t.Errorf("%v", err)
	}
	if _, err := call(t, binary, q); err != nil {
		t.Errorf("with binary_encoding: %v", err)
	}
}

// Tools see what is sent and answered, also where it is a failure.
func TestCallsAreTraced(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") == "bad" {
			w.WriteHeader(500)
		}
		w.Write([]byte(`{"x":1}`))
	})
	var got []Exchange
	h := endpoint(t, Config{Endpoint: b.URL, Headers: []string{"Cookie"}, Trace: func(x Exchange) {
		x.Header, x.Body, x.Answer = x.Header.Clone(), bytes.Clone(x.Body), bytes.Clone(x.Answer)
		delete(x.Header, idempotency)
		got = append(got, x)
	}}).SubRefresh()
	defer h.Close()
	for _, cookie := range []string{"good", "bad"} {
		q := &hook.SubRefreshRequest{Client: &hook.Identity{User: "u", Headers: hook.Header{{Name: "Cookie", Value: cookie}}}, Channel: "c"}
		if _, err := call(t, h, q); (err != nil) != (cookie == "bad") {
			t.Errorf("%s: %v", cookie, err)
		}
	}
	exchange := func(cookie string, status int) Exchange {
		return Exchange{"sub_refresh", http.Header{"Content-Type": {"application/json"}, "Cookie": {cookie}}, []byte(`{"encoding":"json","user":"u","channel":"c"}`), status, []byte(`{"x":1}`)}
	}
	if diff := cmp.Diff([]Exchange{exchange("good", 200), exchange("bad", 500)}, got); diff != "" {
		t.Error(diff)
	}
}
