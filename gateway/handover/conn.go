package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"sluice/gateway/saved"
	"sluice/poller"
)

// conn is one end of the pair.
type conn struct {
	unix *net.UnixConn
	raw  syscall.RawConn
	buf  []byte // of received messages
	oob  []byte
}

const (
	// messageMax bounds a message: a straggler's request, IDs, names.
	messageMax = 64 << 10
	// sendBuffer is what may be under way.
	sendBuffer = 1 << 20
	// sendPause is how long a sender waits for room.
	sendPause = time.Millisecond
)

// newConn makes a conn of an end, which it closes.
func newConn(f *os.File) (*conn, error) {
	defer f.Close() // ignored: FileConn has its own
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok || u.LocalAddr().Network() != "unixpacket" {
		c.Close() // ignored: it is another's
		return nil, errors.New("handover: the descriptor is no SOCK_SEQPACKET socket")
	}
	u.SetWriteBuffer(sendBuffer) // ignored: less is slower
	raw, err := u.SyscallConn()
	if err != nil {
		u.Close() // ignored: err matters
		return nil, err
	}
	return &conn{unix: u, raw: raw, buf: make([]byte, messageMax), oob: make([]byte, syscall.CmsgSpace(4*RightsMax))}, nil
}

func (c *conn) close() { c.unix.Close() } // ignored: nothing is sent any more

// trySend sends a message if there is room for it. Any goroutine; it does not wait.
func (c *conn) trySend(b []byte, fds ...int) (sent bool, err error) {
	if e := c.raw.Control(func(fd uintptr) { sent, err = poller.SendMessage(int(fd), b, fds) }); e != nil {
		return false, e
	}
	return sent, err
}

// send waits until there is room, or ctx ends.
func (c *conn) send(ctx context.Context, b []byte, fds ...int) error {
	for {
		sent, err := c.trySend(b, fds...)
		if sent || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("handover: send %v: %w", kind(b[0]), context.Cause(ctx))
		case <-time.After(sendPause):
		}
	}
}

// received is a message, with the descriptors that came with it. The body is valid until the next receive.
type received struct {
	kind kind
	body *saved.Reader
	fds  []int
}

// drop closes the descriptors of a message.
func (m *received) drop() {
	for _, fd := range m.fds {
		syscall.Close(fd) // ignored: nobody has used it
	}
	m.fds = nil
}

// end returns what is wrong with a message that should have so many descriptors, and was read.
func (m *received) end(fds int) error {
	if err := m.body.End(); err != nil {
		return err
	}
	if len(m.fds) != fds {
		return fmt.Errorf("handover: %v came with %d descriptors, want %d", m.kind, len(m.fds), fds)
	}
	return nil
}

// receive waits for the next message; io.EOF if the other process has ended.
func (c *conn) receive(until time.Time) (m received, err error) {
	c.unix.SetReadDeadline(until) // ignored: then reading fails
	n, oobn, flags, _, err := c.unix.ReadMsgUnix(c.buf, c.oob)
	if errors.Is(err, syscall.ECONNRESET) { // it died with messages unread: that comes once, before those that it has sent
		n, oobn, flags, _, err = c.unix.ReadMsgUnix(c.buf, c.oob)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return m, fmt.Errorf("handover: receive: %w", err)
	}
	if m.fds, err = rights(c.oob[:oobn]); err != nil {
		return m, err
	}
	if n == 0 {
		m.drop()
		return m, io.EOF
	}
	if poller.Truncated(flags) || n < 2 {
		m.drop()
		return m, errors.New("handover: a message or its descriptors were cut off: the limit of open files may be too low")
	}
	m.kind = kind(c.buf[0])
	m.body = saved.Read(fmt.Sprintf("handover: the message %q", m.kind), c.buf[1:n], version)
	return m, nil
}

// rights returns the descriptors of a control message.
func rights(oob []byte) (fds []int, err error) {
	all, err := syscall.ParseSocketControlMessage(oob)
	for i := range all {
		got, e := syscall.ParseUnixRights(&all[i])
		fds, err = append(fds, got...), errors.Join(err, e)
	}
	return fds, err
}

// expect waits for a message of one kind. A refusal is an error.
func (c *conn) expect(k kind, until time.Time) (received, error) {
	m, err := c.receive(until)
	switch {
	case errors.Is(err, io.EOF):
		return m, endedError{k}
	case err != nil:
		return m, fmt.Errorf("%w while waiting for %v", err, k)
	case m.kind == k:
		return m, nil
	case m.kind == kindRefused:
		why := string(m.body.Bytes())
		m.drop()
		return m, &RefusedError{why}
	}
	m.drop()
	return m, fmt.Errorf("handover: got %v, want %v", m.kind, k)
}

// RefusedError says why the new process does not take over.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return "the new process refuses: " + e.Why }

// endedError: the other process has ended before a message of a kind.
type endedError struct{ before kind }

func (e endedError) Error() string {
	return fmt.Sprintf("the other process has ended (before %q); its log says why", e.before)
}

func (endedError) Unwrap() error { return io.EOF }
