// Package takeover hands a gateway's listeners, channels and connections over to another process, and takes them:
// what package handover does not know of a gateway. [Old] is the part of the process that has them, [New] that of
// the one that takes them.
//
// It is a package of its own because it knows the parts of a server, of which none knows it, and because package
// gateway only wires.
//
// # What stops when
//
// In the freeze of package handover, in this order: requests for the API wait (ops.Relay), goroutines that publish
// wait (engine.Publisher), handshakes wait (edge), and the loops stop. If the new process does not take over, they go
// on in the same order. If it does, the loops close what cannot travel, requests are relayed to the new process, and
// handshakes move to it.
package takeover
