package bench

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"sluice/bench/clienttls"
	"sluice/poller"
)

// TLS goes through a wire. While a connection is made, the wire is the connection
// of package net, and tls.Conn waits in it as it likes to. In a loop it is a bare
// descriptor and never waits: the loop reads ciphertext into a scratch that all of
// its connections share, and tls.Conn takes it from there until it has had all of it
// and gets errLater. So a resting connection has no goroutine and no buffer but
// the one inside tls.Conn, and an event costs one read, as without TLS. A goroutine
// for each connection would have been shorter by some 40 lines, at a stack and a
// wake-up of the Go scheduler for each delivery on cores that the server shares.

// wire is what a tls.Conn reads from and writes to. Once it is bare, the connection
// inside is closed and only takes deadlines, which it refuses and tls.Conn ignores.
type wire struct {
	net.Conn

	// Owned by the goroutine that connects, then by the loop.
	fd    int    // -1: not yet bare
	come  []byte // ciphertext in the loop's scratch, which TLS has not taken
	ended error  // what comes behind it
}

// errLater tells tls.Conn that there is nothing to read now: temporary, so that it
// can be asked again.
var errLater net.Error = later{}

type later struct{}

func (later) Error() string   { return "nothing to read now" }
func (later) Timeout() bool   { return false }
func (later) Temporary() bool { return true }

func (w *wire) Read(p []byte) (int, error) {
	switch {
	case w.fd < 0:
		return w.Conn.Read(p)
	case len(w.come) > 0:
		n := copy(p, w.come)
		w.come = w.come[n:]
		return n, nil
	case w.ended != nil:
		return 0, w.ended
	}
	return 0, errLater
}

// Write fails when the socket is full: a record that is cut cannot be mended, nor
// can one be left out.
func (w *wire) Write(p []byte) (int, error) {
	if w.fd < 0 {
		return w.Conn.Write(p)
	}
	n, err := poller.Write(w.fd, p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// detach takes the descriptor out of c for a loop. secure is nil without TLS.
func detach(c net.Conn) (fd int, secure *tls.Conn, err error) {
	secure, ok := c.(*tls.Conn)
	if !ok {
		fd, err = poller.Detach(c)
		return fd, nil, err
	}
	w := secure.NetConn().(*wire)
	fd, err = poller.Detach(w.Conn)
	if err == nil {
		w.fd = fd
	}
	return fd, secure, err
}

// socket returns the TCP connection below c.
func socket(c net.Conn) *net.TCPConn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn().(*wire).Conn
	}
	return c.(*net.TCPConn)
}

// handshakes counts those of TLS.
type handshakes struct{ done, resumed atomic.Int64 }

// secured makes a connection one of TLS. c's deadline bounds it.
func (t target) secured(c net.Conn) (net.Conn, error) {
	s := tls.Client(&wire{Conn: c, fd: -1}, t.tls)
	if err := s.Handshake(); err != nil {
		return nil, explainTLS(err)
	}
	t.handshakes.done.Add(1)
	if s.ConnectionState().DidResume {
		t.handshakes.resumed.Add(1)
	}
	return s, nil
}

// setHandshakes tells of the handshakes of a run over TLS.
func (r *Result) setHandshakes(t target) {
	if t.url != nil && t.handshakes.done.Load() > 0 {
		r.Set("tls_handshakes", float64(t.handshakes.done.Load()))
		r.Set("tls_resumed", float64(t.handshakes.resumed.Load()))
	}
}

// explainTLS says what a failed handshake means.
func explainTLS(err error) error {
	told, _ := clienttls.Explain(err)
	switch {
	case told != nil:
		return told
	case errors.As(err, new(tls.RecordHeaderError)):
		return errors.New("the server does not speak TLS on this port: use a ws:// URL, or its TLS port (--url)")
	case errors.Is(err, io.EOF):
		return errors.New("the server closed the connection during the TLS handshake; its log may say why")
	}
	return fmt.Errorf("TLS handshake: %w", err)
}

// tlsConfig reads the files that the options name. The default is a handshake in full for
// each connection, as of clients that were never here: what a gateway that has
// restarted must do.
func (o *Options) tlsConfig(f *Faults, host string) *tls.Config {
	c, err := o.TLS.Config()
	if err != nil {
		f.Add("%v", err)
		return nil
	}
	c.ServerName = host
	if o.Resume {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return c
}
