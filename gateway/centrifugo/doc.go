// Package centrifugo implements the wire format of Centrifugo's client protocol, JSON and
// Protobuf, over bytes: it parses the commands of clients and builds the frames of the
// server. It uses the types and codecs of github.com/centrifugal/protocol, whose
// client.proto defines the protocol. sluice is not affiliated with Centrifugo.
//
// # Two ways out
//
// What one client is sent (a reply, a push, a ping) is a [protocol.Reply] or a
// [protocol.Push], and the protocol's own encoders write it: [AppendReply],
// [AppendPush], [AppendPing]. What all subscribers of a channel are sent goes into
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
// The package is apart from package gateway so that it can be fuzzed and compared
// with the official one away from sockets. It does no I/O and knows no goroutine,
// clock or connection, no tokens and permissions, and no history.
package centrifugo
