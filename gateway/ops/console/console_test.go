package console

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// served is a Console behind what its listener does for it, with a clock.
type served struct {
	*testing.T
	*Console
	at time.Time
}

func serve(t *testing.T, key string) *served {
	s := &served{T: t, Console: New(key, new(Sessions), slog.New(slog.NewTextHandler(io.Discard, nil))), at: time.Unix(1e9, 0)}
	s.now = func() time.Time { return s.at }
	return s
}

// ask makes a request as the page does, unless fields say otherwise.
func (s *served) ask(method, path, body string, fields ...string) *http.Response {
	s.Helper()
	r := httptest.NewRequest(method, "http://gw:9000"+path, strings.NewReader(body))
	r.Header.Set("Accept", "text/html")
	if method == "POST" {
		r.Header.Set("Origin", "http://gw:9000")
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(fields); i += 2 {
		switch fields[i] {
		case "Host":
			r.Host = fields[i+1]
		case "from":
			r.RemoteAddr = fields[i+1]
		case "TLS":
			r.TLS = new(tls.ConnectionState)
		default:
			r.Header.Set(fields[i], fields[i+1])
			if fields[i+1] == "" {
				r.Header.Del(fields[i])
			}
		}
	}
	w := httptest.NewRecorder()
	if !s.Serve(w, r) {
		if !s.LoggedIn(r) {
			w.WriteHeader(http.StatusUnauthorized)
		}
		io.WriteString(w, "behind") // never fails
	}
	return w.Result()
}

// login logs in, and returns the cookie.
func (s *served) login(key string, fields ...string) *http.Cookie {
	s.Helper()
	resp := s.ask("POST", "/login", fmt.Sprintf(`{"key":%q}`, key), fields...)
	if resp.StatusCode != http.StatusNoContent || len(resp.Cookies()) != 1 {
		s.Fatalf("login: %d, cookies %v", resp.StatusCode, resp.Cookies())
	}
	return resp.Cookies()[0]
}

func (s *served) wantStatus(why string, resp *http.Response, want int) {
	s.Helper()
	if resp.StatusCode != want {
		body, err := io.ReadAll(resp.Body)
		s.Errorf("%s: %d %s (%v), want %d", why, resp.StatusCode, body, err, want)
	}
}

func TestTheRightKeyOpensASession(t *testing.T) {
	s := serve(t, "sesame")
	s.wantStatus("nobody", s.ask("GET", "/metrics", ""), 401)
	c := s.login("sesame")
	want := &http.Cookie{Name: "sluice_session_9000", Value: c.Value, Path: "/", MaxAge: 12 * 60 * 60, HttpOnly: true, SameSite: http.SameSiteStrictMode, Raw: c.Raw}
	if diff := cmp.Diff(want, c); diff != "" || len(c.Value) < 26 {
		t.Errorf("the cookie %q (-want +got):\n%s", c.Value, diff)
	}
	with := c.Name + "=" + c.Value
	s.wantStatus("with the cookie", s.ask("GET", "/metrics", "", "Cookie", with), 200)
	s.wantStatus("beside a stale one", s.ask("GET", "/metrics", "", "Cookie", c.Name+"=old; "+with), 200)
	s.wantStatus("another id", s.ask("GET", "/metrics", "", "Cookie", c.Name+"="+strings.Repeat("A", len(c.Value))), 401)
	s.wantStatus("another port's name", s.ask("GET", "/metrics", "", "Cookie", "sluice_session_9001="+c.Value), 401)
	s.at = s.at.Add(12*time.Hour - 1)
	s.wantStatus("before its end", s.ask("GET", "/metrics", "", "Cookie", with), 200)
	s.at = s.at.Add(1)
	s.wantStatus("after its end", s.ask("GET", "/metrics", "", "Cookie", with), 401)
	if n := len(s.sessions.ends); n != 0 {
		t.Errorf("%d sessions are kept", n)
	}
}

func TestTheCookieIsSecureOverTLS(t *testing.T) {
	s := serve(t, "k")
	for why, fields := range map[string][]string{
		"behind a proxy": {"Origin", "https://gw:9000"},
		"by itself":      {"TLS", ""},
	} {
		if c := s.login("k", fields...); !c.Secure {
			t.Errorf("%s: %v", why, c)
		}
	}
	if c := s.login("k"); c.Secure {
		t.Error("a browser would not keep it")
	}
}

// A cookie that was there before the login, such as one that somebody else has set, opens nothing.
func TestALoginEndsTheSessionBeforeIt(t *testing.T) {
	s := serve(t, "k")
	first := s.login("k")
	second := s.login("k", "Cookie", first.Name+"="+first.Value)
	if first.Value == second.Value {
		t.Error("the id is the same")
	}
	s.wantStatus("the first", s.ask("GET", "/x", "", "Cookie", first.Name+"="+first.Value), 401)
	planted := s.login("k", "Cookie", first.Name+"=planted")
	if planted.Value == "planted" {
		t.Error("the browser chose the id")
	}
	s.wantStatus("the planted one", s.ask("GET", "/x", "", "Cookie", first.Name+"=planted"), 401)
}

func TestLogoutEndsTheSession(t *testing.T) {
	s := serve(t, "k")
	c, other := s.login("k"), s.login("k")
	with := c.Name + "=" + c.Value
	s.wantStatus("another site's logout", s.ask("POST", "/logout", "", "Cookie", with, "Origin", "http://evil:9000"), 403)
	s.wantStatus("still in", s.ask("GET", "/x", "", "Cookie", with), 200)
	resp := s.ask("POST", "/logout", "", "Cookie", with)
	s.wantStatus("logout", resp, 204)
	if got := resp.Cookies(); len(got) != 1 || got[0].MaxAge != -1 || got[0].Value != "" || !got[0].HttpOnly {
		t.Errorf("the cookie is not taken back: %v", got)
	}
	s.wantStatus("out", s.ask("GET", "/x", "", "Cookie", with), 401)
	s.wantStatus("another session", s.ask("GET", "/x", "", "Cookie", other.Name+"="+other.Value), 200)
}

func TestSessionsAreBounded(t *testing.T) {
	s := serve(t, "k")
	var cookies []string
	for range sessionsMax + 2 {
		s.at = s.at.Add(time.Second)
		c := s.login("k")
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	if n := len(s.sessions.ends); n != sessionsMax {
		t.Errorf("%d sessions", n)
	}
	for i, want := range map[int]int{0: 401, 1: 401, 2: 200, sessionsMax + 1: 200} {
		s.wantStatus(fmt.Sprint("the session ", i), s.ask("GET", "/x", "", "Cookie", cookies[i]), want)
	}
}

func TestAFormLogsInWithoutJavaScript(t *testing.T) {
	s := serve(t, "ke y")
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	resp := s.ask("POST", "/login", "key=ke+y%0A", form...)
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "./" || len(resp.Cookies()) != 1 {
		t.Errorf("%d, to %q, with %v", resp.StatusCode, resp.Header.Get("Location"), resp.Cookies())
	}
	resp = s.ask("POST", "/login", "key=no", form...)
	if body, err := io.ReadAll(resp.Body); resp.StatusCode != 401 || string(body) != "the API key is wrong\n" || err != nil {
		t.Errorf("a wrong key: %d %q %v", resp.StatusCode, body, err)
	}
	s.wantStatus("no key", s.ask("POST", "/login", "x=y", form...), 400)
}

func TestBadLoginsAreRefused(t *testing.T) {
	s := serve(t, "k")
	for _, test := range []struct {
		why, body string
		fields    []string
		status    int
	}{
		{"another site", `{"key":"k"}`, []string{"Origin", "http://evil"}, 403},
		{"another port", `{"key":"k"}`, []string{"Origin", "http://gw:8000"}, 403},
		{"the same host by TLS", `{"key":"k"}`, []string{"Origin", "https://gw:9000", "Sec-Fetch-Site", "same-site"}, 403},
		{"no origin", `{"key":"k"}`, []string{"Origin", ""}, 403},
		{"a file", `{"key":"k"}`, []string{"Origin", "null"}, 403},
		{"a foreign fetch", `{"key":"k"}`, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"typed", `{"key":"k"}`, []string{"Sec-Fetch-Site", "none"}, 403},
		{"no JSON", `key=k`, nil, 400},
		{"no key", `{}`, nil, 400},
		{"null", `{"key":null}`, nil, 400},
		{"too large", `{"key":"` + strings.Repeat("k", loginBytesMost) + `"}`, nil, 400},
		{"an empty key", `{"key":""}`, nil, 401},
		{"a wrong key", `{"key":"K"}`, nil, 401},
		{"the right one", `{"key":"k"}`, []string{"Sec-Fetch-Site", "same-origin"}, 204},
	} {
		resp := s.ask("POST", "/login", test.body, test.fields...)
		s.wantStatus(test.why, resp, test.status)
		if got := len(resp.Cookies()); got != 0 && test.status != 204 {
			t.Errorf("%s: a cookie", test.why)
		}
	}
	open := serve(t, "")
	open.wantStatus("without a key", open.ask("POST", "/login", `{"key":""}`), 401) // not served
	if resp := open.ask("POST", "/login", `{"key":""}`); len(resp.Cookies()) != 0 {
		t.Error("an empty key opens a session")
	}
}

// readLimited is a response of which the deadline for the request's body is noted.
type readLimited struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (w *readLimited) SetReadDeadline(t time.Time) error {
	w.until = t
	return nil
}

func TestALoginIsNotWaitedForForever(t *testing.T) {
	s := serve(t, "k")
	r := httptest.NewRequest("POST", "http://gw:9000/login", strings.NewReader(`{"key":"k"}`))
	r.Header.Set("Origin", "http://gw:9000")
	w := &readLimited{ResponseRecorder: httptest.NewRecorder()}
	if !s.Serve(w, r) || w.Code != http.StatusNoContent || !w.until.Equal(s.at.Add(loginMost)) {
		t.Errorf("%d, read until %v, want %v", w.Code, w.until, s.at.Add(loginMost))
	}
}

func TestGuessesAreBounded(t *testing.T) {
	s := serve(t, "k")
	n := 0
	guess := func(key, from string) int {
		if key == "wrong" { // the same again is no guess
			n++
			key += strconv.Itoa(n)
		}
		return s.ask("POST", "/login", fmt.Sprintf(`{"key":%q}`, key), "from", from).StatusCode
	}
	for i := range guessesMost {
		s.at = s.at.Add(time.Second)
		if got := guess("wrong", "192.0.2.1:1000"); got != 401 {
			t.Fatalf("guess %d: %d", i, got)
		}
	}
	for _, key := range []string{"wrong0", "k"} { // else an eleventh guess would be one
		resp := s.ask("POST", "/login", fmt.Sprintf(`{"key":%q}`, key), "from", "192.0.2.1:2000")
		if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "51" {
			t.Errorf("%s: %d, Retry-After %q", key, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
	}
	if got := guess("k", "192.0.2.2:1000"); got != 204 {
		t.Errorf("another address: %d", got)
	}
	s.at = s.at.Add(51 * time.Second)
	if got := guess("k", "192.0.2.1:1000"); got != 204 {
		t.Errorf("a minute after the first: %d", got)
	}
	if got := guess("wrong", "192.0.2.1:1000"); got != 401 {
		t.Errorf("one more: %d", got)
	}
	if got := guess("wrong", "192.0.2.1:1000"); got != 429 {
		t.Errorf("ten within the last minute: %d", got)
	}
	for range guessesMost {
		guess("wrong", "[2001:db8::1]:1")
	}
	if got := guess("k", "[2001:db8::ffff:1]:1"); got != 429 {
		t.Errorf("another address of the same /64: %d", got)
	}
	if got := guess("k", "[2001:db8:0:1::1]:1"); got != 204 {
		t.Errorf("another /64: %d", got)
	}
}

// A program with an old key asks again and again, and does not know better.
func TestTheSameWrongKeyIsOneGuess(t *testing.T) {
	g := guesses{key: sha256.Sum256([]byte("k"))}
	now, from := time.Unix(1e9, 0), netip.MustParseAddr("192.0.2.1")
	for range 3 * guessesMost {
		now = now.Add(time.Second)
		if v, _ := g.compare("old", from, now); v != keyWrong {
			t.Fatalf("the old key: %d", v)
		}
	}
	if v, _ := g.compare("k", from, now); v != keyRight {
		t.Errorf("the right one: %d", v)
	}
}

// Whoever asks a hundred times at once has ten guesses, too.
func TestGuessesAtOnceAreBounded(t *testing.T) {
	g := guesses{}
	var wrong atomic.Int64
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if v, _ := g.compare(fmt.Sprint(i), netip.MustParseAddr("192.0.2.1"), time.Unix(1e9, 0)); v == keyWrong {
				wrong.Add(1)
			}
		})
	}
	all.Wait()
	if wrong.Load() != guessesMost {
		t.Errorf("%d keys were compared", wrong.Load())
	}
}

func TestTheTableOfGuessersIsBounded(t *testing.T) {
	g := guesses{}
	now := time.Unix(1e9, 0)
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range guessersMost {
		g.compare("no", addr(i), now)
	}
	for i := range guessesMost { // from an address each: they count as one
		if v, _ := g.compare(fmt.Sprint(i), addr(guessersMost+i), now); v != keyWrong {
			t.Fatalf("guess %d: %d", i, v)
		}
	}
	if v, _ := g.compare("no", addr(5000), now); v != keyUnread || len(g.wrong) != guessersMost+1 {
		t.Errorf("one more: %d; %d addresses", v, len(g.wrong))
	}
	if v, _ := g.compare("no", addr(0), now); v != keyWrong {
		t.Errorf("one that is in the table: %d", v)
	}
	if v, _ := g.compare("no", addr(6000), now.Add(guessesTime)); v != keyWrong || len(g.wrong) != 1 {
		t.Errorf("a minute later: %d; %d addresses", v, len(g.wrong))
	}
}

func TestOnlyThePageItselfIsItsOwn(t *testing.T) {
	for _, test := range []struct {
		method string
		fields []string
		want   bool
	}{
		{"GET", nil, true},
		{"POST", nil, false},
		{"DELETE", []string{"Sec-Fetch-Site", "same-origin"}, false},
		{"POST", []string{"Origin", "http://gw:9000"}, true},
		{"POST", []string{"Origin", "https://GW:9000"}, true},
		{"POST", []string{"Origin", "http://gw:9000", "Sec-Fetch-Site", "same-origin"}, true},
		{"POST", []string{"Origin", "http://gw:9000", "Sec-Fetch-Site", "none"}, false},
		{"POST", []string{"Origin", "http://gw:9000", "Sec-Fetch-Site", "cross-site"}, false},
		{"POST", []string{"Origin", "http://gw:9000", "Sec-Fetch-Site", ""}, false},
		{"POST", []string{"Origin", "http://gw:9000", "Origin", "http://gw:9000"}, false},
		{"GET", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "same-origin"}, false},
		{"GET", []string{"Sec-Fetch-Site", "none"}, true},
		{"GET", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"GET", []string{"Origin", "http://gw:9000"}, true},
		{"GET", []string{"Origin", ""}, false},
		{"GET", []string{"Origin", "null"}, false},
		{"GET", []string{"Origin", "http://gw"}, false},
		{"GET", []string{"Origin", "http://gw:9000.evil"}, false},
		{"GET", []string{"Origin", "http://evil/gw:9000"}, false},
		{"GET", []string{"Origin", "http://gw:9000@evil"}, false},
		{"GET", []string{"Origin", "file://gw:9000"}, false},
		{"GET", []string{"Origin", "chrome-extension://gw:9000"}, false},
		{"GET", []string{"Origin", "gw:9000"}, false},
	} {
		r := httptest.NewRequest(test.method, "http://gw:9000/", nil)
		for i := 0; i < len(test.fields); i += 2 {
			r.Header.Add(test.fields[i], test.fields[i+1])
		}
		if got := Own(r); got != test.want {
			t.Errorf("%s %q: %t", test.method, test.fields, got)
		}
		if got := ByBrowser(r); got != (len(test.fields) > 0) {
			t.Errorf("%s %q: by a browser: %t", test.method, test.fields, got)
		}
	}
}

// An operator who watches an upgrade on the page stays logged in.
func TestSessionsGoOnInTheProcessThatTakesOver(t *testing.T) {
	old := serve(t, "sesame")
	cookie := old.login("sesame")
	b := old.sessions.Save(nil)
	for _, tt := range []struct {
		why, key string
		after    time.Duration
		want     int
	}{
		{"the same key", "sesame", 0, http.StatusOK},
		{"another key", "other", 0, http.StatusUnauthorized},
		{"after its time", "sesame", sessionTime, http.StatusUnauthorized},
	} {
		s := serve(t, tt.key)
		if err := s.sessions.Load(b); err != nil {
			t.Fatal(err)
		}
		s.at = s.at.Add(tt.after)
		s.wantStatus(tt.why, s.ask("GET", "/metrics", "", "Cookie", cookie.Name+"="+cookie.Value), tt.want)
	}
	for n := range b {
		if err := new(Sessions).Load(b[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(b))
		}
	}
}
