package ops

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// guarded is a listener's handler, and the host that it is asked for.
type guarded struct {
	http.Handler
	host string
}

func guard(key, host string, unix bool) *guarded {
	l := &Listener{
		Gateway: refusing{&Refusal{Status: 200, Code: "behind"}}, APIKey: key, UnixSocket: unix, MessageMax: 10,
		Metrics: prometheus.NewCounter(prometheus.CounterOpts{Name: "x"}), API: http.NotFoundHandler(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	return &guarded{l.Handler(), host}
}

// ask makes a request; fields are pairs of a header's name and value.
func (g *guarded) ask(method, path, body string, fields ...string) *http.Response {
	r, w := httptest.NewRequest(method, "http://"+g.host+path, strings.NewReader(body)), httptest.NewRecorder()
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	g.ServeHTTP(w, r)
	return w.Result()
}

// login returns the header of a browser that has logged in.
func (g *guarded) login(t *testing.T, key string) []string {
	t.Helper()
	resp := g.ask("POST", "/login", fmt.Sprintf(`{"key":%q}`, key), "Origin", "http://"+g.host)
	if resp.StatusCode != 204 || len(resp.Cookies()) != 1 {
		t.Fatalf("login: %d", resp.StatusCode)
	}
	return []string{"Cookie", resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value}
}

// With a cookie a browser sends what the page asks for, and what any other page asks for as well.
func TestACookieCountsOnlyWithThePagesOwnOrigin(t *testing.T) {
	g := guard("sesame", "gw.internal:9000", false)
	cookie := g.login(t, "sesame")
	with := func(fields ...string) []string { return append(cookie[:2:2], fields...) }
	const own = "http://gw.internal:9000"
	for _, test := range []struct {
		why, method, path string
		fields            []string
		status            int
	}{
		{"no cookie", "GET", "/metrics", nil, 401},
		{"no cookie, its origin", "POST", "/publish/x", []string{"Origin", own}, 401},
		{"a read", "GET", "/metrics", with(), 200},
		{"a read of the page's", "GET", "/metrics", with("Sec-Fetch-Site", "same-origin"), 200},
		{"typed", "GET", "/debug/pprof/cmdline", with("Sec-Fetch-Site", "none"), 200},
		{"another port's image", "GET", "/debug/pprof/cmdline", with("Sec-Fetch-Site", "same-site"), 403},
		{"a link", "GET", "/debug/pprof/cmdline", with("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), 403},
		{"a change", "POST", "/publish/x", with("Origin", own), 200},
		{"a change of the page's", "POST", "/publish/x", with("Origin", own, "Sec-Fetch-Site", "same-origin"), 200},
		{"a change without an origin", "POST", "/publish/x", with(), 403},
		{"a foreign form", "POST", "/publish/x", with("Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"), 403},
		{"another port's form", "POST", "/publish/x", with("Origin", "http://gw.internal:8000"), 403},
		{"a form of a file", "POST", "/publish/x", with("Origin", "null"), 403},
		{"a form by another name", "POST", "/api/connections/1/close", with("Origin", own+".evil.example"), 403},
		{"a close", "POST", "/api/connections/1/close", with("Origin", own), 200},
		{"a preflight", "OPTIONS", "/publish/x", []string{"Origin", "http://evil.example", "Access-Control-Request-Method", "POST"}, 401},
		{"the key", "POST", "/publish/x", []string{"X-API-Key", "sesame"}, 200},
		{"the key beside a cookie", "POST", "/publish/x", with("Authorization", "Bearer sesame"), 200},
		{"a wrong key beside a cookie", "GET", "/metrics", with("X-API-Key", "no"), 401},
		{"the key as a cookie", "GET", "/metrics", []string{"Cookie", "sluice_session_9000=sesame"}, 401},
		{"health", "GET", "/healthz", []string{"Sec-Fetch-Site", "cross-site"}, 200},
	} {
		resp := g.ask(test.method, test.path, "x", test.fields...)
		if resp.StatusCode != test.status {
			t.Errorf("%s: %d, want %d", test.why, resp.StatusCode, test.status)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": ""} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", test.why, name, got)
			}
		}
	}
	if got := g.ask("GET", "/metrics", "").Header.Get("WWW-Authenticate"); got != "Bearer" { // RFC 9110 section 15.5.2
		t.Errorf("a request without a key is challenged with %q", got)
	}
	if got := g.ask("GET", "/metrics", "", cookie...).Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("what a session reads may be cached: %q", got)
	}
}

// Without a key the page works for a browser on this machine, and for no other page in it.
func TestWithoutAKeyThePageIsForThisMachine(t *testing.T) {
	const own, navigates = "http://localhost:9000", "Sec-Fetch-Mode"
	for _, test := range []struct {
		why, host    string
		unix         bool
		method, path string
		fields       []string
		status       int
	}{
		{"a program", "localhost:9000", false, "POST", "/publish/x", nil, 200},
		{"the page", "localhost:9000", false, "POST", "/publish/x", []string{"Origin", own, "Sec-Fetch-Site", "same-origin"}, 200},
		{"the page, an old browser", "localhost:9000", false, "POST", "/publish/x", []string{"Origin", own}, 200},
		{"another name of this machine", "localhost:9000", false, "POST", "/publish/x", []string{"Origin", "http://127.0.0.1:9000"}, 403},
		{"the public page", "localhost:9000", false, "POST", "/publish/x", []string{"Origin", "http://localhost:8000", "Sec-Fetch-Site", "same-site"}, 403},
		{"an image of it", "localhost:9000", false, "GET", "/debug/pprof/cmdline", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"the page by DNS", "evil.example:9000", false, "POST", "/publish/x", []string{"Origin", "http://evil.example:9000", "Sec-Fetch-Site", "same-origin"}, 403},
		{"its files by DNS", "evil.example:9000", false, "GET", "/console/uplot.js", []string{"Sec-Fetch-Site", "same-origin"}, 403},
		{"metrics by DNS", "evil.example:9000", false, "GET", "/metrics", nil, 403},
		{"a link", "localhost:9000", false, "GET", "/", []string{"Accept", "text/html", "Sec-Fetch-Site", "cross-site", navigates, "navigate", "Sec-Fetch-Dest", "document"}, 200},
		{"a link by DNS", "evil.example:9000", false, "GET", "/", []string{"Accept", "text/html", "Sec-Fetch-Site", "cross-site", navigates, "navigate", "Sec-Fetch-Dest", "document"}, 403},
		{"a program at /", "localhost:9000", false, "GET", "/", nil, 404},
		{"a login", "localhost:9000", false, "POST", "/login", []string{"Origin", own}, 404},
		{"a program, a socket", "any", true, "POST", "/publish/x", nil, 200},
		{"the page, a forwarded socket", "localhost:9000", true, "POST", "/publish/x", []string{"Origin", own}, 200},
		{"by DNS, a forwarded socket", "evil.example:9000", true, "GET", "/metrics", []string{"Sec-Fetch-Site", "same-origin"}, 403},
		{"by DNS, a forwarded socket, a change", "evil.example:9000", true, "POST", "/publish/x", []string{"Origin", "http://evil.example:9000"}, 403},
	} {
		resp := guard("", test.host, test.unix).ask(test.method, test.path, "x", test.fields...)
		if resp.StatusCode != test.status || len(resp.Cookies()) > 0 {
			t.Errorf("%s: %d, want %d; cookies %v", test.why, resp.StatusCode, test.status, resp.Cookies())
		}
	}
}

// timed is a response that notes the deadline for writing it.
type timed struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (w *timed) SetWriteDeadline(t time.Time) error {
	w.until = t
	return nil
}

func TestWhoHasNoKeyHasToReadTheAnswerSoon(t *testing.T) {
	g := guard("sesame", "gw.internal:9000", false)
	cookie := g.login(t, "sesame")
	for _, test := range []struct {
		path    string
		fields  []string
		limited bool
	}{
		{"/metrics", nil, true},
		{"/console/uplot.js", nil, true},
		{"/healthz", nil, true},
		{"/metrics", cookie, false},
		{"/debug/pprof/", []string{"X-API-Key", "sesame"}, false},
	} {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("GET", "http://"+g.host+test.path, nil)
		for i := 0; i < len(test.fields); i += 2 {
			r.Header.Add(test.fields[i], test.fields[i+1])
		}
		g.ServeHTTP(w, r)
		if w.until.IsZero() == test.limited {
			t.Errorf("%s %q: until %v", test.path, test.fields, w.until)
		}
	}
}

// Keys in a header are guessed as those of the form are. Neither keeps the other out.
func TestGuessesInAHeaderAreBounded(t *testing.T) {
	g := guard("sesame", "gw.internal:9000", false)
	for i := range 10 {
		if resp := g.ask("GET", "/metrics", "", "X-API-Key", fmt.Sprint(i)); resp.StatusCode != 401 {
			t.Fatalf("guess %d: %d", i, resp.StatusCode)
		}
	}
	for _, field := range [][]string{{"X-API-Key", "sesame"}, {"Authorization", "Bearer sesame"}, {"X-API-Key", "x"}} { // else an eleventh guess would be one
		if resp := g.ask("GET", "/metrics", "", field...); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "60" {
			t.Errorf("%s after ten guesses: %d, Retry-After %q", field, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
	}
	if resp := g.ask("GET", "/healthz", "", "X-API-Key", "x"); resp.StatusCode != 200 {
		t.Errorf("health: %d", resp.StatusCode)
	}
	cookie := g.login(t, "sesame")
	if resp := g.ask("GET", "/metrics", "", cookie...); resp.StatusCode != 200 {
		t.Errorf("a session: %d", resp.StatusCode)
	}
}
