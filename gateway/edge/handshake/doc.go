// Package handshake parses and checks the head of a connection's first request, decides
// which web pages may connect (the Origin rule), and answers upgrades with ws.Upgrader of
// gobwas/ws.
//
// It is a package of its own because it must be tested apart from everything else, and
// neither neighbor allows that: gateway has sockets, deadlines and
// goroutines, so the parser could not be fuzzed in it byte for byte against
// net/http and against the upgrader; frame begins where the handshake ends and
// knows RFC 6455's frames but nothing of HTTP, whose rules, limits and attacks
// (smuggling, header bombs) have no place beside them.
//
// # Why a second parser before the upgrader
//
// ws.Upgrader is made for speed and trusts its input: it reads a line of any
// length and any number of lines, and answers 101 to requests with a body, with
// two keys, with a Host that appears twice, with bare line feeds and NUL bytes.
// Behind a proxy each of these is a way for two parsers to see two different
// requests. So [End] bounds the head while it arrives, [Parse] checks all of it,
// and only what both accept reaches the upgrader, which alone writes a 101.
//
// Two properties carry this and are fuzzed: what Parse accepts, net/http accepts
// too (never more permissive); what Parse accepts as an upgrade, ws.Upgrader
// accepts too (there is no second opinion).
//
// # The order of calls
//
//	n, reject := handshake.End(b, searched)  // after each read, until n > 0
//	b, n = b[handshake.EmptyLine(b):], n-handshake.EmptyLine(b)
//	req, reject := handshake.Parse(b[:n])
//	origins.Allow(req.Origin, req.HasOrigin, req.Host)
//	agreed, err := upgrader.Upgrade(b[:n], w)
//
// A request that is not an upgrade goes to net/http after Parse, together with its bytes.
//
// # Ownership
//
// Nothing here blocks, reads a clock or starts a goroutine. Functions keep no
// reference to the bytes they are given. [Origins] and [Upgrader] are set at
// construction and never change, so that any goroutine may use them.
//
// The package does not know sockets, deadlines, TLS, which paths exist, what a
// channel is for, or how many connections there are.
package handshake
