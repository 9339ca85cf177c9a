// Package peer finds out who a client is when proxies stand before it.
//
// There are two ways in which a proxy tells: the field X-Forwarded-For
// ([Forwarded]) and the PROXY protocol's header before the first byte
// ([ReadProxyHeader]). Anybody can write either, so both are to be believed from
// listed peers alone ([ParseList], [Set]).
//
// The package reads bytes from outside; it is a package of its own so that it
// can be fuzzed apart from sockets, and because the address is needed before the
// request (by limits, logs, the PROXY header), where package handshake has no
// place. It does not know sockets and time: who calls waits for bytes, and
// gives up.
package peer
