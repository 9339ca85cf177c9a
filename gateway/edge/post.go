package edge

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"sluice/gateway/route"
)

var (
	rejectPostLate = route.NewReject(http.StatusRequestTimeout, "timeout",
		"The request body did not arrive in time.")
	rejectPostSize = route.NewReject(http.StatusRequestEntityTooLarge, "body_too_large",
		"The request body is too large.")
	rejectPostBody = route.NewReject(http.StatusBadRequest, "bad_body",
		"The request body cannot be read.")
	rejectPostMoved = route.NewReject(http.StatusServiceUnavailable, "moved",
		"Another process serves the request: send it again.").WithRetry(1)
)

const postMethods = "POST, OPTIONS"

// servePost returns the handler of what clients of streams send. A connection to it is kept.
func (s *Server) servePost(p route.Post) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, ok := s.admitPage(w, r, postMethods, p.Off, "send")
		defer conn.arrived()
		if !ok {
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(p.BodyMax)))
		var reject *route.Reject
		switch {
		case err == nil:
			reject = s.post(w, r, conn, &p, body)
		case errors.Is(err, os.ErrDeadlineExceeded):
			reject = rejectPostLate
		case errors.As(err, new(*http.MaxBytesError)):
			reject = rejectPostSize
		default:
			reject = rejectPostBody
		}
		if reject != nil {
			s.refuseHTTP(w, conn, reject)
		}
	}
}

// post serves a request whose body is there. While everything is handed over to another process it waits, and goes there if
// the clients have gone there.
func (s *Server) post(w http.ResponseWriter, r *http.Request, c *webConn, p *route.Post, body []byte) *route.Reject {
	if !s.passage.Enter(s.ending) {
		if len(body) > headBytes { // it does not fit into what another process takes
			return rejectPostMoved
		}
		c.move(w)
		return nil
	}
	defer s.passage.Leave()
	if reject := p.Serve(r.Context(), r.Header.Get("Content-Type"), body); reject != nil {
		return reject
	}
	s.stats.posts.Add(1)
	// Where nobody can disagree about its length, and all that came after it is known.
	if len(r.TransferEncoding) == 0 && c.forget(len(body)) && s.web.kept.keep(c) {
		w.Header().Del("Connection")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// tokens reports whether text is a list of tokens (RFC 9110 section 5.6.1).
func tokens(text string) bool {
	return strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~, ") == ""
}
