package ops

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// refusing is a gateway that refuses everything.
type refusing struct{ err error }

func (g refusing) UnknownChannel(string) error { return nil }
func (g refusing) TooBig() error               { return &Refusal{Status: 413, Code: "too_large", Text: "too large"} }
func (g refusing) Publish(context.Context, string, []byte, bool) (any, error) {
	return nil, g.err
}
func (g refusing) Connections(context.Context, string, int) (any, error) { return nil, g.err }
func (g refusing) CloseConnection(context.Context, uint64) (bool, error) { return false, g.err }
func (g refusing) Health() (int, string)                                 { return 200, "ok" }
func (g refusing) Readiness() (int, string)                              { return 503, "not ready" }

func TestErrorsOfTheGatewayAreAnsweredAsItSays(t *testing.T) {
	full := &Refusal{Status: 503, Code: "full", Text: "come back", Retry: true}
	for _, test := range []struct {
		err                error
		method, path, body string
		status             int
		retry, want        string
	}{
		{full, "POST", "/publish/x", "x", 503, "1", `{"error":{"code":"full","message":"come back"}}`},
		{full, "GET", "/api/connections", "", 503, "1", `{"error":{"code":"full","message":"come back"}}`},
		{full, "POST", "/api/connections/7/close", "", 503, "1", `{"error":{"code":"full","message":"come back"}}`},
		{full, "POST", "/publish/x", "four", 413, "", `{"error":{"code":"too_large","message":"too large"}}`},
		{errors.New("secret"), "POST", "/publish/x", "x", 500, "", `{"error":{"code":"internal","message":"internal error"}}`},
		{nil, "POST", "/api/connections/7/close", "", 404, "", `{"error":{"code":"not_found","message":"no open connection has this id"}}`},
		{nil, "POST", "/api/connections/-/close", "", 400, "", `{"error":{"code":"bad_id","message":"invalid id: use the number that GET /api/connections shows"}}`},
		{nil, "GET", "/publish/x", "", 405, "", `{"error":{"code":"method_not_allowed","message":"use POST to publish a message"}}`},
		{nil, "GET", "/api/connections/7/close", "", 405, "", `{"error":{"code":"method_not_allowed","message":"use POST to close a connection"}}`},
		{nil, "POST", "/api/reload", "", 501, "", `{"error":{"code":"no_reload","message":"this program cannot reload its configuration"}}`},
		{nil, "GET", "/api/reload", "", 405, "", `{"error":{"code":"method_not_allowed","message":"use POST to reload the configuration"}}`},
		{nil, "POST", "/api/connections", "", 405, "", `{"error":{"code":"method_not_allowed","message":"use GET to list connections"}}`},
		{nil, "GET", "/readyz", "", 503, "", "not ready"},
		{nil, "GET", "/", "", 404, "", `{"error":{"code":"not_found","message":"not found. Endpoints: POST /publish/{channel}, POST /api/{method}, GET /api/openapi.json, GET /api/connections, GET /api/events, ` +
			`POST /api/connections/{id}/close, POST /api/reload, POST /api/upgrade, DELETE /api/upgrade, GET /metrics, GET /healthz, GET /readyz, GET /debug/pprof/"}}`},
	} {
		l := &Listener{Gateway: refusing{test.err}, MessageMax: 3, Metrics: prometheus.NewCounter(prometheus.CounterOpts{Name: "x"}), API: http.NotFoundHandler()}
		r, w := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body)), httptest.NewRecorder()
		r.Host = "localhost"
		l.Handler().ServeHTTP(w, r)
		if got := strings.TrimSpace(w.Body.String()); w.Code != test.status || got != test.want || w.Header().Get("Retry-After") != test.retry {
			t.Errorf("%s %s with %v: %d, Retry-After %q, %s", test.method, test.path, test.err, w.Code, w.Header().Get("Retry-After"), got)
		}
	}
}

// The answer to a reload that fails has all faults, and the key can be replaced meanwhile.
func TestReload(t *testing.T) {
	var revoked []bool
	l := &Listener{Gateway: refusing{}, Metrics: prometheus.NewCounter(prometheus.CounterOpts{Name: "x"}), API: http.NotFoundHandler(), APIKey: "first"}
	l.Reload = func(_ context.Context, revoke bool) (any, error) {
		revoked = append(revoked, revoke)
		if revoke {
			return nil, &Refusal{Status: 422, Code: "invalid", Text: "a\nb", Faults: []string{"a", "b"}}
		}
		return map[string]int{"changed": 1}, nil
	}
	h := l.Handler()
	for _, test := range []struct {
		query, key string
		status     int
		want       string
	}{
		{"", "first", 200, `{"changed":1}`},
		{"?revoke=true", "first", 422, `{"error":{"code":"invalid","message":"a\nb","faults":["a","b"]}}`},
		{"?revoke=maybe", "first", 400, `{"error":{"code":"bad_request","message":"revoke must be true or false"}}`},
		{"?revoke=false", "second", 200, `{"changed":1}`},
	} {
		if test.key == "second" {
			l.SetAPIKey("second")
		}
		r, w := httptest.NewRequest("POST", "http://127.0.0.1/api/reload"+test.query, nil), httptest.NewRecorder()
		r.Header.Set("X-API-Key", test.key)
		h.ServeHTTP(w, r)
		if got := strings.TrimSpace(w.Body.String()); w.Code != test.status || got != test.want {
			t.Errorf("%s: %d %s, want %d %s", test.query, w.Code, got, test.status, test.want)
		}
	}
	if !slices.Equal(revoked, []bool{false, true, false}) {
		t.Errorf("revoke was %v", revoked)
	}
}
