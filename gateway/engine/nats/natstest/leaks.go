package natstest

import "go.uber.org/goleak"

// Leaks are the goroutines that a nats-server (2.15.3) leaves if it is stopped at the moment at which it
// makes a stream, as servers of a cluster do for each other: the store of the stream, and the clock
// that the store uses.
var Leaks = []goleak.Option{
	goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
	goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"),
}
