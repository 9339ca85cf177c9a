package ops

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
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
