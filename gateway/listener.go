package gateway

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// operated is a gateway as its operator and its backends see it. Its errors are *httpRefusals;
// a caller is not shown others.
type operated interface {
	// UnknownChannel returns a refusal if the channel is of no namespace.
	UnknownChannel(name string) error
	// TooBig returns the refusal of a message that is too large to be read.
	TooBig() error
	// Publish publishes a message and returns its receipt, to be written as JSON.
	Publish(ctx context.Context, channel string, payload []byte, binary bool) (receipt any, err error)
	// Connections returns the connections that stand out most, to be written as JSON.
	Connections(ctx context.Context, sort string, limit int) (list any, err error)
	// CloseConnection closes a connection. It reports whether there was an open one.
	CloseConnection(ctx context.Context, id uint64) (closed bool, err error)
	// Health and Readiness return what a health check is answered.
	Health() (status int, text string)
	Readiness() (status int, text string)
}

// httpRefusal is an error as the internal listener answers with it.
type httpRefusal struct {
	status int
	code   string
	text   string
	retry  bool // the same request may succeed in a second
}

// Error implements error.
func (r *httpRefusal) Error() string { return r.text }

// internalListener serves the HTTP API, metrics, health checks and profiling.
type internalListener struct {
	gateway    operated
	apiKey     string // "" serves only programs on this machine
	unixSocket bool   // it is served on one: no web page can reach it, whatever Host says there
	foreign    string // what other callers are told without a key
	messageMax int
	logger     *slog.Logger
	metrics    prometheus.Collector
	api        http.Handler    // for /api and below
	stopped    <-chan struct{} // health and metrics are there until then
}

// serve serves l until the gateway has stopped, and closes it.
func (i *internalListener) serve(l net.Listener) error {
	srv := &http.Server{
		Handler:           i.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(i.logger.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-done:
		case <-i.stopped:
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if srv.Shutdown(ctx) != nil {
				srv.Close() // ignored: what is left is cut off
			}
		}
	}()
	return srv.Serve(l)
}

// handler returns the handler of all paths.
func (i *internalListener) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(i.metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish/{channel}", i.handlePublish)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /api/connections", i.handleConnections)
	mux.HandleFunc("POST /api/connections/{id}/close", i.handleClose)
	mux.Handle("/api", i.api)
	mux.Handle("/api/", i.api)
	answer := func(of func() (int, string)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			status, text := of()
			http.Error(w, text, status)
		}
	}
	mux.HandleFunc("GET /healthz", answer(i.gateway.Health))
	mux.HandleFunc("GET /readyz", answer(i.gateway.Readiness))
	mux.HandleFunc("/publish/{channel}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, http.StatusMethodNotAllowed, "method_not_allowed", "use POST to publish a message")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		message := "not found. Endpoints: POST /publish/{channel}, POST /api/{method}, GET /api/openapi.json, GET /api/connections, POST /api/connections/{id}/close, GET /metrics, GET /healthz, GET /readyz, GET /debug/pprof/"
		if strings.HasPrefix(r.URL.Path, "/publish/") {
			message = "not found. Use POST /publish/{channel}, and write a slash in the channel name as %2F"
		}
		writeError(w, http.StatusNotFound, "not_found", message)
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return guard(mux, i.apiKey, i.unixSocket, i.foreign)
}

// guard allows requests with the key; without a key, requests from programs on this machine
// but not from web pages. foreign is the text of a refusal of others.
func guard(next http.Handler, key string, unixSocket bool, foreign string) http.Handler {
	want := sha256.Sum256([]byte(key))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthz" || r.URL.Path == "/readyz":
		case key != "":
			given := r.Header.Get("X-API-Key")
			// "apikey" is the scheme of older libraries of Centrifugo's API.
			if scheme, word, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && given == "" && (scheme == "Bearer" || scheme == "apikey") {
				given = word
			}
			got := sha256.Sum256([]byte(given))
			if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				writeError(w, http.StatusUnauthorized, "unauthorized", "the API key is missing or wrong: send it as X-API-Key: KEY or Authorization: Bearer KEY")
				return
			}
		case len(r.Header.Values("Origin")) > 0 || !unixSocket && !localHost(r.Host):
			writeError(w, http.StatusForbidden, "forbidden", foreign)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// localHost reports whether a Host field names this machine as itself. A name that
// only resolves to it does not: a web page could have one.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// handlePublish publishes the request's body: text, or binary when it says that
// it is application/octet-stream.
func (i *internalListener) handlePublish(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("channel")
	if err := i.gateway.UnknownChannel(name); err != nil {
		refuse(w, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(i.messageMax)))
	if err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			refuse(w, i.gateway.TooBig())
			return
		}
		writeError(w, http.StatusBadRequest, "bad_request", "the body could not be read")
		return
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // a kind that cannot be parsed is not binary
	receipt, err := i.gateway.Publish(r.Context(), name, body, kind == "application/octet-stream")
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, receipt)
}

// handleConnections serves GET /api/connections.
func (i *internalListener) handleConnections(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit, err := strconv.Atoi(cmp.Or(query.Get("limit"), "50"))
	if err != nil {
		limit = 0 // which is refused
	}
	list, err := i.gateway.Connections(r.Context(), cmp.Or(query.Get("sort"), "pending"), limit)
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, list)
}

// handleClose serves POST /api/connections/{id}/close.
func (i *internalListener) handleClose(w http.ResponseWriter, r *http.Request) {
	text := r.PathValue("id")
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		writeError(w, http.StatusBadRequest, "bad_id", "invalid id: use the number that GET /api/connections shows")
		return
	}
	switch closed, err := i.gateway.CloseConnection(r.Context(), id); {
	case err != nil:
		refuse(w, err)
	case !closed:
		writeError(w, http.StatusNotFound, "not_found", "no open connection has this id")
	default:
		writeJSON(w, http.StatusOK, struct {
			ID     string `json:"id"`
			Closed bool   `json:"closed"`
		}{text, true})
	}
}

// errorBody is the JSON of every error of the internal listener.
type errorBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// refuse answers with an error of the gateway.
func refuse(w http.ResponseWriter, err error) {
	var r *httpRefusal
	if !errors.As(err, &r) {
		r = &httpRefusal{status: http.StatusInternalServerError, code: "internal", text: "internal error"}
	}
	if r.retry {
		w.Header().Set("Retry-After", "1")
	}
	writeError(w, r.status, r.code, r.text)
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	var body errorBody
	body.Error.Code, body.Error.Message = code, message
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // ignored: the client may be gone
}
