package api

import (
	"fmt"
	"net/http"
	"time"
)

// Error is an error as the caller of the API sees it.
type Error struct {
	Code      uint32 `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary,omitempty"` // the same request may succeed later
	// RetryAfter, where it is positive, says when. It makes the status of ErrInternal
	// 503 where errors have a status.
	RetryAfter time.Duration `json:"-"`
}

// The errors that Centrifugo has. A Node returns one of these, or With a message of its own.
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

// Is tells whether target has the same code, whatever its message.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// With gives a copy of e with another message.
func (e *Error) With(message string) *Error {
	with := *e
	with.Message = message
	return &with
}

// Later gives a copy of e that says when to try again.
func (e *Error) Later(after time.Duration) *Error {
	later := *e
	later.Temporary, later.RetryAfter = true, after
	return &later
}

func badRequest(format string, args ...any) *Error {
	return ErrBadRequest.With(fmt.Sprintf(format, args...))
}

// status is the HTTP status of e where errors have one. Those of codes that Centrifugo's own
// API gives are the same as there.
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
