// Package hook asks the application for decisions: whether a client may connect, subscribe or
// publish, for how long, and what a request of a client is answered with.
//
// [Hooks] has one [Hook] for each event. A hook is asked, and answers later, on any goroutine.
// [Func] makes a hook of a Go function, which has a deadline and of which so many calls run at
// a time (package queue). Package proxy makes hooks of HTTP endpoints.
//
// # Answers
//
// A hook answers with a result, with nil for "no result", or with an error. An error is
//
//   - an [*Error] or a [*Disconnect]: the application decided against the client;
//   - [ErrOverload], for a call that was refused because too many others are waiting, or because
//     the hook's circuit breaker is open;
//   - [ErrTimeout], or any other error: a failure.
//
// What they mean is the same for a Go function as for a backend of Centrifugo's proxies:
//
//	event        empty result                  nil                        failure, overload
//	connect      accepted, without a user      disconnected (3501)        temporary error
//	refresh      valid for as long as before   expired                    60 seconds more
//	subscribe    allowed                       allowed                    temporary error
//	sub-refresh  never expires again           expired                    60 seconds more
//	publish      published as it is            published as it is         temporary error
//	RPC          an empty reply                an empty reply             temporary error
//
// With [Set].AllowAnonymous a client about which the connect hook has no result is accepted, without a user. An error or a disconnect of a refresh or a sub-refresh means expired. [Refuse], [Refresh] and
// [SubRefresh] compute what this comes to.
//
// # Ownership
//
// A request, with everything it refers to, must not change once a hook was asked, not even after
// the answer. Nor must a result, which several clients may share ([Share]).
//
// # What it does not know
//
// The package knows no connection, loop, protocol or file. It cannot be part of package access,
// which decides by itself and at once.
package hook
