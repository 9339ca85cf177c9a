// Package visitors is the crowd that the gateway's demo page brings: up to 1,000 clients that
// read one channel, each with a ledger of what it has received. It runs in a process of its
// own, which the command sluice starts ([Run]), and connects over sockets as any client does.
//
// The process is driven by lines of JSON. On standard input it gets one [Request], and then any
// number of [Command]s; it ends when its input ends, so that it outlives neither the gateway nor
// the page. On standard output it writes what the page shows:
//
//	{"type":"connecting","connected":N,"of":N}  until all have connected once
//	{"type":"open","dots":"..."}                who is connected, whenever that changes
//	{"type":"flash","dots":"..."}               who has received something since the last such line
//	{"type":"ledger","received":N,"lost":N,"repeated":N,"p50":S,"p99":S}
//	                                            once a second and after a cut: messages since the start,
//	                                            and the latency in seconds of the last second with any
//	{"type":"back","cut":N,"after":S,"caught_up":N,"lost":N,"repeated":N}
//	                                            those who were cut off are back: what they had missed,
//	                                            have received, and did not receive or received twice
//	{"type":"end","reason":"..."}               the last line
//
// Dots are bits in base64: visitor i is bit i%8, from the lowest, of byte i/8. The page gets at
// most 20 lines a second of each of the first three types.
//
// # What is lost, and what is repeated
//
// Nothing is assumed. A visitor begins at the position that the gateway names, and each record
// has to follow the one before it: an offset that is not above the last one is a repeat; a record
// whose prev is above it, or a gap, is a loss. Offsets may have holes, so the number of messages lost is
// the number that any other visitor has received of that range, and at least one. A visitor that has
// not received within five seconds what others have received has lost it, too. Those who are cut off
// come back with their last position, as PROTOCOL.md asks of clients.
//
// Latency runs from the gateway's time in the record, which has milliseconds, to the read that
// returned it: it is up to a millisecond too long. What is caught up on after a cut does not count.
//
// # Inside
//
//	Run        reads commands and waits for the end
//	writer     writes what has changed, 20 times a second
//	visitor    one for each: dials, reads, and comes back; few dial at a time
//
// What they share is the [crowd], under one lock. The package does not know how the
// gateway works, and imports nothing of it.
package visitors
