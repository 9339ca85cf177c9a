package hook

import (
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Refusal is what an error of a hook comes to for a client, by what the client speaks.
type Refusal struct {
	// Error is in the reply to a command of Centrifugo's protocol. It is nil if Disconnect is not,
	// which ends the connection instead.
	Error      *Error
	Disconnect *Disconnect

	// Status is that of an HTTP response with Text. 101 and 200 stand for a connection that is
	// accepted, and closed with CloseCode and CloseText at once: a Close frame, or an event "close".
	Status int
	Text   string
	// Retry: the response has a Retry-After header, with a random time.
	Retry bool

	// Of the Close frame, for a WebSocket client that is accepted to be refused.
	CloseCode uint16
	CloseText string
}

// CloseTextMax is the number of bytes that fit a Close frame beside its code (RFC 6455 section 5.5).
const CloseTextMax = 123

const (
	closeRefused = 1008 // policy violation
	closeLater   = 1013 // try again later
)

// Errors of Centrifugo's protocol.
var (
	errorInternal        = &Error{Code: 100, Message: "internal server error", Temporary: true}
	errorTooManyRequests = &Error{Code: 111, Message: "too many requests", Temporary: true}
)

// Refuse returns what an error of a connect or subscribe hook, or of any hook that answers a
// command, comes to. ws reports whether the client is a WebSocket; if not, it is an SSE client.
// What it returns is shared and must not be changed.
func Refuse(err error, ws bool) Refusal {
	if d, ok := errors.AsType[*Disconnect](err); ok {
		r := Refusal{Disconnect: d, Status: http.StatusOK, CloseCode: closeCode(d.Code), CloseText: closeText(d.Reason)}
		if ws {
			r.Status = http.StatusSwitchingProtocols
		}
		return r
	}
	if e, ok := errors.AsType[*Error](err); ok {
		r := Refusal{Error: e, Status: http.StatusForbidden, Text: e.Message, CloseCode: closeRefused, CloseText: closeText(e.Message)}
		if e.Code == http.StatusUnauthorized {
			r.Status = http.StatusUnauthorized
		}
		return r
	}
	r := Refusal{Error: errorInternal, Status: http.StatusServiceUnavailable, Retry: true, CloseCode: closeLater}
	if errors.Is(err, ErrOverload) {
		r.Error = errorTooManyRequests
	}
	r.Text, r.CloseText = r.Error.Message, r.Error.Message
	return r
}

// errNoCredentials ends a client about which the connect hook has no result, as Centrifugo ends it.
var errNoCredentials error = &Disconnect{Code: 3501, Reason: "bad request"}

// errExpired is for a client or a subscription that is accepted until a time that is over: it is not, as in Centrifugo.
var errExpired error = &Error{Code: 110, Message: "expired"}

// Connected returns what a connect hook's answer comes to that may be nil: a client is not accepted by silence, unless
// AllowAnonymous is set. now is in Unix seconds.
func (s *Set) Connected(r *ConnectResult, err error, now int64) (*ConnectResult, error) {
	switch {
	case err != nil:
		return nil, err
	case r != nil && r.ExpireAt != 0 && r.ExpireAt < now:
		return nil, errExpired
	case r != nil:
		return r, nil
	case s.AllowAnonymous:
		return new(ConnectResult), nil
	}
	return nil, errNoCredentials
}

// Subscribed returns the error that a subscribe hook's answer comes to. now is in Unix seconds.
func Subscribed(r *SubscribeResult, err error, now int64) error {
	if err == nil && r != nil && r.ExpireAt != 0 && r.ExpireAt < now {
		return errExpired
	}
	return err
}

// ClosesWith reports whether a code may be in a Close frame (RFC 6455 section 7.4, and the codes that IANA has registered since).
func ClosesWith(code uint32) bool {
	return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006 || code >= 3000 && code <= 4999
}

// closeCode returns the code of a disconnect in a Close frame.
func closeCode(code uint32) uint16 {
	if !ClosesWith(code) {
		return closeRefused
	}
	return uint16(code)
}

// closeText returns the part of a text that fits a Close frame.
func closeText(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= CloseTextMax {
		return s
	}
	n := CloseTextMax
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// graceSeconds is how long a connection or a subscription goes on when a hook cannot say whether
// it may. Then it is asked again.
const graceSeconds = 60

// Refresh returns when a connection expires after its refresh hook has answered, in Unix seconds,
// 0 for never. expireAt is when it expired until now. expired is true if it does not go on: so it
// is when the result has no new time and the old one is over.
func Refresh(r *RefreshResult, err error, expireAt, now int64) (at int64, expired bool) {
	switch {
	case err != nil && !Decided(err):
		return now + graceSeconds, false
	case err != nil || r == nil || r.Expired:
		return 0, true
	case r.ExpireAt != 0:
		expireAt = r.ExpireAt
	}
	return expireAt, expireAt != 0 && expireAt <= now
}

// SubRefresh is Refresh for a subscription. Without a new time it never expires again.
func SubRefresh(r *SubRefreshResult, err error, now int64) (at int64, expired bool) {
	switch {
	case err != nil && !Decided(err):
		return now + graceSeconds, false
	case err != nil || r == nil || r.Expired:
		return 0, true
	}
	return r.ExpireAt, r.ExpireAt != 0 && r.ExpireAt <= now
}

// Decided reports whether an error is the application's decision, and not a failure.
func Decided(err error) bool {
	_, isError := errors.AsType[*Error](err)
	_, isDisconnect := errors.AsType[*Disconnect](err)
	return isError || isDisconnect
}
