package api

import (
	"fmt"
	"net/http"
	"time"
)

// Error is an error as a caller of the API sees it.
type Error struct {
	Code      uint32 `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary,omitempty"` // the same request may succeed later
	// RetryAfter, if positive, is how long to wait before trying again. With it,
	// ErrInternal has status 503 in transport mode.
	RetryAfter time.Duration `json:"-"`
}

// The errors of Centrifugo's API. A Node returns one of these, or a copy with a message of its own ([Error.With]).
var (
	ErrInternal              = &Error{Code: 100, Message: "internal server error", Temporary: true}
	ErrUnauthorized          = &Error{Code: 101, Message: "unauthorized"}
	ErrUnknownChannel        = &Error{Code: 102, Message: "unknown channel"}
	ErrPermissionDenied      = &Error{Code: 103, Message: "permission denied"}
	ErrMethodNotFound        = &Error{Code: 104, Message: "method not found"}
	ErrAlreadySubscribed     = &Error{Code: 105, Message: "already subscribed"}
	ErrLimitExceeded         = &Error{Code: 106, Message: "limit exceeded"}
	ErrBadRequest            = &Error{Code: 107, Message: "bad request"}
	ErrNotAvailable          = &Error{Code: 108, Message: "not available"}
	ErrTokenExpired          = &Error{Code: 109, Message: "token expired"}
	ErrExpired               = &Error{Code: 110, Message: "expired"}
	ErrTooManyRequests       = &Error{Code: 111, Message: "too many requests", Temporary: true, RetryAfter: time.Second}
	ErrUnrecoverablePosition = &Error{Code: 112, Message: "unrecoverable position"}
)

func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// Is reports whether target is an Error with the same code. Messages are not compared.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// With returns a copy of e with the given message.
func (e *Error) With(message string) *Error {
	with := *e
	with.Message = message
	return &with
}

// Later returns a copy of e that is temporary and asks the caller to retry after the given time.
func (e *Error) Later(after time.Duration) *Error {
	later := *e
	later.Temporary, later.RetryAfter = true, after
	return &later
}

func badRequest(format string, args ...any) *Error {
	return ErrBadRequest.With(fmt.Sprintf(format, args...))
}

// status returns the HTTP status of e in transport mode. Codes that Centrifugo's own API
// returns have the same status as there.
func (e *Error) status() int {
	switch e.Code {
	case ErrInternal.Code:
		if e.RetryAfter > 0 {
			return http.StatusServiceUnavailable
		}
	case ErrUnauthorized.Code, ErrTokenExpired.Code, ErrExpired.Code:
		return http.StatusUnauthorized
	case ErrPermissionDenied.Code:
		return http.StatusForbidden
	case ErrUnknownChannel.Code, ErrMethodNotFound.Code:
		return http.StatusNotFound
	case ErrAlreadySubscribed.Code, ErrLimitExceeded.Code, ErrBadRequest.Code, ErrNotAvailable.Code:
		return http.StatusBadRequest
	case ErrTooManyRequests.Code:
		return http.StatusTooManyRequests
	case ErrUnrecoverablePosition.Code:
		return http.StatusRequestedRangeNotSatisfiable
	}
	return http.StatusInternalServerError
}
