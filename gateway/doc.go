// Package gateway holds very many WebSocket connections and event streams in
// little memory and sends what is published into a channel to everyone who is subscribed to it.
//
// A program embeds it with [New], [Server.Serve], [Server.ServeTLS], [Server.Publish] and
// [Server.Shutdown]; Config.OnMessage sees what clients send. cmd/sluice is such a
// program.
//
// # Goroutines
//
//	acceptor    one for each Serve: accepts, and deals with a request head that
//	            is there at once (accept.go, upgrade.go); up to its loop such a
//	            connection is a bare descriptor (link.go)
//	greeting    one for each connection whose head is not there yet, that begins
//	            with TLS or a proxy's header (greet.go), or that is refused; at most
//	            MaxHandshakes (stage.go)
//	net/http    whatever is no upgrade, one request a connection (web.go): the
//	            page, and event streams until they go to a loop (stream.go);
//	            and the internal listener (internal.go)
//	loop        one for each of Loops, the poller's own: owns connections, their
//	            subscriptions and their buffers, without a lock (loop.go)
//	watchdog    one: ticks the loops once a second, and sees which is stuck (watchdog.go)
//	house       one: looks at the memory once a second, and gives some back (server.go)
//	judges      a few: verify the tokens that are too dear for a loop, and for a
//	            handshake; and some that
//	            wait for those whose key set has to be fetched (session.go)
//	encoders    a few, while there is work: encode publications that may become larger than
//	            a megabyte (encoding.go)
//
// What crosses between them is a message through a loop's inbox (inbox.go), or
// bytes of a channel's log below its atomic head. Nothing else does.
//
// # The life of a broadcast
//
//  1. A client's bytes are ready: conn.Ready reads once into the loop's scratch,
//     package frame takes messages out of it in place (conn_read.go), and the
//     raw protocol publishes each (raw.go). An HTTP publish begins here (publish.go).
//  2. The engine gives the publication its offset in the publisher's turn: it is encoded
//     once in each wire format that has subscribers (format.go), without the channel's
//     lock, kept for the channel's history and appended to each format's log (package
//     channel). A full log refuses, and so does a turn that another publisher has: the
//     message is parked with its connection, which is not read until the channel calls
//     (conn_publish.go).
//  3. The append notifies every loop with subscribers, once however often it
//     happens before the loop gets to it (group.Notify).
//  4. In its next turn the loop sweeps the group of subscribers (group.go):
//     each is sent what lies between its position and the log's head, in one
//     write, straight from the log. After so many writes the sweep pauses for events.
//  5. A socket that refuses bytes blocks its connection: sweeps pass it by until
//     the poller says that it is writable; then it gets all it missed in one
//     longer write. Where the socket took a part of a frame, the rest comes first, from
//     the log. Bytes of its own (a pong) and the log's go out together, through the
//     loop's cork (conn_write.go).
//  6. At the end of a sweep the group publishes the position below which all
//     its subscribers are served; the log frees what lies below the lowest of these, and
//     as many publishers that wait are called as there is room for. Where a full log is held back, a subscriber
//     whose socket still refuses after a second (pressed.go) is closed with 1013, or goes on with the newest (slow.go).
//
// # Who may come in
//
// Whom a connection is from is its peer, or whom a listed proxy names (package peer).
// That address has a bounded number of connections and of new ones a second (package
// admit, admission.go); in all there are MaxConnections, AcceptRate and the memory
// (memory.go). A refused client is told when its request is there: by a status, or
// inside by 1013.
//
// Places of the handshake and of net/http are shared out by address as well, as soon as it
// is known (turns.go, web_places.go), so that those who do not finish what they began keep
// out themselves and nobody else. Questions for health have their answer without a place
// (health.go).
//
// # TLS
//
// The handshake runs in the stage, a few at a time. Then the tls.Conn stays with its
// connection and its net.Conn is swapped for the bare descriptor (secure.go): it reads
// what is there, and what it writes is collected and sent by the loop. A connection over
// TLS rests without a goroutine, like any other.
//
// # Coming back
//
// A subscriber that asks for what it missed (since, history, Last-Event-ID) is sent
// that from the channel's history first, a piece at a time (catchup.go). With the
// last piece it takes its position in the log, under one hold of the channel's
// lock; from there on it is a subscriber like any other.
//
// # Clients with many channels
//
// The Centrifugo protocol is Centrifugo's; package centrifugo has its bytes, and session.go what a
// connection keeps of it. What it does stands in session_command.go, a subscription's life in
// session_subscribe.go, presence and history as a client sees them in session_look.go, joins and
// leaves in session_announce.go, and pings and expiry in session_time.go.
// A command that has to wait for a token's verdict is put off with everything behind it, and
// done again from its beginning; a publication that waits for room is kept decoded. A subscription is settled first:
// what was missed, and the position where live delivery goes on, under one hold of
// the channel's lock; its reply is queued; then it begins. So a reply precedes its first publication.
//
// What clients may do is the same for every protocol and path (access.go): a channel's
// options come from package namespace, who a client is from package auth. What the server's
// HTTP API (package api) asks for goes to every loop as a message (node.go); a loop knows its connections
// of a user. Who is subscribed stands in one table beside the loops (package presence).
//
// # Glossary
//
//	loop          an event loop: a goroutine with the connections it owns
//	turn          one run of what a loop has put off: inbox, deadlines, sweeps, closing
//	connection    a client's WebSocket or event stream (conn)
//	channel       a named order of publications
//	publication   one message published into a channel
//	history       the newest publications of a channel, kept as they were published
//	place         where a subscriber stands in a channel's order: epoch and offset
//	log           the wire-ready bytes of a channel's publications in one format
//	position      where a subscriber stands in a log, in bytes ever appended
//	group         a loop's subscribers of one log
//	sweep         one pass over a group, sending to each what is due
//	blocked       of a connection: its socket refused bytes
//	sealed        of bytes: encrypted, and not yet taken by the socket
//	seat          of a connection: counted for its client's address
//	parked        of a message: it waits for room in its channel's log, or for the turn
//	turn (publisher's) the right to publish into a channel, which one publisher has at a time
//	pressed       of a group: told to let go of positions that hold a log back
//	session       what a connection has that speaks the client protocol, or came with a token
//	namespace     what holds for channels whose names begin alike, up to the ':'
//	epoch, offset the life of a channel's order, and the place of a publication in it
//	engine        where publications get their order and their history
//	node          one process
//
// The package does not know flags, files and signals (cmd/sluice does), system
// calls (poller does), or how bytes become frames (frame does).
package gateway
