// Package gateway is a broadcast server for WebSocket and SSE that a Go program can embed. It
// serves many connections with little memory, and delivers every message published to a
// channel to all of the channel's subscribers.
//
// # Use
//
// [New] checks a [Config] and starts the event loops, [Server.Serve] and [Server.ServeTLS]
// accept clients on a listener, [Server.Publish] publishes, and [Server.Shutdown] closes all
// connections and stops the server:
//
//	server, err := gateway.New(gateway.Config{Raw: gateway.RawListen, Logger: slog.Default()})
//	if err != nil {
//		return err // all errors in the Config at once
//	}
//	listener, err := gateway.Listen(ctx, "tcp", ":8000", gateway.DefaultSendBuffer)
//	if err != nil {
//		return err
//	}
//	go server.Serve(listener) // clients connect to ws://HOST:8000/ws/news and http://HOST:8000/sse/news
//	receipt, err := server.Publish(ctx, gateway.Message{Channel: "news", Payload: []byte("goal!")})
//	// receipt has the message's position and the number of subscribers
//	err = server.Shutdown(ctx)
//
// A Server runs on Linux only. It owns its listeners' connections: to serve sluice and your
// own HTTP handlers, use two listeners. cmd/sluice is a complete program around this package.
//
// Extension points:
//
//   - Config.OnMessage is called with every message from a client before it is published,
//     and can refuse it.
//   - Config.Tokens (package auth) and Config.Namespaces (package namespace) decide who may do
//     what in which channel. There is no hook that is called when a client connects,
//     subscribes or leaves.
//   - [Server.ServeInternal] or [Server.InternalHandler] serve the HTTP API, metrics for
//     Prometheus, health checks and profiling.
//   - [Server.Failed], [Server.Ready] and [Server.Ticked] report the server's health to a
//     supervisor.
//   - Config.Logger receives the log.
//
// PROTOCOL.md describes what clients see. README.md explains how the package works and how to
// change it, and DESIGN.md explains why. The rest of this comment is for people who read the
// source. A glossary is at its end.
//
// # Goroutines
//
//	acceptor    one per call of Serve: accepts connections, and handles a request head
//	            that has arrived with the connection (accept.go, upgrade.go). Until a
//	            loop owns such a connection, it is a bare file descriptor (link.go)
//	greeting    one for each connection that is waiting for its request head, begins with
//	            TLS or a PROXY header (greet.go), or is refused; at most MaxHandshakes at
//	            a time. Together they are called the stage (stage.go)
//	net/http    handles requests that are not upgrades, one per connection (web.go): the
//	            page, and SSE streams until they move to a loop (stream.go);
//	            and the internal listener (package ops)
//	loop        Config.Loops of them, run by package poller: each owns connections, their
//	            subscriptions and their buffers, without a lock (loop.go)
//	watchdog    one: ticks the loops once a second, and detects stuck ones (watchdog.go)
//	house       one: checks memory use once a second, and returns some memory to the
//	            system (server.go)
//	verifiers   a few: verify tokens that are too expensive to verify on a loop or
//	            during a handshake; some of them wait for a key set to be fetched
//	            (package access)
//	encoders    a few, while there is work: encode publications that may become larger than
//	            a megabyte (encoding.go)
//
// They communicate only by messages through a loop's inbox (inbox.go), and by the bytes of a
// channel's log below its atomic head.
//
// # The life of a broadcast
//
//  1. A client's bytes are ready: conn.Ready reads once into the loop's scratch
//     buffer, package frame parses messages in place (conn_read.go), and each message goes to
//     the connection's protocol, which publishes it (raw.go). An HTTP publish begins here (publish.go).
//  2. The engine assigns the publication its offset while the publisher has the channel's
//     turn. The publication is encoded once in each wire format that has subscribers
//     (format.go), without the channel's lock, added to the channel's history and appended
//     to each format's log (package channel). If a log is full, or another publisher has the
//     turn, the message is parked with its connection, which is not read from until the
//     channel wakes it (conn_publish.go).
//  3. The append notifies every loop with subscribers only once, no matter how many
//     appends happen before the loop handles it (group.Notify).
//  4. In its next turn the loop sweeps the group of subscribers (group.go):
//     each is sent the bytes between its position and the log's head, in one
//     write, straight from the log. After a fixed number of writes, the sweep pauses to
//     handle events.
//  5. A socket that refuses bytes blocks its connection. Sweeps skip the connection until
//     the poller reports that the socket is writable, and then everything it missed is sent
//     in one longer write. If the socket accepted only part of a frame, the rest is sent
//     first, from the log. The connection's own bytes (such as a pong) and those from the
//     log are sent together, through the loop's cork (conn_write_cork.go).
//  6. At the end of a sweep the group publishes the position up to which the
//     log has been sent to all its subscribers. The log frees everything below the lowest of
//     these positions, and wakes as many waiting publishers as there is room for. If a full
//     log cannot free anything, a subscriber whose socket still refuses bytes after a second
//     (pressed.go) is disconnected with 1013, or skips to the newest publication (slow.go).
//
// # Admission
//
// A connection's client is its peer, or the address that a listed proxy passes on (package
// peer). The number of connections and of new connections per second is limited for each
// address (package admit, admission.go); all clients together are limited by MaxConnections,
// AcceptRate and the memory limit (memory.go). A refused client gets its response once its
// request has arrived: an HTTP status or, after an upgrade, close code 1013.
//
// The slots for handshakes and for net/http are also shared fairly among addresses, as soon as
// the address is known (turns.go, web_places.go), so clients that do not finish their requests
// block only themselves. Health checks need no slot (health.go).
//
// # TLS
//
// A few handshakes run at a time, in the stage. Then the tls.Conn stays with its connection,
// and its net.Conn is replaced with the bare file descriptor (secure.go): the tls.Conn then
// reads whatever bytes have arrived, and the loop collects and sends what the tls.Conn writes.
// Like any other idle connection, an idle TLS connection needs no goroutine.
//
// # Recovery
//
// A subscriber that asks for missed publications (since, history, Last-Event-ID) first receives
// them from the channel's history, a piece at a time (catchup.go). The last piece and the
// subscriber's position in the log are determined together, under a single acquisition of the
// channel's lock. From there on it is a subscriber like any other.
//
// # Protocols
//
// Each connection has a variant: the combination of a protocol (protocol.go) and a framing
// (package wire). A protocol is one value that serves all of its connections: it opens them,
// processes their messages, handles their deadlines and requests from the server API, and
// supplies the close reasons. The framing encodes pings and closes, so keep-alive and closing
// work the same way for every protocol. A connection's protocol state is stored in its
// identity (identity.go). Delivery depends on neither: the log already contains the encoded
// bytes of each format.
//
// # The Centrifugo protocol
//
// Package centrifugo encodes and decodes the protocol, session_protocol.go has the
// protocol's calls, and session.go holds a connection's protocol state:
//
//   - session_command.go handles commands,
//   - session_subscribe.go handles subscriptions from beginning to end,
//   - session_look.go serves presence and history to clients,
//   - session_announce.go sends joins and leaves,
//   - session_time.go handles pings and expiry.
//
// A command that has to wait for a token to be verified is deferred, together with everything
// after it, and later run again from the start; a publication that waits for room is kept
// decoded. A subscription starts in three steps. First, the missed publications and the position
// where live delivery continues are determined together, under a single acquisition of the
// channel's lock. Then the reply is queued, and only then does the subscription start, so the
// reply always precedes the first publication.
//
// Permissions are the same for every protocol and path (package access): a channel's options come
// from package namespace, and the identity of a client from package auth. A request to the HTTP
// API (package api) goes to every loop as a message (node.go); each loop knows which of its
// connections belong to a user. All loops share one table of subscribers (package presence).
//
// # Glossary
//
//	loop          an event loop: a goroutine with the connections it owns
//	turn          one run of a loop's deferred work: inbox, deadlines, sweeps, closing
//	connection    a client's WebSocket or SSE stream (conn)
//	channel       a named, ordered sequence of publications
//	publication   one message published to a channel
//	history       the newest publications of a channel, kept as they were published
//	epoch         the lifetime of a channel's numbering
//	offset        a publication's number within its epoch
//	place         a subscriber's epoch and offset in a channel (clients call it position)
//	log           the encoded bytes of a channel's publications in one format
//	position      a subscriber's byte offset in a log, counted from the first byte ever appended
//	group         a loop's subscribers of one log
//	sweep         one pass over a group that sends each subscriber the bytes it lacks
//	blocked       state of a connection whose socket refused bytes
//	sealed        state of bytes that are encrypted and not yet accepted by the socket
//	seat          a connection's entry in the count for its client's address
//	parked        state of a message that waits for room in its channel's log, or for
//	              the publisher's turn
//	publisher's turn  the right to publish to a channel, which one publisher has at a time
//	pressed       state of a group that must release the positions that are holding up a log
//	protocol      what a connection speaks: raw, echo or Centrifugo's
//	framing       how messages are laid out in a connection's bytes: WebSocket frames or SSE events
//	identity      the client a connection belongs to, from its token or its protocol
//	session       the state of a connection that uses the Centrifugo protocol
//	namespace     the options of the channels whose names share a prefix before ':'
//	engine        assigns publications their order and keeps their history
//	node          one process
//
// The package knows nothing about flags, files or signals (package cmd/sluice does), system
// calls (package poller does), or how bytes become frames (package frame does).
package gateway
