package queue

// Outcome is what a task came to: a label of metrics.
type Outcome uint8

const (
	OK         Outcome = iota // a result, or none
	ErrorReply                // an error that the backend decided on
	Disconnect                // a disconnect that the backend decided on
	Timeout                   // no answer in time
	Refused                   // no connection, or one that broke
	Status                    // an HTTP status other than 200
	Decode                    // an answer that cannot be read
	Request                   // what the client sent cannot be passed on
	Failed                    // any other failure
	Canceled                  // nobody waits for the answer any more
	Overload                  // there was no place, or not in time
	Breaker                   // the circuit breaker is open
	OutcomeCount
)

var labels = [OutcomeCount]string{
	"ok", "error", "disconnect", "timeout", "refused", "status", "decode", "request", "failed", "canceled", "overload", "breaker",
}

// String returns the label.
func (o Outcome) String() string { return labels[o] }
