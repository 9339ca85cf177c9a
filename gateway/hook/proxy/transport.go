package proxy

import (
	"cmp"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// Transport is how endpoints are connected to that an operator has named.
type Transport struct {
	Timeout  time.Duration // of a connection, and of its TLS handshake
	TLS      *tls.Config
	InFlight int // how many calls there are at a time: so many idle connections are kept

	// Of tests.
	resolver *net.Resolver
	idle     time.Duration // 0: idleTimeout
}

// New returns an http.Transport that uses no proxy of the environment, and connects to no address at
// which clouds serve credentials.
func (t Transport) New() *http.Transport {
	// An idle dial or handshake goes on without the call that wanted it, so it has a bound too.
	dialer := &net.Dialer{Timeout: t.Timeout, Control: refuseMetadata, Resolver: t.resolver}
	return &http.Transport{
		Proxy:       nil, // not that of the environment
		DialContext: dialer.DialContext, TLSHandshakeTimeout: t.Timeout, TLSClientConfig: t.TLS,
		MaxIdleConnsPerHost: t.InFlight, IdleConnTimeout: cmp.Or(t.idle, idleTimeout),
		MaxResponseHeaderBytes: headerBytesMax, DisableCompression: true,
	}
}
