// Package peer finds a client's address when it connects through proxies.
//
// A proxy can pass the address on in two ways: in the header field X-Forwarded-For
// ([Forwarded]), or in a PROXY protocol header before the first byte ([ReadProxyHeader]).
// Anyone can send either, so both must be trusted only from listed peers ([Set]).
//
// The package reads bytes from outside; it is a package of its own so that it
// can be fuzzed apart from sockets, and because the address is needed before the
// request (by limits, logs, the PROXY header), where package handshake has no
// place. It does not know sockets and time: the caller waits for bytes, and
// gives up.
package peer
