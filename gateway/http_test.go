package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestPublicHTTPIsAnsweredAndClosed(t *testing.T) {
	t.Parallel()
	s := start(t, Config{WSPaths: []string{"/socket"}})
	for _, c := range []struct {
		request string
		status  int
		says    string
	}{
		{"GET / HTTP/1.1", 200, "WebSocket"},
		{"GET /healthz HTTP/1.1", 200, "ok"},
		{"GET /nothing HTTP/1.1", 404, ""},
		{"GET /ws HTTP/1.1", 426, "WebSocket client"},
		{"GET /ws/x HTTP/1.1", 426, "WebSocket client"},
		{"GET /ws/a%2Fb?q HTTP/1.1", 426, "WebSocket client"},
		{"GET /echo HTTP/1.1", 426, "WebSocket client"},
		{"GET /socket HTTP/1.1", 426, "WebSocket client"},
		{"GET /metrics HTTP/1.1", 404, ""},
		{"GET /debug/pprof/ HTTP/1.1", 404, ""},
		{"GET /readyz HTTP/1.1", 404, ""},
		{"POST /publish/x HTTP/1.1", 404, ""},
	} {
		k := connect(t, s)
		// A second request and an upgrade behind it must not be served.
		k.write(c.request + "\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n" + upgradeTo("/ws"))
		a := k.wantStatus(c.request, c.status)
		if !a.Close || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: got %q, close %v; want the end and %q", c.request, a.body, a.Close, c.says)
		}
		if c.status == 426 && a.Header.Get("Upgrade") != "websocket" {
			t.Errorf("%s: 426 without Upgrade: websocket", c.request)
		}
		k.wantGone(c.request)
	}
	if n := s.counted("upgraded"); n != 0 {
		t.Errorf("%d upgrades behind other requests were served", n)
	}
	if n := s.counted("http"); n != 12 {
		t.Errorf("%d HTTP requests are counted, want 12", n)
	}
}

// A client that waits to be asked for its body is answered and left: it does not keep
// a place until it has been waited for.
func TestABodyThatIsNotAskedForIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for _, request := range []string{"POST /nothing", "PUT /ws", "POST /publish/a"} {
		k := connect(t, s)
		k.write(request + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		begun := time.Now()
		resp, err := http.ReadResponse(k.in, nil)
		if err != nil || resp.StatusCode < 400 {
			t.Fatalf("%s: got %v, %v", request, resp, err)
		}
		io.Copy(io.Discard, resp.Body) // ignored: the end is looked for next
		k.wantEOF(request)
		if took := time.Since(begun); took > webTimeout/2 {
			t.Errorf("%s: the end came after %v", request, took)
		}
	}
}

func TestHTTPRequestsAtATimeAreBounded(t *testing.T) {
	plainOnly(t)
	t.Parallel()
	s := start(t, Config{MaxHandshakes: 2})
	taken := []*webPlace{{ready: make(chan struct{})}, {ready: make(chan struct{})}}
	for _, x := range taken { // as two clients do that send their bodies slowly
		s.web.places.take(x)
	}
	c := connect(t, s)
	c.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if a := c.wantStatus("all places are taken", 503); a.Header.Get("Retry-After") == "" || !a.Close {
		t.Errorf("got header %v, want Retry-After and the end", a.Header)
	}
	dial(t, s, "/ws").settle(s) // upgrades need no such place
	for _, x := range taken {
		s.web.places.leave(x)
	}
	for range 5 {
		c := connect(t, s)
		c.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		c.wantStatus("there is a place again", 200)
		c.fin()
		c.wantEOF("one answer")
		waitFor(t, "its place to be free", func() bool { taken, _ := s.web.places.count(); return taken == 0 })
	}
}

// holdPlaces has all places of net/http, by bodies that do not come, from as many addresses
// as that takes.
func holdPlaces(t testing.TB, s *server) {
	t.Helper()
	for i := range s.web.places.most {
		c := connectFrom(t, s, numberedAddress(1, i/sharePlaces))
		c.write("POST " + pathUniSSE + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
	}
	waitFor(t, "all places to be held", func() bool { taken, _ := s.web.places.count(); return taken == s.web.places.most })
}

func TestHealthNeedsNoPlace(t *testing.T) {
	t.Parallel()
	s := start(t, Config{HandshakeTimeout: patience})
	holdPlaces(t, s)
	for method, body := range map[string]string{"GET": "ok\n", "HEAD": ""} {
		c := connect(t, s)
		begun := time.Now()
		c.write(method + " /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: got %v, %v", method, resp, err)
		}
		if got, err := io.ReadAll(resp.Body); string(got) != body || err != nil {
			t.Errorf("%s: got body %q, %v", method, got, err)
		}
		took := time.Since(begun)
		if t.Logf("%s: answered after %v", method, took); took > scaledTime(webWait/2) {
			t.Errorf("%s: it took %v", method, took)
		}
		c.wantEOF(method)
	}
	if status, _, body := askHTTP(t, "GET", s.internal("").URL+"/readyz", nil); status != http.StatusOK || body != "ok\n" {
		t.Errorf("ready: got %d %q", status, body)
	}
}

// Requests whose bodies do not come are answered when the handshake's time is over. Before
// that others have places, because one address has few, and the oldest of who has most
// goes when there is none left.
func TestLateBodiesKeepNobodyOut(t *testing.T) {
	t.Parallel()
	s := start(t, Config{HandshakeTimeout: patience})
	holdPlaces(t, s)
	s.web.places.mu.Lock()
	for _, x := range s.web.places.taken { // as if they had been there for so long
		x.since = x.since.Add(-2 * secureTurn)
	}
	s.web.places.mu.Unlock()
	c := connect(t, s)
	c.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.wantStatus("another address", http.StatusOK)
	s.wantOutcome("evicted", 1)

	quick := start(t, Config{HandshakeTimeout: time.Second})
	var late []*client
	for range sharePlaces {
		c := connectFrom(t, quick, numberedAddress(1, 0))
		c.write("POST " + pathUniSSE + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
		late = append(late, c)
	}
	for _, c := range late {
		c.wantStatus("its body is late", http.StatusRequestTimeout)
	}
}

// internal serves the internal handler.
func (s *server) internal(key string) *httptest.Server {
	srv := httptest.NewServer(s.InternalHandler(Internal{APIKey: key}))
	s.t.Cleanup(srv.Close)
	return srv
}

// ask makes a request and gives its status, header and body.
func askHTTP(t testing.TB, method, url string, body io.Reader, fields ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// wantError sees that a body is an error as JSON with a code and a sentence.
func wantError(t testing.TB, why, body, code string) {
	t.Helper()
	var e struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Error.Code != code || e.Error.Message == "" {
		t.Errorf("%s: got %q (%v), want an error with code %q", why, body, err, code)
	}
}

func TestPublishByHTTP(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: -1})
	at := s.internal("").URL + "/publish/"
	a, b := dial(t, s, "/ws/a%2Fb"), dial(t, s, "/ws/a%2Fb")
	for i, c := range []struct{ kind, body string }{
		{"", "plain"}, {"text/plain; charset=utf-8", "频道"}, {"application/json", "{}"}, {"application/octet-stream", "\xff\x00"}, {"Application/Octet-Stream; x=y", "\xfe"}, {"", ""},
	} {
		status, header, body := askHTTP(t, "POST", at+"a%2Fb", strings.NewReader(c.body), "Content-Type: "+c.kind)
		var got Receipt
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || header.Get("Content-Type") != "application/json" {
			t.Fatalf("got %d %s %q, %v", status, header.Get("Content-Type"), body, err)
		}
		if got.Offset != uint64(i+1) || got.Subscribers != 2 || got.Epoch == 0 {
			t.Errorf("got receipt %+v, want offset %d, 2 subscribers and an epoch", got, i+1)
		}
		for _, k := range []*client{a, b} {
			if strings.HasPrefix(strings.ToLower(c.kind), "application/octet") {
				k.wantBinary(c.kind, c.body)
			} else {
				k.wantText(c.kind, c.body)
			}
		}
	}
	if _, _, body := askHTTP(t, "POST", at+"nobody", strings.NewReader("x")); body != "{\"epoch\":\"\",\"offset\":0,\"subscribers\":0}\n" {
		t.Errorf("where nobody listens the receipt is %q", body)
	}
	for _, c := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"a%20b", "x", 400, "bad_channel"},
		{"%00", "x", 400, "bad_channel"},
		{"%FF", "x", 400, "bad_channel"},
		{strings.Repeat("x", 256), "x", 400, "bad_channel"},
		{"x", "\xff", 400, "bad_text"},
		{"x", "\xed\xa0\x80", 400, "bad_text"},
		{"x", stars(64<<10 + 1), 413, "too_large"},
	} {
		status, _, body := askHTTP(t, "POST", at+c.name, strings.NewReader(c.body))
		if status != c.status {
			t.Errorf("%s, %s: got status %d, want %d", c.name, brief(c.body), status, c.status)
		}
		wantError(t, c.name, body, c.code)
	}
	if status, _, _ := askHTTP(t, "POST", at+"x", strings.NewReader(stars(64<<10))); status != 200 {
		t.Errorf("64 KiB: got status %d", status)
	}
	if status, _, _ := askHTTP(t, "GET", at+"x", nil); status != 405 {
		t.Errorf("GET: got status %d, want 405", status)
	}
}

func TestPublishByHTTPIsPushedBack(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1, MaxMessage: 1000, ChannelBuffer: 4 << 10})
	at := s.internal("").URL + "/publish/x"
	c := dial(t, s, "/ws/x")
	release := s.hold(0)
	var sent []string
	for _, p := range numbered(20, 500) {
		status, header, body := askHTTP(t, "POST", at, strings.NewReader(p))
		if status == 200 {
			sent = append(sent, p)
			continue
		}
		if status != 503 || header.Get("Retry-After") == "" {
			t.Errorf("got status %d, Retry-After %q; want 503 and some seconds", status, header.Get("Retry-After"))
		}
		wantError(t, "the log is full", body, "pushed_back")
		break
	}
	release()
	for _, p := range sent {
		c.wantText("what was acknowledged comes", p)
	}
	c.wantIdle(s, "what was refused does not")
	if status, _, _ := askHTTP(t, "POST", at, strings.NewReader("again")); status != 200 {
		t.Errorf("once there is room: got status %d", status)
	}
	c.wantText("there is room again", "again")
}

func TestInternalListenerIsGuarded(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	open, locked := s.internal("").URL, s.internal("open sesame").URL
	for _, c := range []struct {
		at, path, field string
		status          int
	}{
		{open, "/metrics", "X: y", 200},
		{open, "/metrics", "Origin: http://localhost", 403},
		{open, "/metrics", "Origin: ", 403},
		{open, "/metrics", "Host: evil.example", 403},
		{open, "/metrics", "Host: evil.example:9000", 403},
		{open, "/metrics", "Host: localhost.evil.example", 403},
		{open, "/metrics", "Host: 10.0.0.1", 403},
		{open, "/metrics", "Host: localhost:1", 200},
		{open, "/metrics", "Host: [::1]:9000", 200},
		{open, "/metrics", "Host: 127.1.2.3", 200},
		{open, "/debug/pprof/", "Host: evil.example", 403},
		{open, "/healthz", "Host: 10.0.0.1:9000", 200}, // a load balancer asks by address
		{open, "/readyz", "Host: 10.0.0.1:9000", 200},
		{locked, "/metrics", "X: y", 401},
		{locked, "/metrics", "X-API-Key: open", 401},
		{locked, "/metrics", "X-API-Key: open sesame", 200},
		{locked, "/metrics", "Authorization: Bearer open sesame", 200},
		{locked, "/metrics", "Authorization: apikey open sesame", 200},
		{locked, "/metrics", "Authorization: Basic open sesame", 401},
		{locked, "/metrics", "Authorization: Basic open sesame", 401},
		{locked, "/debug/pprof/", "X: y", 401},
		{locked, "/healthz", "X: y", 200},
		{locked, "/readyz", "X: y", 200},
	} {
		if status, _, body := askHTTP(t, "GET", c.at+c.path, nil, c.field); status != c.status {
			t.Errorf("%s with %q: got %d %s, want %d", c.path, c.field, status, brief(body), c.status)
		}
	}
	if status, _, body := askHTTP(t, "POST", open+"/publish/x", strings.NewReader("x"), "Origin: null"); status != 403 {
		t.Errorf("a page's publish: got %d", status)
	} else {
		wantError(t, "a page's publish", body, "forbidden")
	}
}

// metrics reads the page: a value for each name with labels.
func metrics(t testing.TB, at string) map[string]float64 {
	t.Helper()
	_, _, body := askHTTP(t, "GET", at+"/metrics", nil)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatalf("metrics: %v", err)
	}
	all := make(map[string]float64)
	for name, f := range families {
		all[name] += 0
		for _, m := range f.Metric {
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
			all[name] += v
			for _, l := range m.Label {
				all[fmt.Sprintf("%s %s", name, l.GetValue())] += v
			}
		}
	}
	return all
}

func TestMetricsTellExactlyWhatHappened(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxConnections: 100})
	at := s.internal("").URL
	const listeners, messages = 7, 30
	var all []*client
	for range listeners {
		all = append(all, dial(t, s, "/ws/x"))
	}
	bad := connect(t, s)
	bad.write(upgradeTo("/nowhere"))
	bad.wantStatus("no such path", 404)
	sizes := 0
	for i := range messages {
		p := stars(i * 20)
		sizes += len(p) + 2
		if len(p) > 125 {
			sizes += 2
		}
		if i%3 == 0 {
			s.publish("x", p)
		} else {
			all[i%listeners].send(text(p))
		}
		for _, c := range all {
			c.wantText("to everybody", p)
		}
	}
	handshakes := s.sum(func(st *loopStats) uint64 { return st.bytesOut.Load() }) - uint64(listeners*sizes)
	all[0].send(closing(1000, ""))
	all[0].wantClose("it leaves", 1000)
	all[1].vanish()
	all[2].send(text("\xff"))
	all[2].wantClose("bad text", 1007)
	s.wantConnections(listeners - 3)

	got := metrics(t, at)
	want := map[string]float64{
		"sluice_connections":                           listeners - 3,
		"sluice_max_connections":                       100,
		"sluice_channels":                              1,
		"sluice_messages_received_total":               messages - messages/3,
		"sluice_publications_total client":             messages - messages/3,
		"sluice_publications_total api":                messages / 3,
		"sluice_deliveries_total":                      listeners * messages,
		"sluice_sent_bytes_total":                      float64(handshakes + uint64(listeners*sizes) + 4 + 4 + uint64(len(reasons[reasonText].text))),
		"sluice_blocked_connections":                   0,
		"sluice_blockings_total":                       0,
		"sluice_push_backs_total":                      0,
		"sluice_panics_total":                          0,
		"sluice_pings_total":                           0,
		"sluice_descriptors_exhausted_total":           0,
		"sluice_held_bytes connections":                0,
		"sluice_connections_closed_total":              3,
		"sluice_connections_closed_total client_close": 1,
		"sluice_connections_closed_total reset":        1,
		"sluice_connections_closed_total bad_utf8":     1,
		"sluice_handshakes_total":                      listeners + 1,
		"sluice_handshakes_total upgraded":             listeners,
		"sluice_handshakes_total not_found":            1,
	}
	have := make(map[string]float64)
	for name := range want {
		if v, ok := got[name]; ok {
			have[name] = v
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	for _, name := range []string{"sluice_received_bytes_total", "sluice_writes_total", "sluice_sweeps_total", "sluice_held_bytes logs", "go_goroutines", "process_open_fds"} {
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	for _, name := range []string{"sluice_loop_lag_seconds", "sluice_loop_lag_seconds_sum", "sluice_loop_lag_seconds_count"} {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	for r := reasonNone + 1; r < reasonCount; r++ {
		if _, ok := got["sluice_connections_closed_total "+r.String()]; ok == (r == reasonUnsubscribed) { // no connection ends so
			t.Errorf("the reason %v has a counter: %t", r, ok)
		}
	}
}
