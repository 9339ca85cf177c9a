package edge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sluice/gateway/edge/peer"
	"sluice/gateway/loop"
	"sluice/poller"
)

// What may come before a request: the header of a proxy that says which client the
// connection is from, and the TLS handshake.

// prepare reads what comes before the request, of which n bytes are in the buffer,
// and gives the number of bytes of the request that are.
func (g *greeting) prepare(n int) (int, error) {
	s, secured := g.conn.(*loop.Secure)
	if g.proxied != byHeader && !secured {
		return n, nil
	}
	g.until = time.Now().Add(g.door.deadline(n))
	g.conn.SetDeadline(g.until) // ignored: then reading fails
	var err error
	if g.proxied == byHeader {
		if n, err = g.readProxyHeader(n); err != nil {
			return n, err
		}
	}
	if !secured {
		return n, nil
	}
	s.Prepend(g.buf[:n])
	return 0, g.handshake(s)
}

// errProxyHeader: a peer that has to name its client does not.
var errProxyHeader = errors.New("no PROXY header")

// readProxyHeader reads the header of the PROXY protocol, and sets the client's address.
func (g *greeting) readProxyHeader(n int) (int, error) {
	c := loop.Bare(g.conn)
	for {
		src, used, done, err := peer.ReadProxyHeader(g.buf[:n])
		switch {
		case err != nil:
			return n, fmt.Errorf("%w: %w", errProxyHeader, err)
		case !done:
			m, err := g.readTurn(c, g.buf[n:])
			if n += m; err != nil {
				return n, err
			}
			continue
		}
		n = copy(g.buf, g.buf[used:n])
		g.introduced = true
		if !src.IsValid() {
			return n, nil // the proxy's own request, such as a check of its health
		}
		g.client, g.told = src, true
		if !g.enterAddress(time.Now()) {
			g.abandon()
			return n, errDropped
		}
		g.know()
		return n, nil
	}
}

// handshakeError is a TLS handshake that failed by what the client sent.
type handshakeError struct {
	err     error
	proxied bool // it began with a PROXY header
}

func (e *handshakeError) Error() string { return e.err.Error() }

// handshake does the TLS handshake. Its arithmetic costs more than anything else
// here, so only a few have it at a time, and the loops keep cores for themselves:
// the right to calculate is given back while the client is waited for.
func (g *greeting) handshake(s *loop.Secure) error {
	server := g.door.server
	if err := g.begin(); err != nil {
		return err
	}
	g.calculate(true)
	loop.PlantGreeting("calculate")
	err := s.Handshake()
	g.calculate(false)
	g.finish()
	if err == nil {
		server.stats.secured(s.ConnectionState().DidResume)
		return nil
	}
	var timeout net.Error
	if errors.Is(err, errEvicted) || errors.Is(err, io.EOF) || errors.As(err, &timeout) && timeout.Timeout() || poller.IsSocketError(err) {
		return err
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && string(record.RecordHeader[:4]) == "GET " {
		record.Conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n" + // ignored: the client may be gone
			"This port speaks TLS: begin the URL with https:// or wss://.\n"))
	}
	begin := string(record.RecordHeader[:])
	return &handshakeError{err, g.proxied != byHeader && (begin == "PROXY" || begin == "\r\n\r\n\x00")}
}

// calculate takes the right to calculate, or gives it back.
func (g *greeting) calculate(take bool) {
	crypto := g.door.server.crypto
	if take {
		crypto <- struct{}{}
	} else {
		<-crypto
	}
	g.calculates = take
}

// ReadSecured reads for a TLS handshake that is under way.
func (g *greeting) ReadSecured(c net.Conn, p []byte) (int, error) {
	if n, err := readReady(c, p); n > 0 || err != nil {
		return n, err
	}
	g.calculate(false)
	n, err := g.readTurn(c, p)
	g.calculate(true)
	return n, err
}

// WriteSecured writes for a TLS handshake that is under way: not at the price of others'
// handshakes, should the client not read.
func (g *greeting) WriteSecured(c net.Conn, p []byte) (int, error) {
	g.heard.Store(true)
	g.calculate(false)
	n, err := c.Write(p)
	g.calculate(true)
	return n, err
}

// readTurn reads once. While it waits its place can be given to another.
func (g *greeting) readTurn(c net.Conn, p []byte) (int, error) {
	if !g.wait() {
		return 0, errEvicted
	}
	n, err := c.Read(p)
	if !g.hurry() {
		return n, errEvicted
	}
	return n, err
}
