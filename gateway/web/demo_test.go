package web

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// browser is what a browser sends for the page's own request.
func browser() *http.Request {
	r := httptest.NewRequest("GET", "/demo/numbers", nil)
	r.Host = "127.0.0.1:8000"
	r.Header.Set("Connection", "keep-alive")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func TestNumbersAreForTheGatewaysOwnPageAndNobodyElse(t *testing.T) {
	set := func(pairs ...string) func(*http.Request) {
		return func(r *http.Request) {
			for i := 0; i < len(pairs); i += 2 {
				r.Header.Set(pairs[i], pairs[i+1])
			}
		}
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	tests := []struct {
		name   string
		want   bool
		change func(*http.Request)
	}{
		{"the page", true, func(*http.Request) {}},
		{"localhost", true, host("localhost:8000")},
		{"IPv6", true, host("[::1]:8000")},
		{"the usual port", true, host("127.0.0.1")},
		{"another loopback address", true, host("127.9.9.9:8000")},
		{"an Origin that is Host", true, set("Origin", "http://127.0.0.1:8000")},
		{"an Origin over TLS", true, set("Origin", "https://127.0.0.1:8000")},
		{"an older browser", true, func(r *http.Request) {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "http://127.0.0.1:8000")
		}},
		{"any case of Connection", true, set("Connection", "Keep-Alive")},

		{"a name that may resolve to this machine", false, host("rebound.example:8000")},
		{"a name below localhost", false, host("evil.localhost:8000")},
		{"a name like an address", false, host("127.0.0.1.example:8000")},
		{"a public address", false, host("192.0.2.1:8000")},
		{"no Host", false, host("")},
		{"another site's page", false, set("Sec-Fetch-Site", "cross-site")},
		{"another port's page", false, set("Sec-Fetch-Site", "same-site")},
		{"the address bar", false, set("Sec-Fetch-Site", "none")},
		{"an Origin of another port", false, set("Origin", "http://127.0.0.1:8001")},
		{"an Origin of another name", false, set("Origin", "http://localhost:8000")},
		{"a public Origin", false, set("Origin", "https://app.example")},
		{"a sandboxed page", false, set("Origin", "null")},
		{"an Origin of another scheme", false, set("Origin", "chrome-extension://127.0.0.1:8000")},
		{"two Origins", false, func(r *http.Request) { r.Header["Origin"] = []string{"http://127.0.0.1:8000", "https://app.example"} }},
		{"two sites", false, func(r *http.Request) { r.Header["Sec-Fetch-Site"] = []string{"same-origin", "cross-site"} }},
		{"a program that says nothing", false, func(r *http.Request) { r.Header.Del("Sec-Fetch-Site") }},
		{"a proxy with HTTP/1.0", false, func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0 }},
		{"a proxy that closes", false, set("Connection", "close")},
		{"a proxy that passes on upgrades", false, set("Connection", "upgrade")},
		{"a proxy that says nothing of its connection", false, func(r *http.Request) { r.Header.Del("Connection") }},
		{"another path", false, func(r *http.Request) { r.URL.Path = "/demo/other" }},
		{"another method", false, func(r *http.Request) { r.Method = "POST" }},
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "x-forwarded-prefix", "X-Forwarded", "Forwarded", "X-Real-IP", "Via",
		"CF-Connecting-IP", "cf-ray", "True-Client-IP", "X-Client-IP", "X-Original-Forwarded-For", "X-Original-URL", "X-Envoy-External-Address", "Fly-Client-IP",
		"Fastly-Client-IP", "X-Amzn-Trace-Id", "X-Azure-ClientIP", "CDN-Loop", "X-Request-ID"} {
		tests = append(tests, struct {
			name   string
			want   bool
			change func(*http.Request)
		}{name, false, set(name, "192.0.2.1")})
	}
	d := NewDemo(func() Numbers { return Numbers{Version: "v"} }, nil)
	for _, test := range tests {
		r, w := browser(), httptest.NewRecorder()
		test.change(r)
		got := d.Serve(w, r, nil)
		if got != test.want || got != strings.Contains(w.Body.String(), `"version":"v"`) {
			t.Errorf("%s: answered: %t, want %t; %q", test.name, got, test.want, w.Body)
		}
		if !got && (len(w.Result().Header) > 0 || w.Body.Len() > 0) {
			t.Errorf("%s: not answered, and still there is an answer: %v %q", test.name, w.Result().Header, w.Body)
		}
	}
}

func TestNumbersAreJSONThatNobodyKeeps(t *testing.T) {
	each := int64(3)
	d := NewDemo(func() Numbers {
		return Numbers{Time: 1, Version: "v", Uptime: 2.5, Connections: 4, Published: 5, Delivered: 6,
			Latency: Histogram{Bounds: []float64{0.001}, Counts: []uint64{7, 8}}, Memory: Memory{9, 10, &each}, Visitors: Available{true, "", 1000}}
	}, nil)
	w := httptest.NewRecorder()
	if !d.Serve(w, browser(), nil) {
		t.Fatal("not answered")
	}
	var got any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"time": 1.0, "version": "v", "uptime": 2.5, "connections": 4.0, "published": 5.0, "delivered": 6.0,
		"latency":  map[string]any{"bounds": []any{0.001}, "counts": []any{7.0, 8.0}},
		"memory":   map[string]any{"process": 9.0, "fixed": 10.0, "per_connection": 3.0},
		"visitors": map[string]any{"available": true, "reason": "", "most": 1000.0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	header := map[string]string{}
	for name := range w.Result().Header {
		header[name] = w.Result().Header.Get(name)
	}
	if diff := cmp.Diff(map[string]string{"Cache-Control": "no-store", "Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}, header); diff != "" {
		t.Error(diff)
	}
}

func TestMemoryOfAConnectionIsSaidOnceThereAreMany(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	for _, test := range []struct {
		process, fixed, connections int64
		want                        *int64
	}{
		{3_000_000, 2_000_000, 1000, number(1000)},
		{3_000_000, 2_000_000, 10_000, number(100)},
		{3_000_000, 2_000_000, 999, nil},
		{2_000_000, 2_000_000, 1000, nil}, // nothing to share out
		{3_000_000, 0, 1000, nil},         // not known
	} {
		want := Memory{test.process, test.fixed, test.want}
		if diff := cmp.Diff(want, NewMemory(test.process, test.fixed, test.connections)); diff != "" {
			t.Errorf("%+v: %s", test, diff)
		}
	}
}
