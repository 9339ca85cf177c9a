package ops

import (
	"cmp"
	"context"
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
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/ops/console"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Gateway is a gateway as its operator and its backends see it. Its errors are *Refusals;
// a caller is not shown others.
type Gateway interface {
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

// Refusal is an error as the listener answers with it.
type Refusal struct {
	Status int // of HTTP
	Code   string
	Text   string
	Faults []string // all that is wrong, if that is a list
	Retry  bool     // the same request may succeed in a second
}

// Error implements error.
func (r *Refusal) Error() string { return r.Text }

// Listener serves the HTTP API, metrics, health checks and profiling.
type Listener struct {
	Gateway    Gateway
	APIKey     string // "" serves only programs on this machine
	UnixSocket bool   // it is served on one: a program may write anything as Host
	Foreign    string // what other callers are told without a key
	MessageMax int
	Logger     *slog.Logger
	Metrics    prometheus.Collector
	API        http.Handler      // for /api and below
	Events     http.Handler      // for GET /api/events
	Stopped    <-chan struct{}   // health and metrics are there until then
	Relay      *Relay            // nil for one of its own
	Sessions   *console.Sessions // likewise
	// Upgrade hands the gateway over to a new process, and returns a report, to be written as JSON; nil if that is not
	// possible. Abort ends it, and reports whether there was one.
	Upgrade func(context.Context) (report any, err error)
	Abort   func() bool
	// Reload replaces the configuration, and returns a report, to be written as JSON; nil if that is not possible.
	Reload func(ctx context.Context, revoke bool) (report any, err error)

	keyMu   sync.Mutex                   // guards APIKey and mux
	mux     http.Handler                 // of all paths; nil before Handler
	guarded atomic.Pointer[http.Handler] // mux behind the key
}

// Serve serves on until the gateway has stopped, closes it, and returns net/http's error.
func (l *Listener) Serve(on net.Listener) error {
	handler := l.Handler()
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(l.Logger.Handler(), slog.LevelDebug),
		ConnState:         l.Relay.connState,
	}
	done, down := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(down)
		select {
		case <-done:
		case <-l.Stopped:
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if srv.Shutdown(ctx) != nil {
				srv.Close() // ignored: what is left is cut off
			}
		}
	}()
	err := srv.Serve(on)
	close(done)
	<-down // Serve does not wait for requests under way, and the process may end when this returns
	return err
}

// Handler returns the handler of all paths.
func (l *Listener) Handler() http.Handler {
	if l.Relay == nil {
		l.Relay = NewRelay()
	}
	if l.Sessions == nil {
		l.Sessions = new(console.Sessions)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(l.Metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish/{channel}", l.handlePublish)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /api/connections", l.handleConnections)
	if l.Events != nil {
		mux.Handle("GET /api/events", l.Events)
		mux.HandleFunc("/api/events", useOnly(http.MethodGet, "read events"))
	}
	mux.HandleFunc("POST /api/connections/{id}/close", l.handleClose)
	mux.Handle("/api", l.API)
	mux.Handle("/api/", l.API)
	mux.HandleFunc("POST "+upgradePath, l.handleUpgrade)
	mux.HandleFunc("DELETE "+upgradePath, l.handleAbort)
	mux.HandleFunc("POST /api/reload", l.handleReload)
	mux.HandleFunc("/api/reload", useOnly(http.MethodPost, "reload the configuration"))
	answer := func(of func() (int, string)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			status, text := of()
			http.Error(w, text, status)
		}
	}
	mux.HandleFunc("GET /healthz", answer(l.Gateway.Health))
	mux.HandleFunc("GET /readyz", answer(l.Gateway.Readiness))
	mux.HandleFunc("/publish/{channel}", useOnly(http.MethodPost, "publish a message"))
	mux.HandleFunc("/api/connections", useOnly(http.MethodGet, "list connections"))
	mux.HandleFunc("/api/connections/{id}/close", useOnly(http.MethodPost, "close a connection"))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		message := "not found. Endpoints: POST /publish/{channel}, POST /api/{method}, GET /api/openapi.json, GET /api/connections, GET /api/events, POST /api/connections/{id}/close, POST /api/reload, POST /api/upgrade, DELETE /api/upgrade, GET /metrics, GET /healthz, GET /readyz, GET /debug/pprof/"
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
	l.keyMu.Lock()
	defer l.keyMu.Unlock()
	l.mux = mux
	l.guardLocked()
	return l.Relay.Around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*l.guarded.Load()).ServeHTTP(w, r) }))
}

// SetAPIKey replaces the API key. Sessions that were begun with the one before it end.
func (l *Listener) SetAPIKey(key string) {
	l.keyMu.Lock()
	defer l.keyMu.Unlock()
	if l.APIKey = key; l.mux != nil { // else Handler does the rest
		l.guardLocked()
	}
}

// guardLocked puts the API key before all paths.
func (l *Listener) guardLocked() {
	h := l.guard(l.mux, l.APIKey, console.New(l.APIKey, l.Sessions, l.Logger))
	l.guarded.Store(&h)
}

// outsiderTime is how long an answer to somebody without the key may take to be read: anybody who
// reaches the listener could hold as many connections as the process has file descriptors.
const outsiderTime = 10 * time.Second

// guard allows requests with the key, and those of the operator's page when somebody has logged in
// with it; without a key, requests from programs on this machine and from the operator's page, but
// not from other web pages.
func (l *Listener) guard(next http.Handler, apiKey string, page *console.Console) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		health := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
		out := http.NewResponseController(w)
		out.SetWriteDeadline(time.Now().Add(outsiderTime)) // ignored: only a test's writer has none
		if apiKey == "" && !health && !l.fromHere(r) {
			writeError(w, http.StatusForbidden, "forbidden", l.Foreign)
			return
		}
		if page.Serve(w, r) {
			return
		}
		key, given := keyOf(r)
		right, retry := false, 0
		if given && apiKey != "" && !health {
			right, retry = page.Right(r, key)
		}
		switch {
		case health:
		case apiKey == "" && console.ByBrowser(r) && !console.Own(r):
			writeError(w, http.StatusForbidden, "forbidden", l.Foreign)
			return
		case apiKey == "" || right:
		case retry > 0:
			h.Set("Retry-After", strconv.Itoa(retry))
			writeError(w, http.StatusTooManyRequests, "rate", console.TooManyGuesses)
			return
		case given || !page.LoggedIn(r):
			h.Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "unauthorized", "the API key is missing or wrong; send it as X-API-Key: KEY or Authorization: Bearer KEY")
			return
		case !console.Own(r):
			writeError(w, http.StatusForbidden, "forbidden", "with a cookie, only requests of the gateway's own page are served; send the API key as X-API-Key: KEY")
			return
		default:
			h.Set("Cache-Control", "no-store")
		}
		if !health {
			out.SetWriteDeadline(time.Time{}) // ignored: likewise
		}
		next.ServeHTTP(w, r)
	})
}

// keyOf returns the API key that a request has.
func keyOf(r *http.Request) (key string, given bool) {
	if key = r.Header.Get("X-API-Key"); key != "" {
		return key, true
	}
	// "apikey" is the scheme of older libraries of Centrifugo's API.
	scheme, word, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return word, ok && (scheme == "Bearer" || scheme == "apikey")
}

// fromHere reports whether a request without a key is for this machine under its own name. A web
// page elsewhere can have a name that only resolves to it, also for a port that is forwarded to a
// Unix socket.
func (l *Listener) fromHere(r *http.Request) bool {
	return localHost(r.Host) || l.UnixSocket && !console.ByBrowser(r)
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
func (l *Listener) handlePublish(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("channel")
	if err := l.Gateway.UnknownChannel(name); err != nil {
		refuse(w, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(l.MessageMax)))
	if err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			refuse(w, l.Gateway.TooBig())
			return
		}
		writeError(w, http.StatusBadRequest, "bad_request", "the body could not be read")
		return
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // a kind that cannot be parsed is not binary
	receipt, err := l.Gateway.Publish(r.Context(), name, body, kind == "application/octet-stream")
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, receipt)
}

// handleConnections serves GET /api/connections.
func (l *Listener) handleConnections(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit, err := strconv.Atoi(cmp.Or(query.Get("limit"), "50"))
	if err != nil {
		limit = 0 // which is refused
	}
	list, err := l.Gateway.Connections(r.Context(), cmp.Or(query.Get("sort"), "pending"), limit)
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, list)
}

// handleClose serves POST /api/connections/{id}/close.
func (l *Listener) handleClose(w http.ResponseWriter, r *http.Request) {
	text := r.PathValue("id")
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		writeError(w, http.StatusBadRequest, "bad_id", "invalid id: use the number that GET /api/connections shows")
		return
	}
	switch closed, err := l.Gateway.CloseConnection(r.Context(), id); {
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

// handleUpgrade serves POST /api/upgrade. A caller that goes away does not end the upgrade.
func (l *Listener) handleUpgrade(w http.ResponseWriter, r *http.Request) {
	if l.Upgrade == nil {
		writeError(w, http.StatusNotImplemented, "no_upgrade", "this program cannot hand the gateway over to another process")
		return
	}
	report, err := l.Upgrade(context.WithoutCancel(r.Context()))
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Connection", "close") // this process ends
	writeJSON(w, http.StatusOK, report)
}

// handleAbort serves DELETE /api/upgrade.
func (l *Listener) handleAbort(w http.ResponseWriter, _ *http.Request) {
	if !l.Abort() {
		writeError(w, http.StatusConflict, "no_upgrade", "no upgrade is under way")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// handleReload serves POST /api/reload. A caller that goes away does not end the reload.
func (l *Listener) handleReload(w http.ResponseWriter, r *http.Request) {
	if l.Reload == nil {
		writeError(w, http.StatusNotImplemented, "no_reload", "this program cannot reload its configuration")
		return
	}
	word := cmp.Or(r.URL.Query().Get("revoke"), "false")
	revoke, err := strconv.ParseBool(word)
	if err != nil {
		writeError(w, http.StatusBadRequest, "bad_request", "revoke must be true or false")
		return
	}
	report, err := l.Reload(context.WithoutCancel(r.Context()), revoke)
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, report)
}

// useOnly returns the handler of a path for all methods but one.
func useOnly(method, purpose string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", method)
		writeError(w, http.StatusMethodNotAllowed, "method_not_allowed", "use "+method+" to "+purpose)
	}
}

// errorBody is the JSON of every error of the internal listener.
type errorBody struct {
	Error struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Faults  []string `json:"faults,omitempty"`
	} `json:"error"`
}

// refuse answers with an error of the gateway.
func refuse(w http.ResponseWriter, err error) {
	var r *Refusal
	if !errors.As(err, &r) {
		r = &Refusal{Status: http.StatusInternalServerError, Code: "internal", Text: "internal error"}
	}
	if r.Retry {
		w.Header().Set("Retry-After", "1")
	}
	writeFaults(w, r.Status, r.Code, r.Text, r.Faults)
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeFaults(w, status, code, message, nil)
}

func writeFaults(w http.ResponseWriter, status int, code, message string, faults []string) {
	var body errorBody
	body.Error.Code, body.Error.Message, body.Error.Faults = code, message, faults
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // ignored: the client may be gone
}
