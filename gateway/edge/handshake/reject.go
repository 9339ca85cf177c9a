package handshake

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

// Defects of any request: its size and its syntax. After these, two parsers might
// disagree about where a field or the head ends.
var (
	rejectHeadBytes = NewReject(431, "head_too_large", "The request head is larger than 8 KiB.")
	rejectHeadLines = NewReject(431, "too_many_fields", "The request head has more than 64 lines.")
	rejectURILength = NewReject(414, "uri_too_long", "The request target is longer than 4 KiB.")

	rejectIncomplete  = NewReject(400, "incomplete", "The request head does not end with exactly one empty line.")
	rejectLineFeed    = NewReject(400, "bare_lf", "A line of the request head ends in LF instead of CRLF.")
	rejectCR          = NewReject(400, "bare_cr", "The request head has a CR inside a line.")
	rejectControl     = NewReject(400, "control_byte", "The request head contains a control character.")
	rejectRequestLine = NewReject(400, "request_line", "The request line must be a method, a target and a version, separated by single spaces.")
	rejectMethodToken = NewReject(400, "method_token", "The request method is not a token.")
	rejectTarget      = NewReject(400, "target", "The request target must be a path that begins with a slash, or an http or https URL.")
	rejectTargetByte  = NewReject(400, "target_byte", "The request target has a fragment, or a byte that must be percent-encoded.")
	rejectEscape      = NewReject(400, "target_escape", "The path has a percent sign that is not followed by two hexadecimal digits.")
	rejectHTTPSyntax  = NewReject(400, "http_version", "The HTTP version is malformed.")
	rejectHTTPVersion = NewReject(505, "http_version", "Only HTTP/1.1 is supported.")
	rejectFold        = NewReject(400, "obs_fold", "A header field is continued on a second line.")
	rejectFieldName   = NewReject(400, "field_name", "A header line has no colon, or no valid field name before it.")
)

// Defects of any request: fields that say who is asked and where the request ends.
var (
	rejectHostMissing   = NewReject(400, "missing_host", "The request has no Host header field.")
	rejectHostTwice     = NewReject(400, "duplicate_host", "The request has more than one Host header field.")
	rejectHost          = NewReject(400, "bad_host", "The Host header field must be a host name or address with an optional port.")
	rejectOriginTwice   = NewReject(400, "duplicate_origin", "The request has more than one Origin header field.")
	rejectLengthTwice   = NewReject(400, "duplicate_content_length", "The request has more than one Content-Length header field.")
	rejectLength        = NewReject(400, "bad_content_length", "The Content-Length header field is not a number.")
	rejectFraming       = NewReject(400, "ambiguous_length", "The request has Content-Length and Transfer-Encoding, or Transfer-Encoding in HTTP/1.0.")
	rejectEncodingTwice = NewReject(400, "duplicate_transfer_encoding", "The request has more than one Transfer-Encoding header field.")
	rejectEncoding      = NewReject(501, "transfer_encoding", "The only supported transfer coding is chunked.")
	rejectExpect        = NewReject(417, "expect", "The only supported expectation is 100-continue.")
	rejectTrailer       = NewReject(400, "trailer", "Trailer fields are not supported.")
)

// Defects of an upgrade: RFC 6455 section 4.2.1, in its order.
var (
	rejectMethod = NewReject(405, "method", "A WebSocket handshake must be a GET request.").
			WithHeader("Allow: GET\r\n")
	rejectHTTP10          = NewReject(400, "http_version", "A WebSocket handshake requires HTTP/1.1.")
	rejectBody            = NewReject(400, "body", "A WebSocket handshake must not have a body: remove Content-Length and Transfer-Encoding.")
	rejectUpgradeTwice    = NewReject(400, "duplicate_upgrade", "The request has more than one Upgrade header field.")
	rejectUpgrade         = NewReject(400, "bad_upgrade", "The Upgrade header field must be a list of protocols that includes websocket, without a version.")
	rejectConnectionTwice = NewReject(400, "duplicate_connection", "The request has more than one Connection header field.")
	rejectConnection      = NewReject(400, "bad_connection", "The Connection header field must be a list that includes Upgrade.")
	rejectVersionTwice    = NewReject(400, "duplicate_version", "The request has more than one Sec-WebSocket-Version header field.")
	// RFC 6455 section 4.4: the answer to a version that is not spoken names those
	// that are. No version at all gets the same answer, because it comes from
	// drafts older than the field, whose clients are helped most by it.
	rejectVersion = NewReject(426, "version", "Only WebSocket version 13 (RFC 6455) is supported.").
			WithHeader("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
	rejectKeyMissing = NewReject(400, "missing_key", "The request has no Sec-WebSocket-Key header field.")
	rejectKeyTwice   = NewReject(400, "duplicate_key", "The request has more than one Sec-WebSocket-Key header field.")
	rejectKey        = NewReject(400, "bad_key", "The Sec-WebSocket-Key header field is not 16 bytes encoded in base64.")
	rejectProtocol   = NewReject(400, "bad_protocol", "The Sec-WebSocket-Protocol header field is not a list of tokens.")

	// rejectUpgrader is a fault of this package, not of the client: a head that
	// Parse accepts and ws.Upgrader does not.
	rejectUpgrader = NewReject(500, "upgrader", "The WebSocket handshake failed.")
)
