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
//	listener, err := gateway.Listen(ctx, "tcp", ":8000", 0)
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
//   - Config.Tokens (package auth) and Config.Namespaces (package namespace) decide who may do
//     what in which channel.
//   - Config.Hooks (package hook) decides while clients wait: who may connect, subscribe, publish
//     and stay. It answers RPC, filters messages before they are published, and is notified when clients
//     disconnect. [Server.Subscribe] and its neighbours act on clients at any other time.
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
// # Packages
//
// This package checks the Config, wires the others together and is the interface for programs.
// It has no logic of its own. cmd/sluice/architecture_test.go lists what each package may import.
//
//	edge        from accept to an Arrival: TLS, request heads, admission, plain HTTP
//	route       what a protocol registers with the edge: paths, and how it reads a request
//	loop        event loops, connections, delivery, closing, deadlines, slow clients
//	raw         protocol: raw WebSocket, JSON records, SSE, echo
//	centrifugo  protocol: Centrifugo's
//	wire        framings and encodings, and their compressed forms (deflate); frame has RFC 6455
//	channel     publications, logs, history: no I/O, no goroutine, no clock
//	engine      gives publications their order
//	access      permissions: tokens (auth) and namespaces
//	hook        asks the application for decisions (queue bounds the calls, proxy is HTTP, client is
//	            what protocols have in common)
//	presence    who is subscribed
//	control     what acts on all loops: the server API (api), the list of connections
//	takeover    hands all of it over to another process (handover), and takes it (saved: its form)
//	gate        stops what goes on, for that time
//	ops         the internal listener, metrics, the operator's page (console), the memory limit
//	web         the page at /, and what it asks (asset holds the files of both pages)
//
// # Goroutines
//
//	acceptor    one per call of Serve: accepts connections, and handles a request head
//	            that has arrived with the connection (edge)
//	greeting    one for each connection that is waiting for its request head, begins with
//	            TLS or a PROXY header, or is refused: the stage, of MaxHandshakes (edge)
//	net/http    handles requests that are not upgrades, one per connection: the page, and
//	            SSE streams until they move to a loop (edge); the internal listener (ops)
//	loop        Config.Loops of them, run by package poller: each owns connections, their
//	            subscriptions and their buffers, without a lock (loop)
//	watchdog    one: ticks the loops once a second, and detects stuck ones (loop)
//	encoders    a few, while there is work: encode very large publications (loop)
//	verifiers   a few: verify tokens that are too expensive for a loop; some of them wait
//	            for a key set to be fetched (access)
//	hooks       one for each call of a hook that runs (hook/queue)
//	house       one: checks memory use once a second, and returns memory to the system (ops)
//
// They communicate only by messages through a loop's inbox, and by the bytes of a channel's log
// below its atomic head.
//
// # The life of a broadcast
//
//  1. A client's bytes are ready: the loop reads once into its scratch buffer, and package frame
//     parses messages in place. Each message goes to the connection's protocol, which publishes
//     it. An HTTP publish begins in engine.Publisher.
//  2. The engine assigns the publication its offset while the publisher has the channel's
//     turn. The publication is encoded once in each wire format that has subscribers, without
//     the channel's lock, added to the channel's history and appended to each format's log. If
//     a log is full, or another publisher has the turn, the message is parked with its
//     connection, which is not read from until the channel wakes it.
//  3. The append notifies every loop with subscribers only once, no matter how many
//     appends happen before the loop handles it.
//  4. In its next turn the loop sweeps the group of subscribers: each is sent the bytes between
//     its cursor and the log's head, in one write, straight from the log.
//  5. A socket that refuses bytes blocks its connection. Sweeps skip the connection until
//     the poller reports that the socket is writable, and then everything it missed is sent
//     in one longer write. The rest of a frame that was cut is sent first, from the log.
//  6. At the end of a sweep the log frees everything below the lowest of the subscribers'
//     cursors, and wakes as many waiting publishers as there is room for. If a full log cannot
//     free anything, a subscriber whose socket still refuses bytes after a second is
//     disconnected with 1013, or skips to the newest publication.
//
// # Three walks
//
// System calls are made by package poller, in each of them.
//
// From accept to a live connection (edge, handshake, a protocol such as raw, loop, channel):
//
//  1. edge: Server.Serve accepts, receive counts the address, stage.enter takes a slot and
//     greeting.start looks for the request head. One that has to wait goes on in greeting.run.
//  2. handshake.Parse reads the head, and greeting.upgrade finds the route.
//  3. raw: the route's Parse reads the request into a Hello; its Later verifies a token.
//  4. edge: greeting.admit takes a place. Upgrader.Upgrade writes the 101 into the Arrival.
//  5. loop: Set.Arrive posts it, and Arrival.Deliver makes it a Conn that the poller watches.
//  6. raw: Protocol.Open calls Conn.Join, which calls channel's Space.Join for the first
//     subscriber on this loop. Conn.Flush sends the 101.
//
// From a client's frame to a subscriber's socket (loop, frame, raw, engine, channel, wire):
//
//  1. loop: Conn.Ready reads, and Conn.feed has frame.Whole find messages.
//  2. raw: Protocol.Message calls Conn.Publish, which calls engine.Publish.
//  3. channel: Channel.Publish takes the turn, has each format (wire) encode, and appends.
//  4. loop: Group.Notify posts the group to the subscribers' loop. Loop.turn calls Group.sweep,
//     which writes the log's bytes to each socket.
//
// A Centrifugo subscribe with recovery (loop, centrifugo, access, channel, presence, engine):
//
//  1. centrifugo: Protocol.Message decodes the commands, and clientConn.subscribe takes this one.
//  2. access: Policy.MaySubscribe, or a token that is verified, decides.
//  3. centrifugo: settleSubscription calls Loop.Group, and Group.Collect takes what the client
//     missed and its live cursor under one hold of the channel's lock.
//  4. centrifugo: answer queues the reply. Then begin calls Conn.Enter: the reply precedes the
//     first publication. Table.Add notes the presence, and announce publishes the join.
//
// # Glossary
//
//	turn          one run of a loop's deferred work: inbox, deadlines, sweeps, closing
//	connection    a client's WebSocket or SSE stream (conn)
//	channel       a named, ordered sequence of publications
//	publication   one message published to a channel
//	history       the newest publications of a channel, kept as they were published
//	epoch         the lifetime of a channel's numbering
//	offset        a publication's number within its epoch
//	gap           an entry of a log in place of publications that are missing
//	fence         such an entry in a format without gap records: subscribers stop there
//	position      a subscriber's epoch and offset in a channel
//	log           the encoded bytes of a channel's publications in one format
//	cursor        a subscriber's byte offset in a log, counted from the first byte ever appended
//	group         a loop's subscribers of one log
//	sweep         one pass over a group that sends each subscriber the bytes it lacks
//	blocked       state of a connection whose socket refused bytes
//	sealed        state of bytes that are encrypted and not yet accepted by the socket
//	drain         the closing of all connections, at a pace
//	seat          a connection's entry in the count for its client's address
//	parked        state of a connection with a message that waits: for room in a channel's
//	              log, the publisher's turn, an engine's answer or a token's verdict
//	publisher's turn  the right to publish to a channel, which one publisher has at a time
//	pressed       state of a group that must release the cursors that are holding up a log
//	protocol      what a connection speaks: raw, echo or Centrifugo's
//	identity      the client a connection belongs to, from its token or its protocol
//	session       the state of a connection that uses the Centrifugo protocol
//	namespace     the options of the channels whose names share a prefix before ':'
//	class         a number of channels that are counted together: those of a namespace
//	node          one process
//
// The package knows nothing about flags, files or signals: the packages of cmd do.
package gateway
