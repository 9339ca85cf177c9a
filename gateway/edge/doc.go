// Package edge takes connections from listeners to loops: TLS, the PROXY header, request heads,
// admission, and plain HTTP. [Server] is one edge; routes say what protocols serve.
//
// # Goroutines
//
// [Server.Serve] accepts, and handles a request head that has arrived with its connection
// (accept.go, upgrade.go). A connection that waits for its head, begins with TLS or a PROXY header
// (greet.go) or is refused has a goroutine, which ends when the connection is passed to a loop or
// closed. At most MaxHandshakes of them run at a time: the stage (stage.go). Until a loop owns a
// connection, it is a bare file descriptor where that is possible (link.go). Requests that are not
// upgrades go to net/http, one per connection (web.go), SSE streams until they move to a loop
// (stream.go).
//
// # Admission
//
// A connection's client is its peer, or the address that a listed proxy passes on (package peer).
// The number of connections and of new connections per second is limited for each address
// (package admit, admission.go); all clients together are limited by MaxConnections, a rate and the
// memory limit. A refused client gets its response once its request has arrived: an HTTP status
// or, after an upgrade, close code 1013.
//
// The slots for handshakes and for net/http are also shared fairly among addresses, as soon as the
// address is known (turns.go, web_places.go), so clients that do not finish their requests block
// only themselves. Health checks need no slot.
//
// # Panics
//
// A panic costs the connection that it happened for. One that may have left shared state half
// changed ends the process: the names of the functions on the stack decide (contain.go).
//
// The package knows no protocol, channel or token. Package handshake parses request heads, peer
// finds out who the client is, admit counts addresses, certificate loads certificates.
package edge
