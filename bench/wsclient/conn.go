package wsclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

const (
	// Buffer is the size of a connection's buffers, each way.
	Buffer = 64 << 10
	// messageBytesMax bounds a message from the gateway: the gateway's own limit is far lower, so
	// anything larger comes from something else.
	messageBytesMax = 64 << 20
)

// Conn is a WebSocket connection. One goroutine reads; any goroutine may write.
type Conn struct {
	// Set by Dial.
	Net    net.Conn
	Opened time.Time

	// The caller may set these before it reads.
	OnPong  func(payload []byte)
	OnPing  func(payload []byte)        // in place of the reply
	OnIdle  func() error                // called before each wait for the gateway's bytes; its error ends reading
	Read    func(p []byte) (int, error) // reads the connection, which is Net.Read by default
	Silence time.Duration               // after which the gateway counts as gone; 0: never

	// Owned by the goroutine that reads.
	reader *wsutil.Reader
	buf    []byte // the message that Next returned last
	idle   error  // the error of OnIdle

	writing sync.Mutex     // guards out and message
	out     *bufio.Writer  // nil before Write
	message *wsutil.Writer // into out

	mu   sync.Mutex // guards owed
	owed []byte     // frames to send; only the last answer matters (RFC 6455 section 5.5.3)
	owes chan struct{}

	stop context.CancelFunc // ends Keep's goroutine; nil without it
	kept sync.WaitGroup
}

// newConn returns a connection that was upgraded; early, if not nil, contains bytes that arrived
// with the upgrade.
func newConn(conn net.Conn, early *bufio.Reader, buffer int) *Conn {
	c := &Conn{Net: conn, Opened: time.Now(), Read: conn.Read, owes: make(chan struct{}, 1)}
	var from io.Reader = socket{c}
	if early != nil {
		first, _ := early.Peek(early.Buffered()) // cannot fail
		from = io.MultiReader(bytes.NewReader(bytes.Clone(first)), from)
		ws.PutReader(early)
	}
	c.reader = &wsutil.Reader{Source: bufio.NewReaderSize(from, buffer), State: ws.StateClientSide,
		MaxMessageSize: messageBytesMax, OnIntermediate: c.control}
	return c
}

// socket reads the connection and watches for silence.
type socket struct{ *Conn }

func (s socket) Read(p []byte) (int, error) {
	if s.OnIdle != nil && s.idle == nil {
		s.idle = s.OnIdle()
	}
	if s.idle != nil {
		return 0, s.idle
	}
	if s.Silence > 0 {
		s.Net.SetReadDeadline(time.Now().Add(s.Silence)) // error ignored: the read fails too
	}
	return s.Conn.Read(p)
}

// Next returns the next message, which is valid until the next call. The error is a
// wsutil.ClosedError if the gateway has closed the connection.
func (c *Conn) Next() (op ws.OpCode, payload []byte, err error) { return c.next(false) }

// Drain reads to the end of the connection and returns why it has ended.
func (c *Conn) Drain() error {
	_, _, err := c.next(true)
	return err
}

func (c *Conn) next(discard bool) (ws.OpCode, []byte, error) {
	for {
		h, err := c.reader.NextFrame()
		if err != nil {
			return 0, nil, err
		}
		if h.OpCode.IsControl() {
			err = c.control(h, c.reader)
		} else if !discard {
			payload, err := c.read(h)
			return h.OpCode, payload, err
		}
		if err == nil {
			err = c.reader.Discard()
		}
		if err != nil {
			return 0, nil, err
		}
	}
}

// read reads the message that begins with header h.
func (c *Conn) read(h ws.Header) ([]byte, error) {
	if int64(cap(c.buf)) < h.Length+1 {
		c.buf = make([]byte, h.Length+1+h.Length/2)
	}
	n := 0
	for {
		if n == cap(c.buf) {
			c.buf = append(c.buf[:n], 0)
		}
		c.buf = c.buf[:cap(c.buf)]
		m, err := c.reader.Read(c.buf[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return c.buf[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// control handles a control frame.
func (c *Conn) control(h ws.Header, payload io.Reader) error {
	var all [ws.MaxControlFramePayloadSize]byte
	p := all[:h.Length]
	if _, err := io.ReadFull(payload, p); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpPong:
		if c.OnPong != nil {
			c.OnPong(p)
		}
	case ws.OpPing:
		if c.OnPing == nil {
			return c.reply(ws.NewPongFrame(p))
		}
		c.OnPing(p)
	case ws.OpClose:
		c.reply(ws.NewCloseFrame(p[:min(len(p), 2)])) // error ignored: it is the end of the connection
		code, reason := ws.ParseCloseFrameData(p)     // of wsutil, only the codes of RFC 6455 are known
		if len(p) < 2 {
			code = ws.StatusNoStatusRcvd
		}
		return wsutil.ClosedError{Code: code, Reason: reason}
	}
	return nil
}

// reply leaves a frame to Keep's goroutine, or sends it without one.
func (c *Conn) reply(f ws.Frame) error {
	if c.stop == nil {
		c.Net.SetWriteDeadline(time.Now().Add(time.Second)) // error ignored: the write fails too
		return c.Send(f)
	}
	c.mu.Lock()
	c.owed = compile(f)
	c.mu.Unlock()
	select {
	case c.owes <- struct{}{}:
	default: // already notified
	}
	return nil
}

// compile returns the bytes of a client's frame.
func compile(f ws.Frame) []byte { return ws.MustCompileFrame(ws.MaskFrame(f)) }

// Keep starts a goroutine that sends the replies, and a ping every interval, so that reading never
// waits for a write: a gateway that does not read for a while must still be able to write, or both
// would wait for each other. Without it, reading sends the replies itself, within a second each.
func (c *Conn) Keep(interval time.Duration) {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.kept.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			var err error
			select {
			case <-ctx.Done():
				return
			case <-c.owes:
				err = c.settle()
			case <-ticker.C:
				err = c.Send(ws.NewPingFrame(nil))
			}
			if err != nil {
				c.Net.Close() // the reader reports why the connection ended
				return
			}
		}
	})
}

// settle sends the replies.
func (c *Conn) settle() error {
	c.mu.Lock()
	owed := c.owed
	c.owed = nil
	c.mu.Unlock()
	return c.send(owed)
}

// Send sends a frame at once.
func (c *Conn) Send(f ws.Frame) error { return c.send(compile(f)) }

func (c *Conn) send(frames []byte) error {
	if len(frames) == 0 {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.out != nil && c.out.Flush() != nil { // cut off within a frame
		return net.ErrClosed
	}
	_, err := c.Net.Write(frames)
	return err
}

// Write calls put and sends what that has put into the buffer, in as few writes as possible.
func (c *Conn) Write(put func() error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.out == nil {
		c.out = bufio.NewWriterSize(c.Net, Buffer)
		c.message = wsutil.NewWriterSize(c.out, ws.StateClientSide, ws.OpText, 4<<10)
		c.message.DisableFlush() // a message is one frame, whatever its length
	}
	if err := put(); err != nil {
		return err
	}
	return c.out.Flush()
}

// Put puts a message or a control frame into the buffer. Only the function that Write calls may
// call it.
func (c *Conn) Put(op ws.OpCode, payload []byte) error {
	c.message.ResetOp(op)
	if _, err := c.message.Write(payload); err != nil {
		return err
	}
	return c.message.Flush()
}

// Leave sends a Close frame with code 1000. The connection ends after at most d; until then the
// answer can be read.
func (c *Conn) Leave(d time.Duration) {
	time.AfterFunc(d, func() { c.Net.Close() }) // a second Close does nothing
	c.Net.SetWriteDeadline(time.Now().Add(d))   // error ignored: the timer closes it anyway
	c.Send(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
}

// Close sends the replies, such as the answer to a Close frame, and closes the connection. No
// goroutine may be reading or writing.
func (c *Conn) Close() {
	if c.stop != nil {
		c.Net.SetWriteDeadline(time.Now().Add(time.Second)) // error ignored: the peer is leaving too
		c.stop()
		c.kept.Wait()
	}
	c.settle() // error ignored: the peer may be gone
	c.Net.Close()
}

// IsInvalid reports whether a connection has ended because of data that no gateway may send.
func IsInvalid(err error) bool {
	return errors.As(err, new(ws.ProtocolError)) || errors.Is(err, wsutil.ErrMessageTooLarge) ||
		errors.Is(err, ws.ErrHeaderLengthMSB) || errors.Is(err, ws.ErrHeaderLengthUnexpected)
}
