// Package chaos is the fault programs behind `sluice bench chaos`: each row starts
// gateways of its own as other processes, does something bad to them or to their
// clients, and has what came of it judged by ledgers. It is apart from package
// bench, which measures any server's speed and knows no faults; it shares bench's
// description of the machine and nothing with the gateway but the wire.
//
// # How a row is judged
//
// Publishers write down what the gateway took: channel, epoch, offset and a hash of the
// payload, from each receipt ([Order]). A client writes down what it got, as a
// list of events: joined, runs of offsets with a running hash, gap records, its end
// ([Event]). [Judge] is a pure function of both and of the gateway's counters. It
// decides:
//
//	C1  nothing is invented: each offset has the publisher's bytes, and nothing else comes
//	C2  offsets grow
//	C3  nothing comes twice
//	C4  no silent gap: what is missing lies behind a gap record, or the client's
//	    connection was ended and it has not come back
//	C5  a client that came back with its place got what follows it, or a gap record
//	C6  the counters agree with the ledgers, exactly
//
// # What exactly means in C6
//
//	published: receipts = sluice_publications_total{source="api"}.
//	received:  what all clients received = sluice_deliveries_total +
//	           sluice_recovered_publications_total. It holds for clients that read
//	           to the end: to a Close frame, or until all was there. A connection that
//	           was cut off (a reset, an end without Close) can have left bytes in the
//	           kernels, which nobody can count: with such connections what was received may be
//	           less, but not by more than what was published behind their last offsets.
//	dropped:   what was published after the places of all clients =
//	           sluice_deliveries_total + sluice_recovered_publications_total +
//	           sluice_dropped_publications_total, where every client stayed on its
//	           first connection to the end. When the gateway lets go of one that it cuts no
//	           client can see; with such clients the sum over all receipts of the
//	           subscribers that they name = sluice_deliveries_total +
//	           sluice_dropped_publications_total. A client that comes or goes in the very
//	           moment of a publication may be counted there or not, and one that is being skipped is not,
//	           so these sums may differ by one for each connection that began or ended
//	           while messages were published, and by what was skipped.
//	skipped:   what clients miss behind gap records in the middle of a
//	           connection = sluice_dropped_publications_total{reason="skip"}.
//
// # Goroutines
//
//	caller      runs the row
//	publisher   one for each channel: waits for each receipt, so its offsets are in order
//	client      one for each connection; its ledger is its own until it has ended
//	proxy       one that accepts, one for each direction of a connection (row 15)
//	watcher     one for each gateway: notices that it ended
//
// # A new row
//
// A row is one file with a function of a [*Run] and a call of register in an init.
// The function starts gateways (Run.Start), clients (Run.Join) and publishers
// (Run.Publish), and ends with Run.Settle and Run.Judge. What else it wants to see it says with Run.Check. What it
// needs of the machine and does not find makes it return skipped. Whether its long form's
// times and memory count Run.judgesSpeed tells.
//
// # Reading order
//
// ledger.go and judge.go (pure), then run.go, gateway.go, publisher.go, client.go,
// wire.go, proxy.go, and the rows. Where a scenario of package bench does what a row
// wants, the row starts a gateway for it and judges its figures (1, 2, 3, 19);
// row_programs.go runs tests that lie elsewhere in the sources.
//
// The package does not know the gateway's insides. It speaks format=json over plain
// WebSocket, or over TLS; it does not publish over WebSockets, and a publication whose
// fate it cannot know (no answer to its POST) ends the row.
package chaos
