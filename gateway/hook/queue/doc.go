// Package queue bounds calls to something that can be slow: so many run at a time, and so many
// wait for a place.
//
// A [Queue] is for one backend. [Queue.Submit] runs a [Task] at once if there is a place, on a
// goroutine of its own. Otherwise the task waits, without a goroutine or a timer: what waits is
// an [Entry], which lies in the caller's own record. The goroutine of a task that has ended
// continues with the next one.
//
// # Who is next
//
// Each client address has a first-in, first-out line, and the lines take turns. So an address
// that asks for thousands of calls delays the one call of another address by one turn. What
// waits for longer than Config.Wait is refused, oldest first.
//
// What waits is also bounded in number, in all and for each address, by a [Budget] that several
// queues share.
//
// # The circuit breaker
//
// A task reports whether the backend was away; one that was canceled says nothing, or clients that
// hang up could open the breaker. When it is true of too many tasks of the last seconds, the breaker opens: everything that waits is refused, and so is what comes. After a
// random delay a few tasks may run as probes, and the rest is still refused at once. If they
// succeed the breaker closes, and if one fails it opens for longer.
//
// # Goroutines and locks
//
// A queue has one goroutine for each task that runs, at most Config.InFlight, and a timer. Its
// lock is held for a few pointer assignments, and never while a task runs or is refused. A
// queue's lock is taken before its Budget's.
//
// The package is apart from package hook so that scheduling can be tested against a model. It
// does not know requests, answers, HTTP, or what a task does.
package queue
