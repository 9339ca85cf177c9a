package poller

// Faults are for tests: with the build tag faults, Inject puts a function before
// the calls named below, which may fail them, or make them itself on a socket that is
// none. Without the tag the hooks are constants, and the compiler leaves nothing of them.

// Call is a kind of system call that Inject can fail.
type Call int

const (
	CallRead     Call = iota // Read, ReadReady
	CallWrite                // Write
	CallAdd                  // Poller.Add
	CallMod                  // Poller.Mod
	CallDel                  // Poller.Del
	CallShutdown             // ShutdownWrite
	CallClose                // Close
)
