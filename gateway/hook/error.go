package hook

import (
	"errors"
	"fmt"

	"sluice/gateway/hook/queue"
)

// Error is an error that the application sends the client.
type Error struct {
	Code      uint32 // 400 to 1999 are the application's
	Message   string
	Temporary bool // the client may try again
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// Disconnect closes the client's connection.
type Disconnect struct {
	// Code is that of a WebSocket Close frame (ClosesWith). With 4000 to 4499 the client
	// reconnects, with 4500 to 4999 it does not.
	Code   uint32
	Reason string // at most 123 bytes
}

func (d *Disconnect) Error() string { return fmt.Sprintf("disconnect: %s (%d)", d.Reason, d.Code) }

// Failure is why there is no decision. Any other error that is neither an Error nor a Disconnect
// is as good as one with the Outcome queue.Failed.
type Failure struct {
	Outcome queue.Outcome
	Away    bool // the backend as a whole seems to be away: it counts for the circuit breaker
	Err     error
	Hook    string // Options.Name, as Func fills in; "" if unknown
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns Err.
func (f *Failure) Unwrap() error { return f.Err }

// Is reports whether a failure is one of ErrTimeout and ErrOverload. A circuit breaker that is
// open is an overload.
func (f *Failure) Is(target error) bool {
	switch target {
	case ErrTimeout:
		return f.Outcome == queue.Timeout
	case ErrOverload:
		return f.Outcome == queue.Overload || f.Outcome == queue.Breaker
	}
	return false
}

// For errors.Is: the errors of a Caller name the hook.
var (
	// ErrTimeout is the error of a call that was not answered in time.
	ErrTimeout error = &Failure{Outcome: queue.Timeout, Away: true, Err: errors.New("the hook did not answer in time")}
	// ErrOverload is the error of a call that was not made, because too many others are waiting or
	// because the circuit breaker is open.
	ErrOverload error = &Failure{Outcome: queue.Overload, Err: errors.New("too many calls of the hook are waiting")}
)

// OutcomeOf returns what an answer comes to, as metrics have it.
func OutcomeOf(err error) queue.Outcome {
	o, _ := outcomeOf(err)
	return o
}

// outcomeOf is OutcomeOf, and reports whether the backend as a whole seems to be away.
func outcomeOf(err error) (o queue.Outcome, away bool) {
	if err == nil {
		return queue.OK, false
	}
	if _, ok := errors.AsType[*Disconnect](err); ok {
		return queue.Disconnect, false
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return queue.ErrorReply, false
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Outcome, f.Away
	}
	return queue.Failed, false
}
