// Package loop has the event loops: a [Set] of them owns all connections, reads what clients
// send, and delivers each channel's publications to its subscribers. What a client's messages
// mean is the business of its [Protocol].
//
// # Goroutines and ownership
//
// A [Loop] is one goroutine, which package poller runs. It owns its connections ([Conn]), their
// subscriptions ([Group], [Ref]) and their buffers, without a lock: methods of these types run on
// it, except where their comments say otherwise. Other goroutines reach a loop only by [Loop.Post],
// which puts a [Message] into its inbox, and by [EachLoop]; they read its [Stats], which are atomic.
// The loops of a process share channels (package channel), which have locks of their own, and the
// engine.
//
// Beside the loops a Set has a watchdog, which ticks them once a second and detects stuck ones, and
// a few encoders, which exist only while publications are encoded that are too large for a loop.
//
// # The life of a connection
//
//  1. After a handshake, [Set.Arrive] passes an [Arrival] to the next loop in turn: a bare file
//     descriptor, the head of the response, and what the protocol has found in the request
//     ([Hello]). It becomes a connection, and [Protocol.Open] subscribes it to its channels before
//     the response is sent.
//  2. When the client has sent something, the poller calls [Conn.Ready]. One read fills the loop's
//     scratch buffer, package frame parses messages in place (conn_read.go), and each message goes
//     to the connection's protocol. A message that has to wait becomes a [Wait]. It is kept with
//     everything after it, and the client is not read until it is done (conn_wait.go).
//  3. Two kinds of bytes are due to a client: its own, such as replies, in its outbox, and those
//     that the logs of its channels hold above its cursors. They are sent together
//     (conn_write.go, conn_write_cork.go). A socket that refuses bytes blocks its connection until
//     the poller reports that the socket is writable.
//  4. Each connection has one deadline, in whole seconds: the earliest of its timeouts and its next
//     ping (conn_time.go).
//  5. A connection is closed for a [Reason]: it is sent what was published before, then a Close
//     frame, then a FIN (conn_close.go). Its descriptor is closed at the end of the turn. When the
//     loops stop, all are closed at a pace (drain.go).
//
// # Time
//
// The loop reads its clock once for each batch of events that the poller reports, and in each tick;
// everything else takes that time from it ([Loop.Time]). It may be older than what other goroutines
// have posted meanwhile, by as long as the events before took. [Loop.Now] counts the seconds of ticks
// instead. Only the delays of the loops themselves are measured with the real clock: the lag of a tick, and the
// watchdog's seconds.
//
// # Delivery
//
// A channel's log notifies the [Group] of its subscribers on each loop, and in its next turn the loop
// sweeps the group: each subscriber is sent the bytes between its cursor and the log's head, in
// one write, straight from the log. After a fixed number of writes the sweep pauses to handle
// events. At the end of a sweep the log can free what all subscribers have been sent. If a full log
// cannot free anything, a subscriber whose socket still refuses bytes after a grace period
// (pressed.go) is disconnected, or skips to the newest publication (slow.go). A subscriber that
// asks for missed publications first receives them from the channel's history, a piece at a time
// (catchup.go). Where publications are missing in a log whose format has no gap records, its
// subscribers stop until their protocol has been notified (lost.go).
//
// # TLS
//
// The tls.Conn stays with its connection, while its net.Conn is replaced with the bare descriptor
// ([Detach]): it reads whatever bytes have arrived, and the loop collects and sends what it writes.
// An idle TLS connection needs no goroutine (secure.go).
//
// # Panics
//
// A panic in a step for one connection closes that connection; a panic that may have left shared
// state half changed ends the process. The names of the functions on the stack decide which
// (contain.go): its lists must follow when a function is renamed or moved.
//
// The package knows nothing about listeners, requests, tokens, permissions, or limits of addresses,
// and it knows no protocol: a [Config], an [Arrival], a [Protocol] with its [Framing], and an
// [Admission] are all it sees of them.
package loop
