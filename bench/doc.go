// Package bench is the load tester behind `sluice bench`. It measures a WebSocket
// broadcast server, sluice or another, from outside: over sockets and through /proc.
//
// # Scenarios
//
// Each scenario is a function that takes a context and its options, and returns a
// [Result]:
//
//   - [Fanout]: every message to all subscribers, at a rate, as fast as possible, or at the
//     highest rate that the server can sustain. Lost, repeated and reordered messages are counted
//     exactly, on each connection.
//   - [Idle]: memory and CPU of idle connections.
//   - [Storm]: many clients that connect at once.
//   - [Hooks]: an application that decides about clients, hangs or is away.
//   - [Recover]: clients that rejoin and recover missed messages, checked offset by offset.
//   - [Reconnect]: all clients of the Centrifugo protocol reconnect at once and recover.
//   - [Drain]: a node stops; how evenly it closes its connections, and whether all clients come back elsewhere with
//     everything.
//   - [Upgrade]: a gateway that is replaced by new processes under load; how long nobody is served, and whether clients lose
//     anything.
//   - [Churn]: connections that open and close, and leaks in the server: file descriptors,
//     goroutines, epoll entries, memory.
//   - [Floor]: the cost of the same system calls without a server, to express figures as
//     ratios. Absolute figures differ from machine to machine.
//
// Package hostile adds attacks: malformed input, with every response checked. A [Crowd] is clients that
// come back by themselves and keep a ledger, for programs that kill what they are connected to (bench/cluster,
// bench/chaos).
//
// A minimal run:
//
//	result, err := bench.Fanout(ctx, bench.FanoutOptions{
//		Options:     bench.Options{URL: "ws://127.0.0.1:8000", PID: pid},
//		Subscribers: 10_000,
//		Rate:        100,
//	})
//	if result != nil {
//		result.WriteTable(os.Stdout)
//	}
//
// Each figure has a name, which [Result.Metrics] and [ParseFailIf] use; [MetricNames] lists
// the names.
//
// # How latency and loss are measured
//
// The rate is an open loop: each message is due at a fixed time, however long the previous
// one took. Latency runs from that time to the read that returned the message, so that a
// server that stalls cannot hide it by slowing down the tester (coordinated omission; Tene,
// "How NOT to Measure Latency"). The payload begins with a stamp of that time, the sequence
// number, and the run and phase. Each phase (warm-up, measurement, one try of a search) has
// its own numbers; a message that arrives in a later phase is counted as stale and never
// mixed in.
//
// A message is lost on a connection if it was published and had not arrived there when the
// phase ended. A phase ends when everything has arrived, or after CatchUp without any delivery. Losses on
// connections that the server closed are included, and also reported separately. A message
// that arrives after one with a higher number is reordered; one that had arrived before is
// repeated.
//
// # When a run is INVALID
//
// A run is INVALID if more than 1 % of its messages were sent late: by more than 10 ms, or
// by more than a fifth of the interval between messages if that is longer. Only delays that
// the tester itself caused count. The time for which the server keeps a send waiting does not
// count: it is reported as push_back_max, and is part of the latency. generator_cpu_percent shows
// whether the receiving side was the bottleneck: near 100 for each loop, the latency is the
// tester's own.
//
// Recover does not measure from the time at which messages were due. Its run is INVALID if less than 99 %
// of the rate was published.
//
// # Protocols
//
// [Raw] works with any server: a WebSocket message is a payload, or an envelope with the
// payload in its first 512 bytes. [JSON] and [SSE] are sluice's own and have offsets, which must grow by one on each
// connection: a missing offset is a hole, and an offset that arrives again is a repeat. Both are counted
// in addition to losses, which are found by the numbers in the payloads. No record is decoded
// and no event assembled: the bytes before the offset are compared with those of the last
// record, and the stamp is looked for where the last one was.
//
// The Centrifugo protocol, in JSON ([Centrifugo]) and in Protobuf ([CentrifugoProtobuf]), has a
// session above the frames: a client connects with a token, subscribes, responds to pings, and
// sends its position when it reconnects (session.go). A client counts as connected once the
// replies have arrived. A plain publication is read without decoding it (dialect.go);
// everything else goes through package protocol. Offsets are checked from the position in the
// reply to the subscription on, so that a missing first publication is a hole. Payloads are
// JSON objects. With many channels, each has its own sequence of messages, and a connection
// must receive only those of its own channel.
//
// Recover trusts neither offsets nor payloads alone. It has one publisher, so that message n
// must have the offset base+n, and the first offset of a join must be the one after the
// position that the client sent.
//
// # TLS
//
// Every scenario speaks TLS when the address begins with wss. By default each connection
// makes a full handshake, in storms too: that is what new clients do, and all clients of a
// server that has restarted with new ticket keys. With Options.Resume all connections share
// one session, once the first few have made a full handshake. A tls.Conn needs no goroutine
// here; secure.go says how.
//
// # What it does not do
//
// The package does not know how the server works inside, and never imports package gateway:
// it reads frames with gobwas/ws, so that a bug in the gateway's parser cannot hide. It
// does not speak permessage-deflate, does not reconnect, and does not check UTF-8. It does
// not look for a stamp beyond a message's first frame or first 512 bytes. SSE streams that
// are chunked or have a Content-Length are not supported.
//
// # Inside
//
// The tester shares the machine with the server, so it must be cheap: a file descriptor and
// a small record per connection, one read into a shared buffer per event, one look at the
// clock per read, and about 20 ns per message, because a frame header that
// is the same as the last one is not parsed again.
//
//	caller        runs the scenario; reads the loops' accounts through loop.do
//	loop          one for each of Options.Loops, the goroutine of its poller:
//	              owns its connections and, during a phase, its tally
//	publisher     one for each stream while a phase publishes
//	reader        one for each publisher's own connection: discards and replies
//	dialers       at most Options.Dialing, while connecting
//	client        of Recover and Churn: one for each of Concurrency, owns its receiver
//	progress      one, only when there is a writer for it
//	crowd         one decides who comes back when, Dialing goroutines connect them,
//	              and one has publishers send that are due
//
// Only two things cross goroutines: functions in a loop's inbox, for which the sender waits,
// and the loop's two atomic counters.
//
// Read stamp.go first (what a payload says), then conn.go (bytes to messages), record.go and
// events.go (the same with offsets), session.go, dialect.go and audience.go (Centrifugo's
// protocol), tally.go (messages to figures), loop.go and fleet.go (the connections),
// secure.go (the same over TLS), publish.go (the schedule), run.go (what all scenarios do), and
// then the scenarios: fanout.go, findmax.go, idle.go, storm.go, hooks.go with hooks_backend.go, recover.go with joiner.go, reconnect.go, drain.go, upgrade.go
// with lineage.go, prober.go, parked.go and upgrade_secure.go, churn.go with census.go, floor.go. crowd.go, with crowd_ledger.go and crowd_author.go, is no scenario but clients for others. flags.go has the flags that front-ends share.
package bench
