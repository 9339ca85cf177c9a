// Package frame implements RFC 6455 over bytes: it parses the frames of clients, checks them
// and joins them into messages, and it builds the frames of the server. It uses the types,
// the codes and the cipher of gobwas/ws. That library reads frames from an io.Reader, which
// would have to wait for the rest of a frame, and a loop of the gateway never waits.
//
// # Two doors
//
// [Whole] serves the connection at rest, which keeps nothing between two reads:
// a frame that arrived in one piece is unmasked where it lies and handed
// on. Whatever Whole does not take (half a frame, a fragment, a fault in
// a header) goes to [Next] with a [State], which a caller fetches from a pool
// and gives back when [State.Idle] says that nothing is kept. Next alone would
// be enough; Whole makes the common case cheap.
//
// # What is held
//
// A State allocates for what has arrived, never for what a header declares, and
// at most Limits.MessageBytesMax. A buffer doubles as it fills, so that a peer
// that sends byte by byte costs no more than one that does not.
//
// # Faults
//
// A fault is an [*Error] that is prepared: it has the close code that the peer
// is due, and costs no allocation. A header and a text are refused at the
// earliest byte that makes the fault certain: a reserved bit at the first byte of
// a frame, a length above the limit at the byte of the length that exceeds it, a
// text that is not UTF-8 at the byte that breaks it, even when the message is not
// complete. A Close is judged when it is complete. How the bytes were cut into
// reads makes no difference to the messages and the fault that come out.
//
// # UTF-8
//
// Text that is there as a whole goes through utf8.Valid, which is several times
// as fast as a state machine over single bytes. For text in pieces the state
// machine of wsutil.UTF8Reader carries a code point across the cut, and nothing
// else: what lies between two cuts goes through utf8.Valid again.
//
// The package does no I/O and knows no goroutine, clock, connection or channel.
package frame
