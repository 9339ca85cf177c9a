package engine

import (
	"errors"

	"sluice/gateway/channel"
	"sluice/gateway/setting"
)

// Fault is why a message is not published. Each way in answers it in its own terms: in an array
// that has an element for each.
type Fault uint8

const (
	BadChannel Fault = iota
	UnknownChannel
	BadText
	TooBig
	Unfit // it does not fit the channel's log
	RateReached
	PushedBack
	Unavailable // the engine is; the message may have been published
	Away        // the engine is; the message was not published
	Unpublished // any other error, which only the log has
	FaultCount
)

var faultTexts = [FaultCount]string{
	BadChannel:     "channel name must be 1 to 255 bytes of UTF-8 without control characters or white space",
	UnknownChannel: "unknown channel: its namespace is not configured ({Namespaces})",
	BadText:        "text is not UTF-8; publish it as binary",
	TooBig:         "message is larger than {MaxMessage}",
	Unfit:          channel.ErrTooBig.Error(),
	RateReached:    "the channel has reached its publication rate limit ({ChannelRate})",
	PushedBack:     "the channel's buffer is full, because its subscribers are behind",
	Unavailable:    "the engine is unavailable or did not answer in time, and may have published the message",
	Away:           "the engine is away, and has not published the message",
	Unpublished:    "the message could not be published",
}

// Text returns the fault in words, with names of settings in braces.
func (f Fault) Text() string { return faultTexts[f] }

// Error implements error.
func (f Fault) Error() string { return f.Unwrap().Error() }

// Unwrap returns the text as one that has names of settings.
func (f Fault) Unwrap() error { return setting.Error("gateway: " + f.Text()) }

// FaultOf returns the fault that an error of Publish is.
func FaultOf(err error) Fault {
	var f Fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, channel.ErrTooBig):
		return Unfit
	case errors.Is(err, ErrAway):
		return Away
	case errors.Is(err, ErrUnavailable):
		return Unavailable
	}
	return Unpublished
}
