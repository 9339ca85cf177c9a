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

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
	"sluice/gateway/looptest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// internal serves the internal handler.
func (s *server) internal(key string) *httptest.Server {
	srv := httptest.NewServer(s.InternalHandler(Internal{APIKey: key}))
	s.T.Cleanup(srv.Close)
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
	c := http.Client{Timeout: clienttest.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
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
	a, b := clienttest.Dial(t, s, "/ws/a%2Fb"), clienttest.Dial(t, s, "/ws/a%2Fb")
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
		for _, k := range []*clienttest.Client{a, b} {
			if strings.HasPrefix(strings.ToLower(c.kind), "application/octet") {
				k.WantBinary(c.kind, c.body)
			} else {
				k.WantText(c.kind, c.body)
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
		{"x", clienttest.Stars(64<<10 + 1), 413, "too_large"},
	} {
		status, _, body := askHTTP(t, "POST", at+c.name, strings.NewReader(c.body))
		if status != c.status {
			t.Errorf("%s, %s: got status %d, want %d", c.name, clienttest.Brief(c.body), status, c.status)
		}
		wantError(t, c.name, body, c.code)
	}
	if status, _, _ := askHTTP(t, "POST", at+"x", strings.NewReader(clienttest.Stars(64<<10))); status != 200 {
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
	c := clienttest.Dial(t, s, "/ws/x")
	release := s.Hold(0)
	var sent []string
	for _, p := range clienttest.Numbered(20, 500) {
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
		c.WantText("what was acknowledged comes", p)
	}
	c.WantIdle(s, "what was refused does not")
	if status, _, _ := askHTTP(t, "POST", at, strings.NewReader("again")); status != 200 {
		t.Errorf("once there is room: got status %d", status)
	}
	c.WantText("there is room again", "again")
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
			t.Errorf("%s with %q: got %d %s, want %d", c.path, c.field, status, clienttest.Brief(body), c.status)
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
	var all []*clienttest.Client
	for range listeners {
		all = append(all, clienttest.Dial(t, s, "/ws/x"))
	}
	bad := clienttest.Connect(t, s)
	bad.Write(clienttest.UpgradeTo("/nowhere"))
	bad.WantStatus("no such path", 404)
	sizes := 0
	for i := range messages {
		p := clienttest.Stars(i * 20)
		sizes += len(p) + 2
		if len(p) > 125 {
			sizes += 2
		}
		if i%3 == 0 {
			s.publish("x", p)
		} else {
			all[i%listeners].Send(clienttest.Text(p))
		}
		for _, c := range all {
			c.WantText("to everybody", p)
		}
	}
	clienttest.WaitFor(t, "the last sweep to be counted, which is after its writes", func() bool {
		return s.Sum(func(st *loop.Stats) uint64 { return st.Deliveries.Load() }) == listeners*messages
	})
	handshakes := s.Sum(func(st *loop.Stats) uint64 { return st.BytesOut.Load() }) - uint64(listeners*sizes)
	all[0].Send(clienttest.Closing(1000, ""))
	all[0].WantClose("it leaves", 1000)
	all[1].Vanish()
	all[2].Send(clienttest.Text("\xff"))
	all[2].WantClose("bad text", 1007)
	s.wantConnections(listeners - 3)

	got := metrics(t, at)
	_, badText := looptest.Reason("bad_utf8").CloseText()
	want := map[string]float64{
		"sluice_connections":                           listeners - 3,
		"sluice_max_connections":                       100,
		"sluice_channels":                              1,
		"sluice_subscriptions":                         listeners - 3,
		"sluice_subscriptions_started_total":           0,
		"sluice_namespace_channels":                    1,
		"sluice_namespace_subscriptions":               listeners - 3,
		"sluice_namespace_publications_total":          messages,
		"sluice_messages_received_total":               messages - messages/3,
		"sluice_publications_total client":             messages - messages/3,
		"sluice_publications_total api":                messages / 3,
		"sluice_deliveries_total":                      listeners * messages,
		"sluice_sent_bytes_total":                      float64(handshakes + uint64(listeners*sizes) + 4 + 4 + uint64(len(badText))),
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
	for r := loop.ReasonNone + 1; r < loop.ReasonCount; r++ {
		if _, ok := got["sluice_connections_closed_total "+r.String()]; ok == (r == loop.ReasonUnsubscribed) { // no connection ends so
			t.Errorf("the reason %v has a counter: %t", r, ok)
		}
	}
}

func TestChannelRatePushesBackAndLosesNothing(t *testing.T) {
	t.Parallel()
	const rate, messages = 20, 50
	s := start(t, Config{ChannelRate: rate, PingInterval: -1})
	at := s.internal("").URL + "/publish/"
	reader, publisher := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x?echo=off")
	begun := time.Now()
	for _, p := range clienttest.Numbered(messages, 8) {
		publisher.Send(clienttest.Text(p))
	}
	refused := false
	for range 1000 { // until the raw client's have taken all there is
		status, h, body := askHTTP(t, "POST", at+"x", strings.NewReader("api"))
		if status == 429 {
			wantError(t, "too many", body, "rate")
			if refused = true; h.Get("Retry-After") == "" {
				t.Error("a 429 without Retry-After")
			}
			break
		}
	}
	if !refused {
		t.Error("no publication over HTTP is refused")
	}
	for n := range 2 * rate { // other channels have their own
		if status, _, body := askHTTP(t, "POST", at+fmt.Sprint("other", n%4), strings.NewReader("api")); status != 200 {
			t.Fatalf("another channel: %d %s", status, body)
		}
	}
	want := clienttest.Numbered(messages, 8)
	for len(want) > 0 {
		_, p, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		if p == "api" {
			continue
		}
		if p != want[0] {
			t.Fatalf("got %q, want %q", p, want[0])
		}
		want = want[1:]
	}
	if took := time.Since(begun); took < (messages-2*rate)*time.Second/rate {
		t.Errorf("%d messages took %v", messages, took)
	}
	s.wantConnections(2)
}
