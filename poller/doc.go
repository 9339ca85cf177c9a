// Package poller reports when bare sockets are ready, and reads, writes and closes them. It
// is the only package of sluice that uses file descriptors, system calls and unsafe.
//
// Readiness comes from github.com/mailru/easygo/netpoll, through its exported
// raw-descriptor Epoll. That type runs one goroutine that waits and calls back, one
// descriptor at a time. This package makes that goroutine the caller's loop, and works
// around the flaws of easygo that DESIGN.md lists.
//
// # The loop
//
// A [Poller] has one goroutine. Every [Handler] and the wake function run on
// it, one after the other, so that what they share needs no lock. A handler
// must not block: while it runs, no other descriptor of that poller is served.
// Each time the loop has waited, the batch function runs before them, so that it can read a clock
// once for all of them.
// While nothing is ready the goroutine is parked in the Go runtime's own poller, by
// the gate (gate_linux.go): a loop that waits occupies no thread.
// [Poller.Add], [Poller.Mod] and [Poller.Del] may be called only from that goroutine,
// [Poller.Close] only from others, and [Poller.Wake] from any.
//
// # Spurious events
//
// Readiness is a hint. A handler may be called although a read or a write
// would not make progress; [Read] and [Write] then report zero bytes and no
// error. What is guaranteed is the other direction: a handler that has been
// added is not called after [Poller.Del] returned, nor with an event that
// [Poller.Mod] took out of its interest, not even for what the kernel had
// already reported, and an event for a descriptor that was closed is never taken
// for one of a later descriptor with the same number.
//
// # Draining
//
// Interest is level-triggered: as long as bytes can be read, [Readable] comes
// again at the next turn. So one read for each event is enough, and a busy
// peer cannot keep the loop from its other descriptors. [Hangup] is reported
// whether asked for or not, and again at every turn until [Poller.Del]: read
// what is left, then delete. Who reads needs no [PeerShut], because a peer's FIN
// shows itself as io.EOF behind the bytes that came before it. It is for those who do
// not read for a while, and ask for it until it has come.
//
// # Waking
//
// [Poller.Wake] makes the wake function run soon on the loop. Wakes coalesce:
// between the call and the start of the wake function any number of further
// wakes is one. The wake function never misses one: a wake that comes while
// it runs makes it run again. It runs once in a turn at most, before, between or after the
// ready descriptors: what it deletes or closes may have events in the same turn,
// which reach nobody. A wake of a loop that does not sleep costs no system call.
//
// # Closing
//
// [Poller.Del] comes before [Close]. [Poller.Close] waits for the loop to end,
// so it must not be called from it. A wait that fails for another reason than
// EINTR ends the loop or makes it deaf; this is reported once to the failure function,
// and the process should stop. A poller has five descriptors of its own.
//
// # Files
//
// [LockFile], [UnlockFile], [FreeBytes] and [FileIdentity] are the system calls that a data
// directory needs.
//
// # Other systems
//
// On anything but Linux the package compiles, and [New] and [Detach] return
// [ErrUnsupported].
//
// The package does not know what the bytes mean, who the peer is, or what time
// it is.
package poller
