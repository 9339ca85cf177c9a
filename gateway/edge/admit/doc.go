// Package admit decides whether a client's address may open one more connection.
//
// A [Table] counts the open connections of each address, how fast it opens them, and how
// fast all addresses do together. [Table.Enter] admits a connection and returns a [Seat],
// which [Table.Leave] gives back when the connection ends.
//
// # Units
//
// An address is an IPv4 address or the /64 of an IPv6 address, because a client with one
// IPv6 address usually has all of its /64. Rates are connections per second. Time is
// milliseconds of any clock; only differences count.
//
// # Refusals cost too
//
// Answering a refused client means reading its request and writing to it. So
// refusals have a bucket of their own beside each limit; when that is empty too,
// the [Verdict] says Drop: reset the connection, without a response.
//
// # Harm
//
// An address whose connections did harm ([Table.Blame]), three times with less than a
// minute between them, is refused for a minute. Not if most connections are its own: it is
// a proxy then. So an attacker who finds bytes that make a step panic cannot repeat
// them at will, and those behind a proxy do not pay for one of them.
//
// # Addresses without limits
//
// An address without limits, such as a loopback one, is counted all the same, so
// that [Table.Majority] knows whose most connections are.
//
// # Memory
//
// An entry is 48 bytes and a place in a map. One without connections whose
// buckets are full again says no more than no entry, so it is forgotten: each new address
// looks at a few such candidates and takes their place. A table that is full of entries
// that still matter admits new addresses without counting them: an attacker with that many
// addresses must not shut out everybody else, and the limits on all connections still
// hold.
//
// The package does not read clocks, does no I/O and starts no goroutines. It is
// a package of its own so that its decisions can be checked against a model,
// apart from sockets and time. It does not know who the client is behind a
// proxy (package peer does) and how a refusal looks on the wire (gateway does).
package admit
