// Command chaos is the table of faults. `go run ./bench/chaos --help` says how to run it; its
// subcommand hostile runs the attacks of package hostile against any server. Each row starts its own
// gateways as processes, injects a fault into them or their clients, and checks what every
// client received against what was published. It is separate from package bench, which
// measures any server's speed and injects no faults; it shares bench's description of the
// machine, and nothing with the gateway but the wire.
//
// # What a row checks
//
// Publishers record what the gateway accepted: channel, epoch, offset and a hash of the
// payload, from each receipt ([Order]). A client records what it received as a list of
// events: joined, runs of offsets with a running hash, gap records, its end ([Event]).
// [Judge] is a pure function of both and of the gateway's counters. It checks:
//
//	C1  nothing is invented: each offset has the publisher's bytes, and nothing else arrives
//	C2  offsets grow
//	C3  nothing arrives twice
//	C4  no silent gap: missing messages are announced by a gap record, or the client's
//	    connection was closed and the client has not reconnected
//	C5  a client that reconnected with its position got the messages after it, or a gap record
//	C6  the counters agree with the ledgers, exactly
//
// # What C6 compares
//
//	published: receipts = sluice_publications_total{source="api"}.
//	received:  messages that all clients received = sluice_deliveries_total +
//	           sluice_recovered_publications_total. It holds for clients that read
//	           to the end: to a Close frame, or until everything had arrived. A connection
//	           that was cut off (a reset, an end without Close) can have left bytes in
//	           kernel buffers, which cannot be counted: with such connections fewer may have
//	           been received, but by no more than were published after their last offsets.
//	dropped:   messages published after the positions of all clients =
//	           sluice_deliveries_total + sluice_recovered_publications_total +
//	           sluice_dropped_publications_total, if every client stayed on its
//	           first connection to the end. A client cannot see when the gateway drops a
//	           connection that it closes; with such clients the sum of the subscribers in
//	           all receipts = sluice_deliveries_total + sluice_dropped_publications_total.
//	           A client that connects or leaves at the moment of a publication may be counted
//	           there or not, and one that is being skipped is not, so these sums may differ
//	           by one for each connection that began or ended while messages were
//	           published, and by the skipped messages.
//	skipped:   messages that clients miss at gap records in the middle of a
//	           connection = sluice_dropped_publications_total{reason="skip"}.
//
// # Several gateways
//
// A [Cluster] is gateways with their NATS servers, as processes. Authors publish into one channel on all
// gateways ([Run.Write]), so that no one of them knows its order, and gateways are killed, so that it is
// unknown whether a publication without a receipt was published. A [witness] has what all clients have
// seen of a channel with history, and with the receipts that is the order which Judge compares with: each
// offset has one publication, each publication one offset, and those of an author with receipts grow.
// One with a receipt that no client has seen is lost.
//
// The order of a channel without history is each node's own, and receipts have no offset. There the
// numbers that authors give their publications are compared ([Numbers]): they grow, and one with a
// receipt may be missing only at a gap record or where the client was not connected. C6 is not decided:
// several processes have a part in the counters, and some were killed.
//
// # Goroutines
//
//	caller      runs the row
//	author      one for each gateway and channel: waits for each receipt, and goes on without it
//	publisher   one for each channel: waits for each receipt, so its offsets are in order
//	client      one for each connection; owns its ledger until it has ended
//	proxy       one that accepts, one for each direction of a connection (row 15)
//
// # A new row
//
// A row is one file with a function of a [*Run], and a line of the table in run.go. What rows share with
// other programs is package trial's: the command line, Run.Check, Run.Await, the report.
// The function starts gateways (Run.Start), clients (Run.Join) and publishers
// (Run.Publish), and ends with Run.Settle and Run.Judge. Of several gateways it populates a [Cluster]
// (Run.StartCluster, Cluster.populate), injects its fault, and waits after each until all are current
// (Cluster.AwaitCurrent); populated.finish judges. It returns [trial.Skipped] if the machine lacks a
// requirement. Run.judgesSpeed reports whether times and memory are judged.
//
// # Reading order
//
// ledger.go and judge.go (pure), then run.go, gateway.go, publisher.go, client.go,
// wire.go (how fast it reads), proxy.go, and the rows. Of several gateways: cluster.go, author.go,
// witness.go and numbers.go (pure), populated.go, island.go. Rows 1, 2, 3 and 19 start a gateway for a scenario of
// package bench or an attack of package hostile, and check its figures.
//
// The package does not know how the gateway works inside. It speaks format=json over
// WebSocket, plain or over TLS; row 24 has clients of package bench, too. It does not publish over
// WebSocket. With one publisher a publication whose outcome is unknown (no response to its POST) ends
// the row.
package main
