// Package handover is the protocol by which a running process, the old one, hands its listeners, its
// connections and what it knows over to another one, the new one, that it has started: a new version
// takes over without a client noticing.
//
// # The sequence
//
//  1. The old process executes the new one, with one end of a socket pair. The new one reads its
//     configuration, builds everything that it needs to serve, and says hello.
//  2. It is welcomed, and receives the listeners. It does not accept.
//  3. The old process, which serves all the time, passes the descriptors of its connections, a few in
//     each turn of a loop, and copies what its channels keep, in pieces.
//  4. It freezes: nobody serves now. It passes the rest, and a record of every connection.
//  5. The new process builds all of its connections from that, and says that it is ready.
//  6. The old one commits. From then on it leaves the connections alone, unless it knows that the new
//     process is dead and has not started.
//  7. The new one says that it has started, and serves.
//  8. The old one hands over those that were in their handshakes, ends what could not travel, and says
//     goodbye.
//
// # Why nothing is lost
//
// Both processes have each connection; the one that serves is the one that reads and writes. The old one
// closes nothing before it knows that the new one has started, and goes on, if that does not happen, only
// when the new one is certainly dead. The new one reads and writes nothing before it has said that it has
// started. The last message before that is sent by a frozen process, and the new one lives only as long as
// the old one has not gone on; so if the old one ends after it, its state is exact, and the new one serves. That
// leaves two cases in which connections are lost: the old process dies before it has frozen, and the new one
// after it has started. Both are the crash of a server. In the first case the new process has the listeners, and
// serves new clients.
//
// # Messages
//
// They travel over a pair of SOCK_SEQPACKET sockets (unix(7)), which keeps them apart, and descriptors with the
// message that names them. What is large lies in a memory file, sealed and with a checksum, whose descriptor is
// sent.
//
// The package does not know what it hands over: that is the business of [Old] and [New].
package handover
