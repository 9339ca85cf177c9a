package peer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// The sizes of headers. Version 1 is a line, version 2 a fixed part that says
// how much follows: addresses, and extensions, which are not looked at.
const (
	v1BytesMax  = 107
	v2Fixed     = 16
	v2FollowMax = 2048

	// ProxyHeaderBytesMax is the length of the longest header that is accepted.
	ProxyHeaderBytesMax = v2Fixed + v2FollowMax
)

// v1Signature is with the space, unlike the library's: the protocol demands it.
const v1Signature = "PROXY "

var (
	errNoHeader = errors.New("the connection does not begin with a PROXY header, " +
		"which is required for connections from this address")
	errV1Long = fmt.Errorf("a PROXY header of version 1 is longer than %d bytes", v1BytesMax)
	errV2Long = fmt.Errorf("a PROXY header of version 2 is longer than %d bytes: "+
		"make the proxy send fewer extensions", ProxyHeaderBytesMax)
	errDatagrams = errors.New("the PROXY header specifies a datagram transport, but this is a stream")
)

// ReadProxyHeader parses a PROXY protocol header, version 1 or 2, at the start of p, which
// holds all bytes received so far. If done is false, the header is incomplete: call again
// with more. Otherwise the first n bytes of p are the header, and src is the client's
// address; if src is not valid, the client is the peer itself (LOCAL, UNKNOWN, Unix
// sockets: a proxy's own check, or a client without an address). An error is final, and n
// is 0 then. p is not retained.
//
// See https://www.haproxy.org/download/3.4/doc/proxy-protocol.txt, section 2.
func ReadProxyHeader(p []byte) (src netip.AddrPort, n int, done bool, err error) {
	n, err = headerLen(p)
	if n == 0 {
		return src, 0, err != nil, err
	}
	// The library sees the header alone, and all of it in its first read: so it
	// buffers nothing of what follows and never waits.
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(p[:n]), n))
	if err != nil {
		return src, 0, true, fmt.Errorf("invalid PROXY header: %w", err)
	}
	if h.Command.IsLocal() {
		return src, n, true, nil
	}
	switch a := h.SourceAddr.(type) {
	case *net.TCPAddr:
		src = a.AddrPort()
		return netip.AddrPortFrom(src.Addr().Unmap(), src.Port()), n, true, nil
	case *net.UnixAddr:
		return src, n, true, nil
	}
	return src, 0, true, errDatagrams
}

// headerLen returns the length of the header that p begins with; 0 without an
// error if that cannot be told yet, or if p does not have all of it.
func headerLen(p []byte) (int, error) {
	switch {
	case begins(p, []byte(v1Signature)):
		end := bytes.IndexByte(p[:min(len(p), v1BytesMax)], '\n')
		if end < 0 && len(p) >= v1BytesMax {
			return 0, errV1Long
		}
		return end + 1, nil
	case begins(p, proxyproto.SIGV2):
		if len(p) < v2Fixed {
			return 0, nil
		}
		follows := int(binary.BigEndian.Uint16(p[v2Fixed-2:]))
		if follows > v2FollowMax {
			return 0, errV2Long
		}
		if len(p) < v2Fixed+follows {
			return 0, nil
		}
		return v2Fixed + follows, nil
	}
	return 0, errNoHeader
}

// begins reports whether p begins with signature, as far as p goes.
func begins(p, signature []byte) bool {
	n := min(len(p), len(signature))
	return bytes.Equal(p[:n], signature[:n])
}
