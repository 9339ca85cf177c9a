package gateway

import (
	"errors"
	"net/http"
	"time"

	"sluice/gateway/api"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/ops"
	"sluice/gateway/setting"

	"github.com/centrifugal/protocol"
)

// publishError is why a message is not published, and what each kind of publisher gets for it.
type publishError struct {
	text   string          // names of settings are in braces
	status int             // of the answer to POST /publish: with 429 and 503 it is worth trying again
	code   string          // in that answer
	api    *api.Error      // for the API, which gets the text with it; nil for an error that it logs
	client *protocol.Error // for a client of the Centrifugo protocol
}

// Error implements error.
func (e *publishError) Error() string { return e.Unwrap().Error() }

// Unwrap returns the text as one that has names of settings.
func (e *publishError) Unwrap() error { return setting.Error("gateway: " + e.text) }

// refusal returns the answer to POST /publish.
func (e *publishError) refusal(names setting.Names) *ops.Refusal {
	return &ops.Refusal{Status: e.status, Code: e.code, Text: names.Text(e.text), Retry: e.status == http.StatusTooManyRequests || e.status == http.StatusServiceUnavailable}
}

// forAPI returns the API's error.
func (e *publishError) forAPI(names setting.Names) *api.Error {
	if e == errUnknownChannel {
		return e.api // as Centrifugo words it
	}
	return e.api.With(names.Text(e.text))
}

// The errors of [Server.Publish].
var (
	ErrBadChannel error = errBadChannel
	ErrBadText    error = errBadText
	ErrTooBig     error = errTooBig
	// ErrPushedBack is returned if the channel's log was full until the context ended.
	// Nothing was published; try again later.
	ErrPushedBack error = errPushedBack
	// ErrRate is returned if the channel's rate (Config.ChannelRate) was exceeded until
	// the context ended.
	ErrRate error = errRate
)

// The rows, of which each is tested to be whole.
var (
	errBadChannel = &publishError{"channel name must be 1 to 255 bytes of UTF-8 without control characters or white space",
		http.StatusBadRequest, "bad_channel", api.ErrBadRequest, centrifugo.ErrorBadRequest}
	errUnknownChannel = &publishError{"unknown channel: its namespace is not configured ({Namespaces})",
		http.StatusNotFound, "unknown_channel", api.ErrUnknownChannel, centrifugo.ErrorUnknownChannel}
	errBadText = &publishError{"text is not UTF-8; publish it as binary",
		http.StatusBadRequest, "bad_text", api.ErrBadRequest, centrifugo.ErrorBadRequest}
	errTooBig = &publishError{"message is larger than {MaxMessage}",
		http.StatusRequestEntityTooLarge, "too_large", api.ErrLimitExceeded, centrifugo.ErrorLimitExceeded}
	errUnfit = &publishError{channel.ErrTooBig.Error(),
		http.StatusRequestEntityTooLarge, "too_large", api.ErrLimitExceeded, centrifugo.ErrorLimitExceeded}
	errRate = &publishError{"the channel has reached its publication rate limit ({ChannelRate})",
		http.StatusTooManyRequests, "rate", api.ErrTooManyRequests, centrifugo.ErrorTooManyRequests}
	errPushedBack = &publishError{"the channel's buffer is full, because its subscribers are behind",
		http.StatusServiceUnavailable, "pushed_back", api.ErrInternal.Later(time.Second), centrifugo.ErrorInternal}
	errUnpublished = &publishError{"the message could not be published",
		http.StatusInternalServerError, "internal", nil, centrifugo.ErrorInternal}
)

// publishErrorOf returns the row of an error, which may be an engine's.
func publishErrorOf(err error) *publishError {
	var e *publishError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, channel.ErrTooBig):
		return errUnfit
	}
	return errUnpublished
}
