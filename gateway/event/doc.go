// Package event notifies an application of what happens: that a channel has its first subscriber or
// has none any more, that clients connect, subscribe and leave, and what is published.
//
// It is apart from package hook, which asks and needs an answer at once: here nobody waits for the
// receiver, and an event is sent until the receiver accepts it. Package webhook is a receiver over
// HTTP, [Func] one in Go, and [Feed] keeps events for readers, such as event streams (SSE).
//
// # The way of an event
//
//  1. A loop calls [Notifier.Join], [Notifier.Leave] or [Notifier.Emit], which take a short lock of
//     the channel's partition, and append to its intake.
//  2. The notifier's goroutine takes what is there. Joins and leaves that change whether a channel
//     has subscribers go through the levels, which delay [Vacated], and count other nodes. Everything
//     else is an event already.
//  3. It is a record in the line of each [Queue] whose receiver has selected it.
//  4. The queue's goroutine makes a [Batch] of the first records of a line, and a goroutine sends it.
//     A line has one batch at a time, which is sent until it is accepted, with the same bytes. There
//     is a line for each of 64 partitions, to which channels belong by a hash of their names.
//
// # Levels
//
// [Occupied] and [Vacated] say what state a channel is in. Receivers see each change unless a queue
// is full: then only the last one remains. Overflow is described in overflow.go. Nothing is dropped
// that a [Resync] or a [Reset] does not tell of.
//
// # What a receiver can rely on
//
// At least once, while the process lives: a batch that was accepted is sent again if the answer was
// lost. In order for each partition. Seq has no holes: a receiver that has seen number n of an epoch
// ignores what has a number up to n. A new epoch begins with a Reset, and is greater as a string; an
// event of a lower one than the last is ignored. A [Digest] lists all channels of a partition that
// are occupied at its place between the events.
//
// # Memory
//
// A level that waits takes its channel's name and about 12 bytes in a line of its queue, and a
// queue's lines together have a bound. A snapshot, from which the events of a Reset and the pages of
// a Digest are made, is a list of names that lie in the levels: 16 bytes a channel, for receivers
// that accept events.
//
// # Goroutines and locks
//
// A notifier has one goroutine, which owns the levels. Each queue has one, and at most
// Options.InFlight more while batches are sent. The intake's locks are held for the copy of a record;
// the goroutine never does its work under them, so that loops do not wait for it. A queue's lock is
// taken by its own goroutines and the notifier's, never by a loop.
//
// The package does not know connections, loops, protocols, HTTP, or how nodes talk to each other.
package event
