package frame

import (
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

const (
	// bufferBytesMin is the first size of a buffer: most messages that come in
	// two reads fit.
	bufferBytesMin = 512
	// bufferBytesKept is the largest buffer that Reset keeps.
	bufferBytesKept = 4096
)

// State holds an incomplete frame and an incomplete message. The zero State is idle.
type State struct {
	// The frame in progress.
	head      [ws.MaxHeaderSize]byte // its header, as far as it has come
	headBytes int
	inPayload bool      // Invariant: left > 0 between two calls
	header    ws.Header // once inPayload
	left      int       // payload bytes still to come

	// A control frame's payload. It has its own place because a control frame
	// may stand between the fragments of a message.
	control [ws.MaxControlFramePayloadSize]byte

	// The message in progress.
	op         ws.OpCode // OpText or OpBinary; OpContinuation when there is none
	compressed bool
	fragments  int
	buf        []byte // unmasked; of the last message when there is none
	text       wsutil.UTF8Reader
}

// Idle reports whether nothing is kept between two calls: the State may be given
// back to a pool, once the payload of the last message is done with.
func (s *State) Idle() bool {
	return s.headBytes == 0 && !s.inPayload && s.op == ws.OpContinuation
}

// Held returns the size of the State's buffer in bytes.
func (s *State) Held() int { return cap(s.buf) }

// Reset forgets everything. A small buffer stays for the next use; a large one
// is let go.
func (s *State) Reset() {
	buf := s.buf
	if cap(buf) > bufferBytesKept {
		buf = nil
	}
	*s = State{buf: buf[:0]}
}

// Next consumes bytes from p and returns the next message or control frame, and the number n
// of bytes consumed. With ok == false and err == nil, all of p was consumed (n == len(p)) and
// more is needed. p is unmasked in place. A payload that is complete in p is not copied.
//
// An error is an *Error and final: s must be Reset, and the rest of p is useless.
func Next(s *State, p []byte, lim *Limits) (m Message, n int, ok bool, err error) {
	for {
		if !s.inPayload {
			took, err := s.takeHeader(p[n:], lim)
			n += took
			if err != nil || !s.inPayload {
				return Message{}, n, false, err
			}
		}
		b := p[n:]
		if len(b) > s.left {
			b = b[:s.left:s.left]
		}
		n += len(b)
		if s.header.OpCode.IsControl() {
			m, ok, err = s.takeControl(b)
		} else {
			m, ok, err = s.takeData(b, lim)
		}
		if ok || err != nil || s.inPayload {
			return m, n, ok, err
		}
		// A fragment is complete, its message is not.
	}
}

// takeControl takes payload of a control frame.
func (s *State) takeControl(b []byte) (m Message, ok bool, err error) {
	length := int(s.header.Length)
	if at := s.advance(len(b)); len(b) < length {
		copy(s.control[at:], b)
		b = s.control[:length:length]
	}
	if s.inPayload {
		return Message{}, false, nil
	}
	ws.Cipher(b, s.header.Mask, 0)
	m = Message{Op: s.header.OpCode, Payload: b}
	if err := check(m); err != nil {
		return Message{}, false, err
	}
	return m, true, nil
}

// takeData takes payload of a fragment, or of a message of one frame.
func (s *State) takeData(b []byte, lim *Limits) (m Message, ok bool, err error) {
	at := s.advance(len(b))
	ws.Cipher(b, s.header.Mask, at)
	last := s.header.Fin && !s.inPayload
	if last && s.fragments == 1 && at == 0 {
		m = Message{Op: s.op, Compressed: s.compressed, Payload: b}
		s.op = ws.OpContinuation
		if s.compressed {
			return m, true, nil
		}
		if err := check(m); err != nil {
			return Message{}, false, err
		}
		return m, true, nil
	}
	if s.op == ws.OpText && !s.compressed && !s.takeText(b, last) {
		return Message{}, false, ErrText
	}
	s.grow(len(b), lim)
	s.buf = append(s.buf, b...)
	if !last {
		return Message{}, false, nil
	}
	m = Message{Op: s.op, Compressed: s.compressed, Payload: s.buf[:len(s.buf):len(s.buf)]}
	s.op = ws.OpContinuation
	return m, true, nil
}

// advance counts n bytes of payload as taken and gives the position of the
// first of them in the frame.
func (s *State) advance(n int) int {
	at := int(s.header.Length) - s.left
	s.left -= n
	s.inPayload = s.left > 0
	return at
}

// grow makes room for n more bytes of the message. It doubles, so that the cost
// of copying stays proportional to what arrives, but never goes beyond what the
// message can still become.
func (s *State) grow(n int, lim *Limits) {
	need := len(s.buf) + n
	if need <= cap(s.buf) {
		return
	}
	most := lim.bytesMax(s.compressed)
	if s.header.Fin {
		most = need + s.left
	}
	buf := make([]byte, len(s.buf), max(need, min(max(2*cap(s.buf), bufferBytesMin), most)))
	copy(buf, s.buf)
	s.buf = buf
}
