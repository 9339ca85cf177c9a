package gateway

import (
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
	"strings"
	"time"

	"sluice/gateway/api"
	"sluice/gateway/channel"
	"sluice/gateway/handshake"
	"sluice/gateway/sampling"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// publishWait is how long an HTTP publish waits for a channel that pushes back.
const publishWait = 250 * time.Millisecond

// Internal holds the settings of the internal listener.
type Internal struct {
	// APIKey, if set, is required in every request except those for health, as
	// "X-API-Key: KEY" or "Authorization: Bearer KEY". Without it, requests with an
	// Origin header, or with a Host other than this machine, are refused, because a web page
	// can send requests to a loopback port.
	APIKey string
}

// ServeInternal serves the HTTP API, metrics, health checks and profiling on l until
// Shutdown, closes l, and returns [ErrServerClosed]. Clients must not be able to reach l.
func (s *Server) ServeInternal(l net.Listener, opt Internal) error {
	srv := &http.Server{
		Handler:           s.internalHandler(opt, l.Addr().Network() == "unix"),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-done:
		case <-s.stats.stopped: // health and metrics are there until the end
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if srv.Shutdown(ctx) != nil {
				srv.Close() // ignored: what is left is cut off
			}
		}
	}()
	if err := srv.Serve(l); !closedByUs(err) {
		return err
	}
	return ErrServerClosed
}

// InternalHandler returns the handler that [Server.ServeInternal] serves, for programs that
// serve it themselves.
func (s *Server) InternalHandler(opt Internal) http.Handler { return s.internalHandler(opt, false) }

// internalHandler: no web page can reach a Unix socket, whatever Host says there.
func (s *Server) internalHandler(opt Internal, unixSocket bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish/{channel}", s.handlePublish)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /api/connections", s.handleConnections)
	mux.HandleFunc("POST /api/connections/{id}/close", s.handleClose)
	handler := api.New((*node)(s), api.Options{MaxBody: s.cfg.apiBodyMax(), OnError: s.apiFailed})
	mux.Handle("/api", handler)
	mux.Handle("/api/", handler)
	answer := func(of func() *handshake.Reject) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			r := of()
			http.Error(w, r.Text, r.Status)
		}
	}
	mux.HandleFunc("GET "+pathHealth, answer(s.health))
	mux.HandleFunc("GET /readyz", answer(s.readiness))
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
	return guard(mux, opt.APIKey, unixSocket)
}

// guard allows requests with the key; without a key, requests from programs on this machine
// but not from web pages.
func guard(next http.Handler, key string, unixSocket bool) http.Handler {
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
				writeError(w, http.StatusUnauthorized, "unauthorized", "the API key is missing or wrong; send it as X-API-Key: KEY or Authorization: Bearer KEY")
				return
			}
		case len(r.Header.Values("Origin")) > 0 || !unixSocket && !localHost(r.Host):
			writeError(w, http.StatusForbidden, "forbidden", "without --api-key-file, only programs on this machine are served: requests with an Origin header, or with a Host other than this machine, are refused")
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
func (s *Server) handlePublish(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("channel")
	if handshake.ChannelName(name) == nil && s.access.options(name) == nil {
		writeError(w, http.StatusNotFound, "unknown_channel", "unknown channel: its namespace is not configured (--namespaces)")
		return
	}
	body, err := readBody(w, r, s.cfg.MaxMessage)
	if err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			writeError(w, http.StatusRequestEntityTooLarge, "too_large", ErrTooBig.Error())
			return
		}
		writeError(w, http.StatusBadRequest, "bad_request", "the body could not be read")
		return
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // a kind that cannot be parsed is not binary
	receipt, err := s.submit(r.Context(), publishWait, Message{Channel: name, Payload: body, Binary: kind == "application/octet-stream"})
	if s.cfg.Logger.Enabled(r.Context(), slog.LevelDebug) {
		s.cfg.Logger.Debug("published over HTTP", "channel", sampling.Quote(name), "bytes", len(body), "offset", receipt.Offset, "subscribers", receipt.Subscribers, "error", err)
	}
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, receipt)
	case errors.Is(err, ErrBadChannel):
		writeError(w, http.StatusBadRequest, "bad_channel", err.Error())
	case errors.Is(err, ErrBadText):
		writeError(w, http.StatusBadRequest, "bad_text", err.Error())
	case errors.Is(err, ErrTooBig), errors.Is(err, channel.ErrTooBig):
		writeError(w, http.StatusRequestEntityTooLarge, "too_large", err.Error())
	case errors.Is(err, ErrRate):
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusTooManyRequests, "rate", err.Error())
	case errors.Is(err, ErrPushedBack):
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusServiceUnavailable, "pushed_back", err.Error())
	default:
		s.cfg.Logger.Error("publish failed", "error", err)
		writeError(w, http.StatusInternalServerError, "internal", "the message could not be published")
	}
}

// readBody reads a request's body of at most so many bytes.
func readBody(w http.ResponseWriter, r *http.Request, most int) ([]byte, error) {
	return io.ReadAll(http.MaxBytesReader(w, r.Body, int64(most)))
}

// errorBody is the JSON of every error of the internal listener.
type errorBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	var body errorBody
	body.Error.Code, body.Error.Message = code, strings.TrimPrefix(message, "gateway: ")
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // ignored: the client may be gone
}
