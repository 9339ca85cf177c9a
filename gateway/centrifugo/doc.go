// Package centrifugo is Centrifugo's client protocol, bidirectional and unidirectional, in JSON
// and Protobuf. It uses the types and codecs of github.com/centrifugal/protocol, whose
// client.proto defines the protocol. sluice is not affiliated with Centrifugo.
//
// # Connections
//
// [Protocol] is the loop's protocol; one value serves all connections. What it keeps of one of
// them is a session. The methods run on the connection's loop, and the package starts no
// goroutine.
//
//   - session_route.go reads requests, session_protocol.go has the protocol's calls,
//   - session_command.go handles commands,
//   - session_wait.go has what commands wait for,
//   - session_subscribe.go handles subscriptions from beginning to end,
//   - session_look.go serves presence and history to clients,
//   - session_act.go carries out what the server API asks,
//   - session_announce.go sends joins and leaves,
//   - session_time.go handles expiry.
//
// A command that has to wait, for a token's verdict, an engine or room in a channel, keeps what it
// has decoded, and the commands behind it wait too. A subscription starts in three steps. First, the missed publications and the cursor
// where live delivery continues are determined together, under a single acquisition of the
// channel's lock. Then the reply is queued, and only then does the subscription start, so the
// reply always precedes the first publication.
//
// # Two ways out
//
// What one client is sent (a reply, a push, a ping) is a [protocol.Reply] or a
// [protocol.Push], and the protocol's own encoders write it: [AppendReply],
// [AppendPush], [Format.AppendPing]. What all subscribers of a channel are sent goes into
// the channel's log through [Format], once for each wire format in use; that is
// the hot path, and its encoder here allocates nothing. Its bytes are those of the
// official encoder, but for <, > and & in strings, which need no escapes in JSON.
//
// # Payloads
//
// A payload is text or binary, and the same publication reaches clients of all
// protocols. What is found in the protocol's fields of type bytes ("data"):
//
//	payload             JSON clients              Protobuf clients
//	text, JSON          the text                  its bytes
//	text, not JSON      a JSON string of it       its bytes
//	text, empty         ""                        no bytes
//	binary              {"base64":"..."}          its bytes
//	binary, empty       {"base64":""}             no bytes
//
// Text is JSON when it is one value of RFC 8259 that nests no deeper than 500
// levels and has no number with more than 4,300 digits in a row. Line feeds and
// carriage returns between its tokens are taken out: a line feed separates the
// messages of a frame, and both end a line of an event stream. The conn_info and
// chan_info of a client's info follow the same table; they are text where they are
// UTF-8.
//
// Why so strict: a client library gives up a connection when one frame does not parse, so a
// client that may publish to a channel could throw out all of its subscribers.
//
// # What is refused
//
// [Next] accepts what the official decoders accept, with less tolerance: nothing may
// follow a command but its separator, JSON is checked as a whole before it is
// decoded and is within the bounds of a payload, the filters of Protobuf nest no
// deeper than 32 levels, and what names a channel or a method is UTF-8.
//
// The other files parse commands and build frames over bytes: they are fuzzed and compared with
// the official package away from sockets, and know no connection, clock, permission or history.
//
// The package does not know listeners, other protocols or the server API's HTTP.
package centrifugo
