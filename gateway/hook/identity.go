package hook

import (
	"crypto/x509"
	"iter"
	"net/netip"
	"strings"
)

// Identity is who a client is. The requests of one connection share it.
type Identity struct {
	ID        string // a UUID
	Transport string // as Centrifugo names it, such as "websocket" or "uni_sse"; raw clients have these too
	Protocol  string // "json" or "protobuf"
	// Encoding is what the client's payloads are: "json", or "binary" for any bytes. Over HTTP
	// a backend is sent that of the endpoint's configuration instead.
	Encoding string
	User     string // "" before it is known, and for an anonymous client
	Meta     []byte // JSON that the connect hook or a token has attached, which the client never sees; nil for none
	Info     []byte // JSON that the connect hook or a token has attached, which others may see; nil for none

	// Of the request that opened the connection. They stay the same while it lasts.
	Headers  Header // the ones that the hooks want
	Emulated Header // what the client has sent as "headers" in its connect command: it can be anything
	Peer     netip.AddrPort
	TLS      *TLS // nil without TLS
}

// TLS is what a client's TLS handshake has settled.
type TLS struct {
	Version, CipherSuite uint16 // as in package crypto/tls
	ServerName           string
	Certificates         []*x509.Certificate // of the client, verified, its own one first; nil for none
}

// Header holds header fields, in the order in which they came. A list takes less memory than an
// http.Header, and there is one for each connection.
type Header []Field

// Field is a header field.
type Field struct{ Name, Value string }

// Get returns the first value of a field, "" for none. Names are compared without case.
func (h Header) Get(name string) string {
	for v := range h.Values(name) {
		return v
	}
	return ""
}

// Values returns all values of a field.
func (h Header) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, f := range h {
			if strings.EqualFold(f.Name, name) && !yield(f.Value) {
				return
			}
		}
	}
}
