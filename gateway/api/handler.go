package api

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// description is the API's OpenAPI description.
//
//go:embed openapi.json
var description []byte

// Options are the settings of a Handler. The zero value is ready for use.
type Options struct {
	// MaxBody is the largest size of a request's body, in bytes. 0 means 4 MiB.
	MaxBody int64
	// IdempotencyWindow is how long the result of a publication with an idempotency key is
	// remembered. 0 means 5 minutes. If it is negative, requests with a key are refused.
	IdempotencyWindow time.Duration
	// IdempotencyKeys is the largest number of keys remembered. 0 means 100,000, which
	// take 20 to 35 MB.
	IdempotencyKeys int
	// Now returns the current time. nil means time.Now.
	Now func() time.Time
	// OnError, if not nil, is called with each error that the caller sees as an internal
	// server error. It may be called from several goroutines at once.
	OnError func(method string, err error)
}

// Handler is an http.Handler that answers the API's requests. Register it at /api and /api/.
type Handler struct {
	node   Node
	opt    Options
	window *window // nil: no idempotency keys
}

// New returns a Handler whose requests node carries out.
func New(node Node, opt Options) *Handler {
	if opt.MaxBody <= 0 {
		opt.MaxBody = 4 << 20
	}
	if opt.IdempotencyWindow == 0 {
		opt.IdempotencyWindow = 5 * time.Minute
	}
	if opt.IdempotencyKeys <= 0 {
		opt.IdempotencyKeys = 100_000
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.OnError == nil {
		opt.OnError = func(string, error) {}
	}
	h := &Handler{node: node, opt: opt}
	if opt.IdempotencyWindow > 0 {
		h.window = newWindow(opt.IdempotencyWindow, opt.IdempotencyKeys)
	}
	return h
}

// requestMost is how long a request may take. What has not begun by then is not done: a broadcast
// has thousands of publications, and a batch a thousand commands, each of which may wait for seconds.
const requestMost = 30 * time.Second

// errOver is the error of what has not begun in time.
var errOver = ErrInternal.With("the request took too long, and this part of it was not done").Later(time.Second)

// over reports whether a request has taken its time, or the gateway was handed over to another process meanwhile: not
// whether its caller is gone.
func over(ctx context.Context) bool {
	return ctx.Err() != nil && context.Cause(ctx) != context.Canceled
}

// ServeHTTP answers POST /api/{method}, POST /api and GET /api/openapi.json.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestMost)
	defer cancel()
	r = r.WithContext(ctx)
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/api"), "/")
	m := find(name)
	switch {
	case name == "openapi.json":
		h.serveDescription(w, r)
	case m == nil && name != "batch" && name != "":
		h.refuse(w, r, http.StatusNotFound, ErrMethodNotFound.With("unknown method: "+methodNames()))
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		h.refuse(w, r, http.StatusMethodNotAllowed, badRequest("API methods must be called with POST, not %s", shorten(r.Method)))
	default:
		body, status, err := h.read(w, r)
		if err != nil {
			h.refuse(w, r, status, err)
			return
		}
		switch {
		case name == "":
			h.serveLines(w, r, body)
			return
		case m == nil:
			h.serveBatch(w, r, body)
			return
		}
		call, err := m.decode(body, "")
		if err != nil {
			h.refuse(w, r, http.StatusBadRequest, err)
			return
		}
		result, failure := call(r.Context(), h)
		if failure != nil {
			h.refuse(w, r, 0, h.shown(r.Context(), name, failure))
			return
		}
		h.write(w, name, http.StatusOK, reply{Result: result})
	}
}

// reply is the body of an answer.
type reply struct {
	Result any    `json:"result,omitempty"`
	Error  *Error `json:"error,omitempty"`
}

// read returns the request's body.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (body []byte, status int, refusal *Error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.opt.MaxBody))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return nil, http.StatusRequestEntityTooLarge, ErrLimitExceeded.With(fmt.Sprintf("the body is larger than %d bytes", h.opt.MaxBody))
	case err != nil:
		return nil, http.StatusBadRequest, badRequest("the body could not be read")
	case !utf8.Valid(body):
		return nil, http.StatusBadRequest, badRequest("the body is not UTF-8: send bytes as b64data")
	}
	return body, 0, nil
}

// shown returns the error that the caller sees.
func (h *Handler) shown(ctx context.Context, method string, err error) *Error {
	var e *Error
	if errors.As(err, &e) && e != nil {
		return e
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) { // the caller is gone, or gave up
		return ErrInternal.With("the request ended before it was complete").Later(time.Second)
	}
	h.opt.OnError(method, err)
	return ErrInternal
}

// refuse answers with an error. A status of 0 stands for that of a Node's errors: 200, or e's own
// in transport mode.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, status int, e *Error) {
	var body any = reply{Error: e}
	if r.Header.Get("X-Centrifugo-Error-Mode") == "transport" {
		body = e
		if status == 0 {
			status = e.status()
		}
	}
	if status == 0 {
		status = http.StatusOK
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		after := max(e.RetryAfter, time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10))
	}
	h.write(w, "", status, body)
}

// write answers with JSON, one line for each value. HTML is not escaped.
func (h *Handler) write(w http.ResponseWriter, method string, status int, values ...any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	for _, v := range values {
		if err := encoder.Encode(v); err != nil { // a Node's float that JSON has not
			h.opt.OnError(method, err)
			status = http.StatusInternalServerError
			body.Reset()
			encoder.Encode(reply{Error: ErrInternal}) // ignored: there is nothing in it that could fail
			break
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body.Bytes()) // ignored: the caller may be gone
}

func (h *Handler) serveDescription(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		h.refuse(w, r, http.StatusMethodNotAllowed, badRequest("use GET for openapi.json, not %s", shorten(r.Method)))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(description) // ignored: the caller may be gone
}

// methodNames lists the methods.
func methodNames() string {
	var names []string
	for _, m := range methods {
		names = append(names, m.name)
	}
	names = append(names, "batch")
	slices.Sort(names)
	return "the methods are " + strings.Join(names, ", ")
}
