// Package stream serves events as an event stream (SSE), for the internal listener.
//
// A GET has the parameters types, the names of events, and channels, patterns in which * stands for
// any run of bytes; both can be repeated, and a comma separates several. Without types it gets
// occupied and vacated. Each event is the JSON of an event.Event. The header Last-Event-ID resumes
// where a stream has ended; if that is too long ago the stream begins with a reset and the channels
// that are occupied, as it does without the header.
//
// The package is apart from package event so that the latter does not depend on HTTP. It does not
// know who may read: the listener does.
package stream

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"sluice/gateway/event"
)

// KeepAlive is how often a stream without events sends a comment.
const KeepAlive = 25 * time.Second

// writeTimeout is for how long a client may take nothing.
const writeTimeout = 10 * time.Second

// Handler returns what serves the events of a notifier.
func Handler(n *event.Notifier) http.Handler { return handler{n, KeepAlive} }

type handler struct {
	n         *event.Notifier
	keepAlive time.Duration
}

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	filter, err := filterOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reader, err := h.n.OpenReader(r.Context(), filter, r.Header.Get("Last-Event-ID"))
	if err != nil {
		http.Error(w, "the gateway is shutting down", http.StatusServiceUnavailable)
		return
	}
	defer reader.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // of nginx
	h.serve(w, r, reader)
}

// serve writes events until the client or the notifier ends.
func (h handler) serve(w http.ResponseWriter, r *http.Request, reader *event.Reader) {
	control := http.NewResponseController(w)
	buf := []byte(":\n\n") // the response begins before the first event
	for {
		// Ignored: a writer without deadlines waits for as long as the server lets it.
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(buf); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), h.keepAlive)
		entries, err := reader.Next(ctx)
		cancel()
		buf = buf[:0]
		switch {
		case err == nil:
		case r.Context().Err() == nil && errors.Is(err, context.DeadlineExceeded):
			buf = append(buf, ":\n\n"...)
		default:
			return
		}
		for i := range entries {
			buf = appendEvent(buf, &entries[i])
		}
	}
}

func appendEvent(dst []byte, e *event.Entry) []byte {
	if e.ID != "" {
		dst = append(append(append(dst, "id: "...), e.ID...), '\n')
	}
	dst = append(append(dst, "data: "...), e.JSON...) // JSON has no line ends
	return append(dst, "\n\n"...)
}

// filterOf returns what a request selects.
func filterOf(r *http.Request) (f event.Filter, err error) {
	q := r.URL.Query()
	for name := range q {
		if name != "types" && name != "channels" {
			return f, errors.New("unknown parameter; there are types and channels")
		}
	}
	f.Channels = list(q["channels"])
	f.Types, err = event.ParseTypes(list(q["types"]))
	return f, err
}

// list returns the parts of values that commas separate.
func list(values []string) (all []string) {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if part != "" {
				all = append(all, part)
			}
		}
	}
	return all
}
