package route

import (
	"iter"
	"net/http"
	"strings"
)

// A Request is the head of a connection's first request, as package handshake has parsed it.
//
// Its strings share one copy of the head, so they outlive the buffer that was parsed. Clone
// a string before keeping it for long, because it keeps the whole copy alive.
type Request struct {
	Method    string
	Path      string   // percent-decoded; begins with a slash; may hold any byte
	RawPath   string   // as it was sent: the one to cut into segments, for "%2F"
	RawQuery  string   // as it was sent, without the question mark; escapes are not checked
	Host      string   // of an absolute target, else of the field, as it was sent; "" is possible in HTTP/1.0 alone
	Origin    string   // as it was sent
	Protocols []string // subprotocols that an upgrade offers, in the client's order

	// ForwardedFor are the values of X-Forwarded-For. Trust them only from trusted
	// proxies.
	ForwardedFor []string

	Fields string // the lines of the header, each ended by CRLF; see Header

	HasOrigin bool // the field is there, though it may be empty
	Upgrade   bool // asks for a WebSocket: an Upgrade field names it
}

// Header iterates over the names and values of the header's fields, as they were sent and in their order, without the white
// space around values. Names are compared without case.
func (r *Request) Header() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for line := range strings.Lines(r.Fields) {
			if name, value, ok := strings.Cut(line, ":"); ok && !yield(name, strings.Trim(value, " \t\r\n")) {
				return
			}
		}
	}
}

// Fields iterates over the names and values of a header's fields.
func Fields(header http.Header) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for name, values := range header {
			for _, value := range values {
				if !yield(name, value) {
					return
				}
			}
		}
	}
}
