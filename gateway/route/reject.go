package route

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
)

// A Reject is a refusal of a request: the HTTP response, and the reason for logs and
// metrics. It holds nothing that a client sent, so it can be logged and sent as it is.
// Rejects are shared and must not be changed. NewReject makes one.
type Reject struct {
	Status int // HTTP status code
	Reason Outcome
	Text   string // the body: a sentence for the client's author
	Header string // further header fields, each ended by CRLF
	// Retry is the minimum of Retry-After in seconds; 0 for none. Each client gets a
	// random time up to twice as long, so that not all come back at once.
	Retry int
}

// RetryAfter returns the seconds for one client's Retry-After field: random, from Retry to
// twice as many.
func (r *Reject) RetryAfter() int { return r.Retry + rand.IntN(r.Retry+1) }

// Error returns Text.
func (r *Reject) Error() string { return r.Text }

// Named returns a copy whose text names settings as the operator knows them: text translates it.
func (r *Reject) Named(text func(string) string) *Reject {
	named := *r
	named.Text = text(r.Text)
	return &named
}

// Append appends the HTTP response to dst. The connection must be closed after it, because
// the end of a refused request is unknown.
func (r *Reject) Append(dst []byte) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(r.Status)...)
	dst = append(dst, "\r\nConnection: close"...)
	if r.Status == http.StatusUpgradeRequired {
		// RFC 9110 section 7.8: who sends Upgrade names it in Connection.
		dst = append(dst, ", Upgrade"...)
	}
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(r.Text)+1), 10)
	dst = append(dst, "\r\nX-Content-Type-Options: nosniff\r\n"...)
	dst = append(dst, r.Header...)
	if r.Retry > 0 {
		dst = append(dst, "Retry-After: "...)
		dst = strconv.AppendInt(dst, int64(r.RetryAfter()), 10)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "\r\n"...)
	dst = append(dst, r.Text...)
	return append(dst, '\n')
}

// rejects holds every Reject of the program. It is filled while packages are initialised.
var rejects []*Reject

// NewReject returns a refusal of which label is the reason. It is for package variables, as
// NewOutcome is.
func NewReject(status int, label, text string) *Reject {
	r := &Reject{Status: status, Reason: NewOutcome(label), Text: text}
	rejects = append(rejects, r)
	return r
}

// WithHeader adds a header field, ended by CRLF, and returns r.
func (r *Reject) WithHeader(field string) *Reject {
	r.Header += field
	return r
}

// WithRetry sets Retry and returns r.
func (r *Reject) WithRetry(seconds int) *Reject {
	r.Retry = seconds
	return r
}

// Rejects returns every refusal that packages of the program have made.
func Rejects() []*Reject { return slices.Clone(rejects) }

// BadQuery refuses a request whose query string cannot be parsed.
var BadQuery = NewReject(http.StatusBadRequest, "bad_query",
	"Malformed query string: percent-encode special characters.")
