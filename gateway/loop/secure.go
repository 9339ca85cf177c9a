package loop

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"sluice/poller"
)

// TLS is crypto/tls over a bare descriptor. A tls.Conn keeps the net.Conn that it
// was made with, so that one is a wire: while the connection is in its handshake
// or with net/http the wire leads to the real net.Conn; from then on it reads the
// descriptor without waiting, and collects what is to be written. A broadcast is
// encrypted for each connection from the log's bytes.
//
// What the socket does not take of encrypted bytes is kept, at most a record and a
// few bytes: a tls.Conn must never see a short write. From the log's side those
// bytes are gone; the connection is blocked until they are out.

// recordBytes is the most of plain text that one record holds (RFC 8446 section
// 5.1), and so the most that is encrypted before it is seen whether the socket
// takes it.
const recordBytes = 16 << 10

// Secure is the TLS side of a connection. It is a net.Conn as long as its wire leads
// to one; afterwards it belongs to the connection's loop.
type Secure struct {
	*tls.Conn
	wire tlsWire
}

// tlsWire is what a tls.Conn reads from and writes to.
type tlsWire struct {
	// Until the connection is detached.
	conn  net.Conn
	early []byte           // bytes that were read before TLS began
	head  [recordHead]byte // of the record that is being read ...
	have  int              // ... of which so many bytes have come
	pacer Pacer            // while the TLS handshake runs, else nil

	// Owned by the loop, once detached.
	owner *Conn
	fd    int
	rest  []byte // encrypted, not yet taken by the socket
	limit int    // bytes that may still be read in this turn
	over  int    // bytes that were read and have not become messages, less what records may cost
	left  int    // of the record that is being read, its header included; 0 between two
	begun uint32 // loop time when that record began
	empty bool   // the descriptor had nothing more
	// unread: reading ended before ErrNothing came, so that whole records may lie in
	// the tls.Conn of which the descriptor tells nothing.
	unread bool
	mute   bool // the socket takes nothing any more: what is written is dropped
	failed bool // the peer broke TLS: nothing sensible can be read any more
}

// Pacer reads and writes for a TLS handshake that is under way, which may have to wait meanwhile.
type Pacer interface {
	ReadSecured(c net.Conn, p []byte) (int, error)
	WriteSecured(c net.Conn, p []byte) (int, error)
}

// NewSecure makes the TLS side of a connection whose TLS handshake is still to come.
func NewSecure(p Pacer, c net.Conn, cfg *tls.Config) *Secure {
	s := &Secure{wire: tlsWire{conn: c, pacer: p, fd: -1}}
	s.Conn = tls.Server(&s.wire, cfg)
	return s
}

// Prepend adds bytes that were read before TLS began: they are read first.
func (s *Secure) Prepend(p []byte) { s.wire.early = append(s.wire.early, p...) }

// Handshake runs the TLS handshake.
func (s *Secure) Handshake() error {
	err := s.Conn.Handshake()
	s.wire.pacer = nil
	return err
}

// errNothing is what a wire answers when there is nothing to read. It must be a
// temporary net.Error: crypto/tls takes every other for the connection's end.
var errNothing net.Error = nothingError{}

type nothingError struct{}

func (nothingError) Error() string   { return "gateway: nothing to read" }
func (nothingError) Timeout() bool   { return false }
func (nothingError) Temporary() bool { return true }

// Read implements net.Conn.
func (w *tlsWire) Read(p []byte) (int, error) {
	n, err := w.read(p)
	w.follow(p[:n])
	return n, err
}

func (w *tlsWire) read(p []byte) (int, error) {
	switch {
	case len(w.early) > 0:
		n := copy(p, w.early)
		if w.early = w.early[n:]; len(w.early) == 0 {
			w.early = nil
		}
		return n, nil
	case w.conn != nil && w.pacer != nil:
		return w.pacer.ReadSecured(w.conn, p)
	case w.conn != nil:
		return w.conn.Read(p)
	case w.limit <= 0 || w.over > overMost:
		return 0, errNothing
	}
	n, err := poller.Read(w.fd, p)
	if n == 0 && err == nil {
		w.limit, w.empty = 0, true
		return 0, errNothing
	}
	w.limit -= n
	w.over += n
	return n, err
}

// overMost bounds the bytes that TLS may keep of a client: a record, what crypto/tls has
// read ahead, and what post-handshake messages there may be. overRecord is what a record
// may cost beside its content.
const (
	overMost   = 64 << 10
	overRecord = 64
)

// recordHead is the size of a record's header (RFC 8446 section 5.1).
const recordHead = 5

// follow keeps track of where records end, for the time that one may take.
func (w *tlsWire) follow(p []byte) {
	for len(p) > 0 {
		if w.left == 0 {
			if w.have, w.left = 0, recordHead; w.owner != nil {
				w.begun = w.owner.loop.now
			}
		}
		if w.have < recordHead {
			n := copy(w.head[w.have:], p)
			w.have, w.left, p = w.have+n, w.left-n, p[n:]
			if w.have == recordHead {
				w.left = int(w.head[3])<<8 | int(w.head[4])
			}
			continue
		}
		n := min(w.left, len(p))
		w.left, p = w.left-n, p[n:]
	}
}

// Write implements net.Conn.
func (w *tlsWire) Write(p []byte) (int, error) {
	switch {
	case w.conn != nil && w.pacer != nil:
		return w.pacer.WriteSecured(w.conn, p)
	case w.conn != nil:
		return w.conn.Write(p)
	case w.mute:
		return len(p), nil
	}
	if l := w.owner.loop; w.rest == nil {
		w.rest, l.sealed = l.sealed[:0], nil // given back by push
	}
	w.rest = append(w.rest, p...)
	return len(p), nil
}

// Close implements net.Conn. Once detached the descriptor is the loop's to close.
func (w *tlsWire) Close() error {
	if w.conn != nil {
		return w.conn.Close()
	}
	return nil
}

// LocalAddr implements net.Conn; nil once detached.
func (w *tlsWire) LocalAddr() net.Addr {
	if w.conn != nil {
		return w.conn.LocalAddr()
	}
	return nil
}

// RemoteAddr implements net.Conn; nil once detached.
func (w *tlsWire) RemoteAddr() net.Addr {
	if w.conn != nil {
		return w.conn.RemoteAddr()
	}
	return nil
}

// SetDeadline implements net.Conn. Once detached nothing waits.
func (w *tlsWire) SetDeadline(t time.Time) error {
	if w.conn != nil {
		return w.conn.SetDeadline(t)
	}
	return nil
}

// SetReadDeadline implements net.Conn.
func (w *tlsWire) SetReadDeadline(t time.Time) error {
	if w.conn != nil {
		return w.conn.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline implements net.Conn.
func (w *tlsWire) SetWriteDeadline(t time.Time) error {
	if w.conn != nil {
		return w.conn.SetWriteDeadline(t)
	}
	return nil
}

// Bare returns the connection of package net below a connection.
func Bare(c net.Conn) net.Conn {
	if s, ok := c.(*Secure); ok {
		return s.wire.conn
	}
	return c
}

// CloseWrite says in TLS and in TCP that nothing more will come.
func (s *Secure) CloseWrite() error {
	err := s.Conn.CloseWrite()
	if half, ok := s.wire.conn.(interface{ CloseWrite() error }); ok {
		err = errors.Join(err, half.CloseWrite())
	}
	return err
}

// Detach takes the descriptor out of a connection; sec is its TLS side, nil for a plain
// one. Nobody else may be using the connection.
func Detach(c net.Conn) (fd int, sec *Secure, err error) {
	fd, err = poller.Detach(Bare(c))
	if err != nil {
		return -1, nil, err
	}
	if sec, _ = c.(*Secure); sec != nil {
		sec.wire.conn, sec.wire.pacer, sec.wire.fd = nil, nil, fd
	}
	return fd, sec, nil
}

// push offers the socket what is encrypted. What it does not take stays.
func (s *Secure) push() error {
	w := &s.wire
	if w.rest == nil {
		return nil
	}
	n, err := poller.Write(w.fd, w.rest)
	c := w.owner
	c.loop.stats.Writes.Add(1)
	if n > 0 {
		c.took()
	}
	rest := w.rest[n:]
	switch {
	case err != nil || len(rest) == 0:
		w.giveBack()
	case c.loop.sealed == nil: // it is the loop's buffer
		rest = append([]byte(nil), rest...)
		w.giveBack()
		w.rest = rest
	default:
		w.rest = rest
	}
	return err
}

// giveBack lets the encrypted bytes go.
func (w *tlsWire) giveBack() {
	if l := w.owner.loop; w.rest != nil && l.sealed == nil {
		l.sealed = w.rest[:0]
	}
	w.rest = nil
}

// send encrypts p and offers it to the socket, a record at a time as long as that takes
// everything. It tells how much of p was encrypted, which is as good as sent.
func (s *Secure) send(p []byte) (n int, err error) {
	for n < len(p) && s.wire.rest == nil && err == nil {
		m := min(len(p)-n, recordBytes)
		if _, err = s.Conn.Write(p[n : n+m]); err == nil {
			n += m
			err = s.push()
		}
	}
	return n, err
}

// secure returns the connection's TLS side, nil for a plain one.
func (c *Conn) secure() *Secure {
	if c.ext == nil {
		return nil
	}
	return c.ext.secure
}

// sealed reports whether encrypted bytes wait for the socket.
func (c *Conn) sealed() bool {
	s := c.secure()
	return s != nil && s.wire.rest != nil
}

// send gives the socket p and tells how many bytes of it are taken care of: those that
// it took, or with TLS those that were encrypted.
func (c *Conn) send(p []byte) (n int, err error) {
	if s := c.secure(); s != nil {
		return s.send(p)
	}
	return poller.Write(c.FD(), p)
}

// readSecure reads what has come, a bounded amount, until nothing whole is left of
// it, and processes it.
func (c *Conn) readSecure(s *Secure, hangup bool) {
	c.Plant("readSecure")
	l, w := c.loop, &s.wire
	w.allow()
	for c.reads() && c.Phase < phaseDraining && !w.failed {
		n, err := s.readSome(l.scratch)
		if n > 0 {
			c.received(l.scratch[:n])
		}
		if err != nil {
			c.secureFailed(s, err, hangup)
			break
		}
	}
	if w.rest != nil && !c.has(bitBlocked) && c.Phase < phaseDraining {
		c.write() // what TLS itself answers: a key update, an alert
	}
}

// allow lets a turn's bytes be read.
func (w *tlsWire) allow() { w.limit, w.empty, w.unread = scratchBytes, false, true }

// readSome reads once.
func (s *Secure) readSome(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if n > 0 {
		s.wire.over = max(s.wire.over-n-overRecord, 0)
	}
	return n, err
}

// secureFailed deals with what ended a read.
func (c *Conn) secureFailed(s *Secure, err error, hangup bool) {
	c.Plant("secureFailed")
	switch {
	case errors.Is(err, errNothing):
		s.wire.unread = false
		if s.wire.over > overMost {
			c.Close(reasonTLS) // what it sends is nothing but TLS
			return
		}
		if s.wire.left > 0 {
			c.loop.WakeAt(c, s.wire.begun+seconds(c.loop.cfg.MessageTimeout))
		}
		if hangup && s.wire.empty {
			c.kill(ReasonReset) // an error that was reported by another call already
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.wire.failed = true // what comes behind it is nothing any more
		c.eof()
	case poller.IsSocketError(err):
		c.kill(ReasonReset)
	default:
		// The peer broke the protocol, or says that we did. An alert may be on its way.
		s.wire.failed = true
		if c.Phase == phaseOpen {
			c.dropOutput()
			c.Close(reasonTLS)
		}
	}
}

// Hardened returns a copy of a TLS configuration with what is the same for all.
func Hardened(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{"http/1.1"}
	cfg.DynamicRecordSizingDisabled = true // a write is one record, which goes out in one send
	if choose := cfg.GetConfigForClient; choose != nil {
		cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(h)
			if chosen != nil {
				chosen = Hardened(chosen)
			}
			return chosen, err
		}
	}
	return cfg
}
