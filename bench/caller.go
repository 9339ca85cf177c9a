package bench

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

// caller is one client that connects over and over, on a goroutine of its own,
// with a connection of package net or of TLS above it.
type caller struct {
	receiver

	// Set at construction.
	clock clock
	index int

	// Owned by its goroutine.
	socket  net.Conn
	unwatch func() bool // of the context that ends the run
	conn    conn
	scratch []byte
}

func newCaller(p Protocol, ph phase, c clock, index, scratch int) *caller {
	j := &caller{clock: c, index: index, scratch: make([]byte, scratch)}
	j.receiver = newReceiver(p, 1, j.answer)
	j.tally = &tally{phase: ph} // for its counters alone
	return j
}

// connected reports whether it has a connection.
func (j *caller) connected() bool { return j.socket != nil }

// extend returns a connection more time.
func (j *caller) extend(patience time.Duration) {
	j.socket.SetDeadline(time.Now().Add(patience)) // ignored: a socket that cannot have one fails in what follows
}

// connect returns the bytes that came behind the handshake. Whatever the connection
// waits for must come within patience.
func (j *caller) connect(ctx context.Context, t target, patience time.Duration) (early []byte, err error) {
	c, early, err := t.open(ctx, j.index)
	if err != nil {
		return nil, err
	}
	j.socket, j.conn = c, conn{partial: j.conn.partial[:0]}
	j.extend(patience)
	tcp := socket(c)
	j.unwatch = context.AfterFunc(ctx, func() { tcp.Close() }) // ignored: whoever reads sees that it is closed
	return early, nil
}

// reset ends the connection at once: no port has to wait for a minute, of which
// many would soon be too many.
func (j *caller) reset() {
	socket(j.socket).SetLinger(0) // ignored: only ports are saved by it
	j.end()
}

// end closes the connection below TLS.
func (j *caller) end() {
	j.unwatch()
	socket(j.socket).Close() // ignored: it is over
	j.socket = nil
}

// answer sends what the server is owed, such as a pong.
func (j *caller) answer(_ *conn, frame []byte) error {
	_, err := j.socket.Write(frame)
	return err
}

// read takes one read's worth of bytes.
func (j *caller) read() error {
	kept := copy(j.scratch, j.conn.partial)
	n, err := j.socket.Read(j.scratch[kept:])
	if n > 0 {
		if e := j.feed(&j.conn, j.scratch[:kept+n], j.clock.now()); e != nil {
			return e
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("nothing more arrived within --timeout")
	}
	return err
}
