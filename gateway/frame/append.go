package frame

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// closeReasonBytesMax is what a Close frame can hold beside its code.
const closeReasonBytesMax = ws.MaxControlFramePayloadSize - 2

// HeaderLen returns the size of a server frame's header.
func HeaderLen(payloadLen int) int {
	switch {
	case payloadLen < 126:
		return 2
	case payloadLen < 1<<16:
		return 4
	default:
		return 10
	}
}

// AppendHeader appends to dst the header of a server frame: a whole message,
// unmasked, its length in the shortest form.
func AppendHeader(dst []byte, op ws.OpCode, payloadLen int) []byte {
	b0 := fin | byte(op)
	switch {
	case payloadLen < 126:
		return append(dst, b0, byte(payloadLen))
	case payloadLen < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, b0, 126), uint16(payloadLen))
	default:
		return binary.BigEndian.AppendUint64(append(dst, b0, 127), uint64(payloadLen))
	}
}

// Append appends to dst a server frame. The payload of a control frame must not
// be longer than 125 bytes.
func Append(dst []byte, op ws.OpCode, payload []byte) []byte {
	return append(AppendHeader(dst, op, len(payload)), payload...)
}

// AppendMasked appends to dst a client's frame, a whole message whose mask is zero.
func AppendMasked(dst []byte, op ws.OpCode, payload []byte) []byte {
	start := len(dst)
	dst = append(AppendHeader(dst, op, len(payload)), 0, 0, 0, 0)
	dst[start+1] |= masked
	return append(dst, payload...)
}

// AppendClose appends to dst a Close frame. A code that only stands for
// something and is never sent (0, 1005, 1006, 1015) gives one without a payload.
// The reason is cut, between code points, to the 123 bytes that fit.
func AppendClose(dst []byte, code ws.StatusCode, reason string) []byte {
	if code.Empty() || code.IsProtocolReserved() {
		return AppendHeader(dst, ws.OpClose, 0)
	}
	reason = strings.ToValidUTF8(reason, string(utf8.RuneError)) // the same string when it is valid
	if len(reason) > closeReasonBytesMax {
		end := closeReasonBytesMax
		for !utf8.RuneStart(reason[end]) {
			end--
		}
		reason = reason[:end]
	}
	dst = AppendHeader(dst, ws.OpClose, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}
