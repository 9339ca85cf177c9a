package frame

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Limits bounds the memory that one connection's messages may take.
type Limits struct {
	MessageBytesMax int // payload of a whole message, all fragments together; more is ErrTooBig
	FragmentsMax    int // frames of one fragmented message, empty ones counted; more is ErrTooManyFragments
	// Deflate: the client has negotiated permessage-deflate (RFC 7692), so that a message may be compressed.
	Deflate bool
}

// bytesMax returns what a message's payload may have on the wire. What does not shrink takes a
// few bytes more for each of its blocks once it is compressed.
func (l *Limits) bytesMax(compressed bool) int {
	if compressed {
		return l.MessageBytesMax + l.MessageBytesMax/1000 + 64
	}
	return l.MessageBytesMax
}

// Message is one complete message or control frame.
type Message struct {
	Op ws.OpCode // OpText, OpBinary, OpClose, OpPing or OpPong
	// Compressed: Payload is still compressed, so that neither its size nor, of a text, UTF-8 is checked.
	Compressed bool

	// Payload is unmasked and checked. It lies in the bytes that were read or in
	// the State: it is valid until either is used again.
	Payload []byte
}

// The bits of a header (RFC 6455 section 5.2).
const (
	fin          = 0x80 // of byte 0
	reservedBits = 0x70
	compressed   = 0x40 // RSV1, of a message's first frame (RFC 7692 section 6)
	opCodeBits   = 0x0f
	controlBit   = 0x08

	masked     = 0x80 // of byte 1
	lengthBits = 0x7f
)

// The first bytes of a frame that is whole by itself.
const (
	finText   = fin | byte(ws.OpText)
	finBinary = fin | byte(ws.OpBinary)
	finClose  = fin | byte(ws.OpClose)
	finPing   = fin | byte(ws.OpPing)
	finPong   = fin | byte(ws.OpPong)
)

// Whole parses a message or control frame that is complete in one frame at the start of p,
// unmasks it in place and returns its length n. It is for a connection that keeps no State.
//
// With ok == false and err == nil, p does not start with such a frame, or its header is
// invalid; n is zero and p is untouched: call Next. An error is about the payload: invalid
// text or an invalid Close.
func Whole(p []byte, lim *Limits) (m Message, n int, ok bool, err error) {
	if len(p) < ws.MinHeaderSize+4 {
		return Message{}, 0, false, nil
	}
	switch p[0] {
	case finText, finBinary, finClose, finPing, finPong:
	default:
		return Message{}, 0, false, nil
	}
	// Without the bit for masked, length is negative.
	length, start := int(p[1])-masked, ws.MinHeaderSize+4
	switch {
	case length < 0:
		return Message{}, 0, false, nil
	case length < 126:
	case p[0]&controlBit != 0: // a long control frame
		return Message{}, 0, false, nil
	case length == 126:
		length = int(binary.BigEndian.Uint16(p[2:]))
		start += 2
		if length < 126 {
			return Message{}, 0, false, nil
		}
	default:
		if len(p) < ws.MaxHeaderSize {
			return Message{}, 0, false, nil
		}
		long := binary.BigEndian.Uint64(p[2:])
		if long < 1<<16 || long > uint64(len(p)) {
			return Message{}, 0, false, nil
		}
		length = int(long)
		start += 8
	}
	if length > len(p)-start || length > lim.MessageBytesMax && p[0]&controlBit == 0 {
		return Message{}, 0, false, nil
	}
	n = start + length
	m = Message{Op: ws.OpCode(p[0] & opCodeBits), Payload: p[start:n:n]}
	ws.Cipher(m.Payload, [4]byte(p[start-4:start]), 0)
	if err := check(m); err != nil {
		return Message{}, n, false, err
	}
	return m, n, true, nil
}

// check checks the payload of a message that was not looked at before.
func check(m Message) error {
	switch m.Op {
	case ws.OpText:
		if !utf8.Valid(m.Payload) {
			return ErrText
		}
	case ws.OpClose:
		return checkClose(m.Payload)
	}
	return nil
}

// checkClose checks the payload of a Close frame (RFC 6455 sections 5.5.1, 7.4).
func checkClose(p []byte) error {
	switch {
	case len(p) == 0:
		return nil
	case len(p) == 1:
		return ErrCloseLength
	case !closeCodeAllowed(ws.StatusCode(binary.BigEndian.Uint16(p))):
		return ErrCloseCode
	case !utf8.Valid(p[2:]):
		return ErrCloseReason
	}
	return nil
}

// closeCodeAllowed reports whether a peer may send a code. ws.CheckCloseFrameData
// is no help: it refuses 1012 to 1014, which IANA has registered since, and
// takes what is above 4999.
func closeCodeAllowed(c ws.StatusCode) bool {
	switch {
	case c.In(ws.StatusCodeRange{Min: 1000, Max: 1014}):
		return c != ws.StatusNoMeaningYet && !c.IsProtocolReserved()
	default:
		return c.IsApplicationSpec() || c.IsPrivateSpec()
	}
}

// CloseEcho returns the code in the payload of a Close that Whole or Next has accepted, or
// 1005 (no status received) if it is empty.
func CloseEcho(payload []byte) ws.StatusCode {
	if len(payload) < 2 {
		return ws.StatusNoStatusRcvd
	}
	return ws.StatusCode(binary.BigEndian.Uint16(payload))
}
