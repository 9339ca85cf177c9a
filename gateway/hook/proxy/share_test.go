package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/hook"
)

// identified returns a client with headers, in pairs.
func identified(id string, headers ...string) *hook.Identity {
	who := &hook.Identity{ID: id, Transport: "websocket", Protocol: "json"}
	for i := 0; i < len(headers); i += 2 {
		who.Headers = append(who.Headers, hook.Field{Name: headers[i], Value: headers[i+1]})
	}
	return who
}

// Which requests share a call while it is in flight.
func TestRequestsThatShareACall(t *testing.T) {
	base := func() *hook.ConnectRequest {
		return &hook.ConnectRequest{Client: identified("1", "Cookie", "a=1", "Accept-Language", "en"), Data: []byte(`{}`), Name: "js"}
	}
	for name, c := range map[string]struct {
		change func(*hook.ConnectRequest)
		shares bool
	}{
		"the same":       {func(*hook.ConnectRequest) {}, true},
		"another client": {func(q *hook.ConnectRequest) { q.Client.ID = "2" }, true},
		"a header that is not passed on": {func(q *hook.ConnectRequest) {
			q.Client.Headers = append(q.Client.Headers, hook.Field{Name: "X-Other", Value: "1"})
		}, true},
		"another user":   {func(q *hook.ConnectRequest) { q.Client.Headers[0].Value = "a=2" }, false},
		"another header": {func(q *hook.ConnectRequest) { q.Client.Headers[1].Value = "de" }, false},
		"one header in two": {func(q *hook.ConnectRequest) {
			q.Client.Headers = append(q.Client.Headers, hook.Field{Name: "Cookie", Value: ""})
		}, false},
		"a header that was made up":       {func(q *hook.ConnectRequest) { q.Client.Emulated = hook.Header{{Name: "X-Token", Value: "t"}} }, false},
		"other data":                      {func(q *hook.ConnectRequest) { q.Data = []byte(`{"a":1}`) }, false},
		"another SDK":                     {func(q *hook.ConnectRequest) { q.Name = "go" }, false},
		"another transport":               {func(q *hook.ConnectRequest) { q.Client.Transport = "sse" }, false},
		"other channels":                  {func(q *hook.ConnectRequest) { q.Channels = []string{"a"} }, false},
		"nothing that says whose it is":   {func(q *hook.ConnectRequest) { q.Client.Headers = q.Client.Headers[1:] }, false},
		"only an empty one":               {func(q *hook.ConnectRequest) { q.Client.Headers[0].Value = "" }, false},
		"data that cannot be passed on":   {func(q *hook.ConnectRequest) { q.Data = []byte(`{`) }, false},
		"a header that cannot be sent on": {func(q *hook.ConnectRequest) { q.Client.Headers[0].Value = "a\n" }, false},
	} {
		e := endpoint(t, Config{Endpoint: "http://127.0.0.1:1", Headers: []string{"Cookie", "Accept-Language", "Authorization"}, EmulatedHeaders: []string{"X-Token"},
			SharedBy: []string{"authorization", "cookie"}})
		first, second := base(), base()
		c.change(second)
		k1, ok1 := shareKey(e, &connectEvent, first)
		k2, ok2 := shareKey(e, &connectEvent, second)
		if !ok1 || (ok2 && k1 == k2) != c.shares {
			t.Errorf("%s: shares: %t", name, ok2 && k1 == k2)
		}
	}
	// Two that have nothing to say whose they are do not share either.
	e := endpoint(t, Config{Endpoint: "http://127.0.0.1:1", Headers: []string{"Cookie"}, SharedBy: []string{"Cookie"}})
	if _, ok := shareKey(e, &connectEvent, &hook.ConnectRequest{Client: identified("1")}); ok {
		t.Error("a request without the header is shared")
	}
}

func TestASharedCallIsMadeOnce(t *testing.T) {
	release := make(chan struct{})
	b := newBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, `{"result":{"user":"u7"}}`)
	})
	h := endpoint(t, Config{Endpoint: b.URL, Headers: []string{"Cookie"}, SharedBy: []string{"Cookie"}}).Connect()
	defer h.Close()
	c := make(chan answer[hook.ConnectResult], 10)
	for i := range 5 {
		h.Ask(&hook.ConnectRequest{Client: identified(fmt.Sprint(i), "Cookie", "a=1")}, func(a *hook.ConnectResult, err error) { c <- answer[hook.ConnectResult]{a, err} })
	}
	close(release)
	for range 5 {
		if a, err := wait(t, c); err != nil || a.User != "u7" {
			t.Errorf("%v, %v", a, err)
		}
	}
	if n := b.calls.Load(); n != 1 {
		t.Errorf("%d calls", n)
	}
	if _, err := call(t, h, &hook.ConnectRequest{Client: identified("9", "Cookie", "a=1")}); err != nil || b.calls.Load() != 2 {
		t.Errorf("an answer is used after it has come: %v, %d calls", err, b.calls.Load())
	}
}

// Which decisions are used again, by what the backend answers.
func TestDecisionsThatAreCached(t *testing.T) {
	header := func(value string, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", value)
			fmt.Fprint(w, body)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		want  bool
	}{
		"allowed":               {says(`{"result":{"info":{"a":1}}}`), true},
		"no result":             {says(`{}`), true},
		"error":                 {says(`{"error":{"code":403,"message":"no"}}`), true},
		"temporary error":       {says(`{"error":{"code":403,"temporary":true}}`), false},
		"disconnect":            {says(`{"disconnect":{"code":4500}}`), false},
		"expires":               {says(`{"result":{"expire_at":1900000000}}`), false},
		"failure":               {says(`{`), false},
		"status":                {status(500), false},
		"transformed error":     {status(403), false},
		"private":               {header("private", `{}`), false},
		"no-store":              {header("max-age=60, No-Store", `{}`), false},
		"no-cache":              {header("no-cache", `{}`), false},
		"max-age=0":             {header("max-age=0", `{}`), false},
		"max-age without sense": {header("max-age=soon", `{}`), false},
		"max-age":               {header("public, max-age=3600", `{}`), true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, c.serve)
			h := endpoint(t, Config{Endpoint: b.URL, Cache: time.Hour, Transforms: []Transform{{Status: 403, Error: &hook.Error{Code: 403}}}}).Subscribe()
			defer h.Close()
			first, err1 := call(t, h, subscribing("news"))
			second, err2 := call(t, h, subscribing("news"))
			if cached := b.calls.Load() == 1; cached != c.want {
				t.Errorf("cached: %t", cached)
			}
			if _, hits := h.Stats(); (hits == 1) != c.want {
				t.Errorf("%d hits", hits)
			}
			if fmt.Sprint(first, err1) != fmt.Sprint(second, err2) {
				t.Errorf("%v, %v and then %v, %v", first, err1, second, err2)
			}
		})
	}
}

func TestWhatADecisionIsFor(t *testing.T) {
	b := newBackend(t, says(`{}`))
	e := endpoint(t, Config{Endpoint: b.URL, Cache: time.Hour, Headers: []string{"Cookie"}, EmulatedHeaders: []string{"X-A"}, Meta: true})
	h := e.Subscribe()
	defer h.Close()
	base := func() *hook.SubscribeRequest {
		q := subscribing("news")
		q.Client = identified("1", "Cookie", "a=1")
		q.Client.User = "u"
		return q
	}
	for i, c := range []struct {
		change func(*hook.SubscribeRequest)
		hit    bool
	}{
		{func(*hook.SubscribeRequest) {}, false},
		{func(*hook.SubscribeRequest) {}, true},
		{func(q *hook.SubscribeRequest) { q.Client.ID, q.Client.Transport = "2", "sse" }, true},
		{func(q *hook.SubscribeRequest) {
			q.Client.Headers = append(q.Client.Headers, hook.Field{Name: "X-Other", Value: "1"})
		}, true},
		{func(q *hook.SubscribeRequest) { q.Client.User = "v" }, false},
		{func(q *hook.SubscribeRequest) { q.Channel = "news2" }, false},
		{func(q *hook.SubscribeRequest) { q.Client.User, q.Channel = "un", "ews" }, false},
		{func(q *hook.SubscribeRequest) { q.Data = []byte("1") }, false},
		{func(q *hook.SubscribeRequest) { q.Client.Headers[0].Value = "a=2" }, false},
		{func(q *hook.SubscribeRequest) { q.Client.Emulated = hook.Header{{Name: "x-a", Value: "1"}} }, false},
		{func(q *hook.SubscribeRequest) { q.Client.Meta = []byte("{}") }, false},
		{func(q *hook.SubscribeRequest) { q.Token = "t" }, false},
	} {
		q := base()
		c.change(q)
		before := b.calls.Load()
		if _, err := call(t, h, q); err != nil {
			t.Fatal(err)
		}
		if hit := b.calls.Load() == before; hit != c.hit {
			t.Errorf("request %d: from the cache: %t", i, hit)
		}
	}
	// Another hook has its own decisions.
	other := e.Subscribe()
	defer other.Close()
	before := b.calls.Load()
	if call(t, other, base()); b.calls.Load() == before {
		t.Error("a decision of another hook is used")
	}
}

func TestDecisionsGetOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(cacheableSubscription, func(q *hook.SubscribeRequest) key { return key{byte(len(q.Channel))} })
		q, a := &hook.SubscribeRequest{Channel: "a"}, &hook.SubscribeResult{}
		c.put(q, a, nil, time.Second)
		time.Sleep(time.Second - 1)
		if got, err, ok := c.get(q); got != a || err != nil || !ok {
			t.Error("gone too early")
		}
		time.Sleep(time.Nanosecond)
		if _, _, ok := c.get(q); ok || len(c.items) != 0 || c.bytes != 0 {
			t.Errorf("still there: %d decisions, %d bytes", len(c.items), c.bytes)
		}
		for i := range 200 {
			big := &hook.SubscribeResult{Data: make([]byte, 1<<20)}
			c.put(&hook.SubscribeRequest{Channel: strings.Repeat("a", i)}, big, nil, time.Hour)
			if c.bytes > cacheBytesMax {
				t.Fatalf("%d bytes", c.bytes)
			}
		}
		if _, _, ok := c.get(&hook.SubscribeRequest{Channel: strings.Repeat("a", 199)}); !ok || len(c.items) != 15 || c.order.Len() != 15 {
			t.Errorf("the newest is there: %t; %d decisions, %d in order", ok, len(c.items), c.order.Len())
		}
		if c.put(q, &hook.SubscribeResult{Data: make([]byte, cacheBytesMax)}, nil, time.Hour); len(c.items) != 15 {
			t.Error("a decision that does not fit drives others out")
		}
		time.Sleep(time.Hour)
		if c.put(q, a, nil, time.Second); len(c.items) != 1 {
			t.Errorf("%d decisions are kept although their time is over", len(c.items))
		}
	})
}

func TestMaxAgeOnlyShortens(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  time.Duration
	}{
		{nil, time.Minute},
		{[]string{"max-age=10"}, 10 * time.Second},
		{[]string{`MAX-AGE="10"`}, 10 * time.Second},
		{[]string{"max-age=3600"}, time.Minute},
		{[]string{"max-age=99999999999999999999"}, 0},
		{[]string{"max-age=-1"}, 0},
		{[]string{"max-age"}, 0},
		{[]string{"public", "s-maxage=1,max-age=20"}, 20 * time.Second},
		{[]string{`private="Set-Cookie"`}, 0},
		{[]string{"max-age=20", "no-store"}, 0},
	} {
		if got := freshFor(time.Minute, c.lines); got != c.want {
			t.Errorf("%q: %v", c.lines, got)
		}
	}
}

// Two calls that may have an effect are two, however alike they are.
func TestCallsWithAnEffectAreNotShared(t *testing.T) {
	b := newBackend(t, says(`{}`))
	e := endpoint(t, Config{Endpoint: b.URL, Headers: []string{"Cookie"}, SharedBy: []string{"Cookie"}})
	who := identified("1", "Cookie", "a=1")
	rpc, publish := &hook.RPCRequest{Client: who, Method: "vote"}, &hook.PublishRequest{Client: who, Channel: "x", Data: []byte(`1`)}
	r, p := e.RPC(), e.Publish()
	defer r.Close()
	defer p.Close()
	c := make(chan error, 10)
	const each = 3
	for range each {
		r.Ask(rpc, func(_ *hook.RPCResult, err error) { c <- err })
		p.Ask(publish, func(_ *hook.PublishResult, err error) { c <- err })
	}
	for range 2 * each {
		if err := <-c; err != nil {
			t.Error(err)
		}
	}
	if n := b.calls.Load(); n != 2*each {
		t.Errorf("%d calls, want %d", n, 2*each)
	}
}
