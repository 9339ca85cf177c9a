// Package bench is the load tester behind `sluice bench`. It measures any
// WebSocket broadcast server, this one or another, from outside: over sockets
// and through /proc. It never imports package gateway, and reads frames with
// gobwas/ws itself, so that a fault of the gateway's own parser cannot hide.
//
// # What is measured
//
//   - [Fanout]: every message to all subscribers, at a rate, flat out, or at the
//     highest rate that is held. Lost, repeated and reordered messages are counted
//     exactly, for each connection.
//   - [Idle]: memory and CPU of connections at rest, after a message for each if asked.
//   - [Storm]: many clients that connect at once.
//   - [Recover]: clients that come back and ask for what they missed, each checked
//     offset by offset.
//   - [Reconnect]: all clients of Centrifugo's protocol come back at once, each for what
//     it missed.
//   - [Churn]: connections that come and go, and what the server keeps of them: its
//     descriptors, goroutines, epoll entries and memory before and after.
//   - [Floor]: what this machine's kernel takes when there is no server, so that
//     figures can be given as ratios. Absolute ones drift from machine to machine.
//
// # How
//
// The rate is an open loop: each message has a time at which it is due, whatever
// became of the one before, and latency runs from there to the read that brought
// the message (coordinated omission; Tene, "How NOT to Measure Latency"). The
// payload's stamp carries that time, the sequence number, and the run and phase
// it belongs to. A phase (warm-up, measurement, one try of a search) has numbers
// of its own; what comes late from another phase is counted as stale and never
// mixed in.
//
// A loss is a number that was published and had not come to a connection when the
// phase ended: when all was there, or after a pause of CatchUp without any
// delivery. What a connection missed that the server had ended is part of the
// losses, and given separately too. A message that comes after a higher number is
// reordered; one that had come before is repeated.
//
// The tester shares the machine with the server, so it must be cheap: a
// descriptor and a small record for each connection, one read into a shared
// scratch for each event, one look at the clock for each read, and about 20 ns
// for each message, because a header that lies on the wire as the last one did is
// not read again.
//
// # Protocols
//
// Raw is any server's: a WebSocket message is a payload, or an envelope that holds
// one. JSON and SSE are sluice's own and have offsets, which must grow by one for each
// connection: what is missing is a hole, what comes again a repeat. Both are counted
// beside the losses of the payloads' own numbers. No record is decoded and no event
// assembled: the bytes before the offset are compared with those of the last
// record, the stamp is looked for where the last one lay.
//
// Centrifugo's client protocol, in JSON and in Protobuf, has a session above the frames:
// a client connects with a token, subscribes, answers pings, and says where it stands
// when it comes back (session.go). Connecting ends with the replies. A plain publication
// is read where it lies, without being decoded (dialect.go); all else goes through package
// protocol. Its offsets are checked as those of JSON and SSE are, from the position in the
// reply to the subscription on, so that a first publication that is missing is a hole.
// Payloads are JSON objects. With many channels a stream of publications goes to each,
// and a connection must get its own channel's alone.
//
// Recover trusts neither offsets nor payloads alone. There is one publisher, so that
// its message n has the offset base+n or something is wrong; a join's first offset
// must be the one after the position that it asked with.
//
// # TLS
//
// Every scenario speaks it when the address begins with wss. A tls.Conn rests in its
// loop like a bare descriptor; secure.go says how, and why it has no goroutine. Each
// connection makes a handshake in full, storms too: so must clients that were
// never here, and those of a gateway that has restarted with new ticket keys. With
// Options.Resume all share one session, once the first few have brought it.
//
// # When a run is INVALID
//
// When more than 1 % of the sends were late: by more than 10 ms, or a fifth of the
// interval between messages if that is longer. Late is what the generator itself
// caused. The time for which the server keeps a send waiting does not count: it
// is told as push_back_max, and shows in the latency. Whether the receiving side was the bottleneck shows in
// generator_cpu_percent: near 100 for each loop, the latency is the tester's own.
//
// Recover measures nothing from when a message was due. Its run is INVALID when fewer
// than 99 % of the messages were published that its rate asks for.
//
// # Goroutines
//
//	caller        runs the scenario; reads the loops' accounts through loop.do
//	loop          one for each of Options.Loops, the goroutine of its poller:
//	              owns its connections and, during a phase, its tally
//	publisher     one for each stream while a phase publishes
//	reader        one for each publisher's own connection: discards and answers
//	dialers       at most Options.Dialing, while connecting
//	client        of Recover and Churn: one for each of Concurrency, owns its receiver
//	progress      one, only when there is a writer for it
//
// What crosses goroutines is a function in a loop's inbox, which the sender waits
// for, and the loop's two atomic counters.
//
// # Reading order
//
// stamp.go (what a payload says), conn.go (bytes to messages), record.go and
// events.go (the same with offsets), session.go, dialect.go and audience.go (Centrifugo's
// protocol), tally.go (messages to figures), loop.go and
// fleet.go (the connections), secure.go (the same over TLS), publish.go (the schedule), then the scenarios:
// fanout.go, findmax.go, idle.go, storm.go, recover.go with joiner.go, reconnect.go,
// churn.go with census.go, floor.go.
//
// The package does not know what the server is or how it works inside. It does not speak permessage-deflate, does not
// reconnect, does not check UTF-8, and does not look for a stamp beyond a
// message's first frame or its first 512 bytes. Of event streams it reads only
// those that run to the end of their connection, neither in chunks nor with a length.
package bench
