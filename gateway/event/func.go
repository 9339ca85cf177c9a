package event

import "context"

// Func is a receiver that calls a Go function, from several goroutines: for events of one partition
// one call at a time, in their order. Those of a call that has returned an error come again.
type Func func(ctx context.Context, events []Event) error

// Deliver implements Receiver.
func (f Func) Deliver(ctx context.Context, b *Batch) error { return f(ctx, b.Events) }
