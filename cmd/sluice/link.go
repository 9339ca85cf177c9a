package main

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
	// linkBuffer is the size of a link's buffers, each way.
	linkBuffer = 64 << 10
	// recordBytesMax bounds a message from the gateway: the gateway's own limit is far
	// lower, so anything larger comes from something else.
	recordBytesMax = 64 << 20
	// linkPing is how often a link pings, and linkSilence the silence after which
	// the gateway counts as gone: three of its default ping intervals.
	linkPing    = 20 * time.Second
	linkSilence = 75 * time.Second
)

// link is a WebSocket connection of a client command.
//
// One goroutine reads (next) and never waits for a write: a gateway that does not read
// for a while must still be able to write, or both would wait for each other. The
// replies that reading requires, a pong or the answer to a Close frame, are sent by the
// link's own goroutine (keep). Any goroutine may write.
type link struct {
	// Set at construction, or before keep begins.
	conn   net.Conn
	opened time.Time
	onPong func(payload []byte)
	onIdle func() error // called before each wait for the gateway's bytes; its error ends reading

	// Owned by the goroutine that reads.
	source *bufio.Reader
	reader *wsutil.Reader
	buf    []byte // the message that next returned last
	idle   error  // the error of onIdle

	writing sync.Mutex // guards out and message
	out     *bufio.Writer
	message *wsutil.Writer

	mu   sync.Mutex // guards owed
	owed []byte     // frames to send; only the last answer matters (RFC 6455 section 5.5.3)
	owes chan struct{}

	silence time.Duration
	stop    context.CancelFunc // ends keep; nil while keep is not running
	kept    sync.WaitGroup
}

// newLink returns a link on an upgraded connection; early, if not nil, contains bytes
// that arrived with the upgrade.
func newLink(conn net.Conn, early *bufio.Reader) *link {
	l := &link{conn: conn, opened: time.Now(), owes: make(chan struct{}, 1), silence: linkSilence}
	var from io.Reader = linkReader{l}
	if early != nil {
		first, _ := early.Peek(early.Buffered()) // cannot fail
		from = io.MultiReader(bytes.NewReader(bytes.Clone(first)), from)
		ws.PutReader(early)
	}
	l.source = bufio.NewReaderSize(from, linkBuffer)
	l.reader = &wsutil.Reader{Source: l.source, State: ws.StateClientSide, MaxMessageSize: recordBytesMax, OnIntermediate: l.control}
	l.out = bufio.NewWriterSize(conn, linkBuffer)
	l.message = wsutil.NewWriterSize(l.out, ws.StateClientSide, ws.OpText, 4<<10)
	l.message.DisableFlush() // a message is one frame, whatever its length
	return l
}

// linkReader reads the connection and watches for silence.
type linkReader struct{ *link }

func (r linkReader) Read(p []byte) (int, error) {
	if r.onIdle != nil && r.idle == nil {
		r.idle = r.onIdle()
	}
	if r.idle != nil {
		return 0, r.idle
	}
	r.conn.SetReadDeadline(time.Now().Add(r.silence)) // error ignored: the read fails too
	return r.conn.Read(p)
}

// next returns the next data message, which is valid until the next call. With discard it
// throws messages away and returns only at the end. The error is a wsutil.ClosedError if
// the gateway closed the connection.
func (l *link) next(discard bool) (op ws.OpCode, payload []byte, err error) {
	for {
		h, err := l.reader.NextFrame()
		if err != nil {
			return 0, nil, err
		}
		if !h.OpCode.IsControl() && !discard {
			op, payload, err = l.read(h)
			return op, payload, err
		}
		if h.OpCode.IsControl() {
			if err := l.control(h, l.reader); err != nil {
				return 0, nil, err
			}
		}
		if err := l.reader.Discard(); err != nil {
			return 0, nil, err
		}
	}
}

// read reads the message that begins with header h.
func (l *link) read(h ws.Header) (ws.OpCode, []byte, error) {
	if int64(cap(l.buf)) < h.Length+1 {
		l.buf = make([]byte, h.Length+1+h.Length/2)
	}
	n := 0
	for {
		if n == cap(l.buf) {
			l.buf = append(l.buf[:n], 0)
		}
		l.buf = l.buf[:cap(l.buf)]
		m, err := l.reader.Read(l.buf[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return h.OpCode, l.buf[:n], nil
		}
		if err != nil {
			return 0, nil, err
		}
	}
}

// control handles a control frame.
func (l *link) control(h ws.Header, payload io.Reader) error {
	if h.OpCode == ws.OpPong {
		var p [ws.MaxControlFramePayloadSize]byte
		if _, err := io.ReadFull(payload, p[:h.Length]); err != nil {
			return err
		}
		if l.onPong != nil {
			l.onPong(p[:h.Length])
		}
		return nil
	}
	var answer bytes.Buffer
	var err error
	if h.OpCode == ws.OpClose {
		err = goodbye(payload, int(h.Length), &answer)
	} else {
		err = wsutil.ControlHandler{Src: payload, Dst: &answer, State: ws.StateClientSide}.Handle(h)
	}
	l.mu.Lock()
	l.owed = answer.Bytes()
	l.mu.Unlock()
	select {
	case l.owes <- struct{}{}:
	default: // already notified
	}
	return err
}

// goodbye parses the gateway's Close frame and answers with the same code. wsutil knows
// only the codes of RFC 6455 and reports 1013 as a protocol error.
func goodbye(payload io.Reader, length int, answer *bytes.Buffer) error {
	var p [ws.MaxControlFramePayloadSize]byte
	if _, err := io.ReadFull(payload, p[:length]); err != nil {
		return err
	}
	body := p[:min(length, 2)]
	answer.Write(ws.MustCompileFrame(ws.MaskFrame(ws.NewCloseFrame(append([]byte(nil), body...)))))
	code, reason := ws.ParseCloseFrameData(p[:length])
	if len(body) < 2 {
		code = ws.StatusNoStatusRcvd
	}
	return wsutil.ClosedError{Code: code, Reason: reason}
}

// keep starts the link's own goroutine, which sends the replies and a ping every
// interval.
func (l *link) keep(interval time.Duration) {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.kept.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			var err error
			select {
			case <-ctx.Done():
				return
			case <-l.owes:
				err = l.settle()
			case <-ticker.C:
				l.writing.Lock()
				err = errors.Join(l.frame(ws.OpPing, nil), l.out.Flush())
				l.writing.Unlock()
			}
			if err != nil {
				l.conn.Close() // the reader reports why the link ended
				return
			}
		}
	})
}

// settle sends the replies.
func (l *link) settle() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	owed := l.owed
	l.owed = nil
	l.mu.Unlock()
	l.out.Write(owed) // Flush returns the same error
	return l.out.Flush()
}

// frame appends a message or a control frame to the write buffer. The caller holds
// writing.
func (l *link) frame(op ws.OpCode, payload []byte) error {
	l.message.ResetOp(op)
	if _, err := l.message.Write(payload); err != nil {
		return err
	}
	return l.message.Flush()
}

// bye sends a Close frame with code 1000. The link ends after at most d; until then
// the answer can be read.
func (l *link) bye(d time.Duration) {
	time.AfterFunc(d, func() { l.conn.Close() }) // a second Close does nothing
	l.conn.SetWriteDeadline(time.Now().Add(d))   // error ignored: the timer closes it anyway
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.frame(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, "")) == nil {
		l.out.Flush() // error ignored: the reader reports it
	}
}

// end sends the replies, such as the answer to a Close frame, and closes the connection.
// No goroutine may be reading or writing.
func (l *link) end() {
	if l.stop != nil {
		l.conn.SetWriteDeadline(time.Now().Add(time.Second)) // error ignored: the peer is leaving too
		l.stop()
		l.kept.Wait()
	}
	l.settle() // error ignored: the peer may be gone
	l.conn.Close()
}
