// Package gateway is a broadcast server for WebSocket and SSE that a Go program can embed. It
// holds many connections in little memory, and delivers every message published into a
// channel to all subscribers of the channel.
//
// # Use
//
// [New] checks a [Config] and starts the event loops, [Server.Serve] and [Server.ServeTLS]
// accept clients on a listener, [Server.Publish] publishes, and [Server.Shutdown] closes all
// connections and stops the server:
//
//	server, err := gateway.New(gateway.Config{Raw: gateway.RawListen, Logger: slog.Default()})
//	if err != nil {
//		return err // all faults of the Config at once
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
// Where a program can take part:
//
//   - Config.OnMessage sees every message of a client before it is published, and can refuse
//     it.
//   - Config.Tokens (package auth) and Config.Namespaces (package namespace) decide who may do
//     what in which channel. There is no hook that is called when a client connects,
//     subscribes or leaves.
//   - [Server.ServeInternal] or [Server.InternalHandler] serve the HTTP API, metrics for
//     Prometheus, health checks and profiling.
//   - [Server.Failed], [Server.Ready] and [Server.Ticked] report the server's health to a
//     supervisor.
//   - Config.Logger receives the log.
//
// PROTOCOL.md describes what clients see, README.md how the package works and how to change it,
// and DESIGN.md why. The rest of this comment is for people who read the source.
//
// # Goroutines
//
//	acceptor    one for each Serve: accepts, and handles a request head that
//	            is there at once (accept.go, upgrade.go); until its loop takes it, such a
//	            connection is a bare descriptor (link.go)
//	greeting    one for each connection whose head is not there yet, that begins
//	            with TLS or a PROXY header (greet.go), or that is refused; at most
//	            MaxHandshakes (stage.go)
//	net/http    whatever is not an upgrade, one request per connection (web.go): the
//	            page, and SSE streams until they move to a loop (stream.go);
//	            and the internal listener (package ops)
//	loop        one for each of Loops, the poller's own: owns connections, their
//	            subscriptions and their buffers, without a lock (loop.go)
//	watchdog    one: ticks the loops once a second, and detects stuck ones (watchdog.go)
//	house       one: checks the memory once a second, and gives some back (server.go)
//	verifiers   a few: verify the tokens that are too expensive for a loop or a handshake;
//	            and some that wait for a key set to be fetched (package access)
//	encoders    a few, while there is work: encode publications that may become larger than
//	            a megabyte (encoding.go)
//
// What crosses between them is a message through a loop's inbox (inbox.go), or
// bytes of a channel's log below its atomic head. Nothing else does.
//
// # The life of a broadcast
//
//  1. A client's bytes are ready: conn.Ready reads once into the loop's scratch,
//     package frame parses messages in place (conn_read.go), and each goes to the
//     connection's protocol, which publishes it (raw.go). An HTTP publish begins here (publish.go).
//  2. The engine gives the publication its offset in the publisher's turn. It is encoded
//     once in each wire format that has subscribers (format.go), without the channel's
//     lock, added to the channel's history and appended to each format's log (package
//     channel). If a log is full, or another publisher has the turn, the message is parked
//     with its connection, which is not read until the channel calls
//     (conn_publish.go).
//  3. The append notifies every loop with subscribers, once however often it
//     happens before the loop handles it (group.Notify).
//  4. In its next turn the loop sweeps the group of subscribers (group.go):
//     each is sent the bytes between its position and the log's head, in one
//     write, straight from the log. After so many writes the sweep pauses for events.
//  5. A socket that refuses bytes blocks its connection: sweeps pass it by until
//     the poller reports that it is writable; then it gets all it missed in one
//     longer write. If the socket took a part of a frame, the rest comes first, from
//     the log. Bytes of its own (a pong) and the log's go out together, through the
//     loop's cork (conn_write.go).
//  6. At the end of a sweep the group publishes the position below which all
//     its subscribers are served. The log frees what lies below the lowest of these, and
//     calls as many waiting publishers as there is room for. If a full log is held back, a
//     subscriber whose socket still refuses bytes after a second (pressed.go) is closed with
//     1013, or skips to the newest publication (slow.go).
//
// # Admission
//
// A connection's client is its peer, or the address that a listed proxy passes on (package
// peer). Each address has a bounded number of connections and of new ones per second
// (package admit, admission.go); for all together there are MaxConnections, AcceptRate and
// the memory limit (memory.go). A refused client is answered when its request is there: with
// a status, or after an upgrade with 1013.
//
// Places in the handshake and in net/http are shared among addresses as well, as soon as the
// address is known (turns.go, web_places.go), so that clients that do not finish what they
// began keep out only themselves. Health checks are answered without a place (health.go).
//
// # TLS
//
// The handshake runs in the stage, a few at a time. Then the tls.Conn stays with its
// connection, and its net.Conn is swapped for the bare descriptor (secure.go): it reads
// what is there, and what it writes is collected and sent by the loop. A connection over
// TLS rests without a goroutine, like any other.
//
// # Recovery
//
// A subscriber that asks for what it missed (since, history, Last-Event-ID) is sent
// that from the channel's history first, a piece at a time (catchup.go). With the
// last piece it gets its position in the log, under one hold of the channel's
// lock; from there on it is a subscriber like any other.
//
// # Protocols
//
// What a connection speaks is a variant: a protocol (protocol.go) in a framing (package wire).
// One value of a protocol serves all its connections: it opens them, processes their messages,
// does what their deadlines and the server's API ask for, and has the text with which they
// are closed. The framing makes pings and ends, so that keeping alive and closing are
// the same for all. What a connection keeps of its protocol hangs on its identity
// (identity.go). Delivery asks neither: a format's bytes are in the log.
//
// # The Centrifugo protocol
//
// Package centrifugo has the bytes, session_protocol.go the protocol's calls, and session.go
// what a connection keeps of it:
// commands are in session_command.go, a subscription's life in session_subscribe.go,
// presence and history as a client sees them in session_look.go, joins and leaves in
// session_announce.go, and pings and expiry in session_time.go.
//
// A command that has to wait for a token's verdict is put off with everything after it, and
// run again from its beginning; a publication that waits for room is kept decoded. A
// subscription is settled first: what was missed, and the position where live delivery
// continues, under one hold of the channel's lock. Then its reply is queued, then it begins.
// So a reply precedes its first publication.
//
// What clients may do is the same for every protocol and path (package access): a channel's
// options come from package namespace, and who a client is from package auth. A request to
// the HTTP API (package api) goes to every loop as a message (node.go); each loop knows its
// connections of a user. Subscribers are in one table beside the loops (package presence).
//
// # Glossary
//
//	loop          an event loop: a goroutine with the connections it owns
//	turn          one run of what a loop has put off: inbox, deadlines, sweeps, closing
//	connection    a client's WebSocket or SSE stream (conn)
//	channel       a named order of publications
//	publication   one message published into a channel
//	history       the newest publications of a channel, kept as they were published
//	place         where a subscriber is in a channel's order: epoch and offset
//	log           the encoded bytes of a channel's publications in one format
//	position      where a subscriber is in a log, in bytes ever appended
//	group         a loop's subscribers of one log
//	sweep         one pass over a group, sending to each what is due
//	blocked       of a connection: its socket refused bytes
//	sealed        of bytes: encrypted, and not yet taken by the socket
//	seat          of a connection: counted for its client's address
//	parked        of a message: waiting for room in its channel's log, or for the turn
//	turn (publisher's) the right to publish into a channel, which one publisher has at a time
//	pressed       of a group: it must release positions that hold a log back
//	protocol      what a connection speaks: raw, echo or Centrifugo's
//	framing       how messages lie in a connection's bytes: WebSocket frames or SSE events
//	identity      who a connection is, by a token or its protocol
//	session       what a connection has that uses the Centrifugo protocol
//	namespace     the options of the channels whose names share a prefix before ':'
//	epoch, offset the life of a channel's order, and the place of a publication in it
//	engine        where publications get their order and their history
//	node          one process
//
// The package does not know flags, files and signals (cmd/sluice does), system
// calls (poller does), or how bytes become frames (frame does).
package gateway
