package hostile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// fragmentsMax is the number of frames that sluice takes for one message.
const fragmentsMax = 64

// wsFrame is a frame that a server sends. Of a Close only the code matters.
type wsFrame struct {
	op      ws.OpCode
	payload string
}

// echoes is the judge of sessions: the frames that a server which sends every
// message back must answer to what a client sends, in their order. When the last is
// a Close, the connection ends with it. cut: the client's bytes end before the
// session does, and whether the server has seen a fault in the unfinished frame is
// left open. It is RFC 6455 read slowly: sections 5 and 7, gobwas/ws taking the
// headers apart; non-minimal lengths are faults (section 5.2), and the limits are sluice's.
func echoes(b []byte, messageMax int) (want []wsFrame, cut bool) {
	var (
		message   []byte
		op        ws.OpCode
		fragments int
	)
	fail := func(code ws.StatusCode) ([]wsFrame, bool) {
		return append(want, closeFrame(code)), false
	}
	for {
		r := bytes.NewReader(b)
		h, err := ws.ReadHeader(r)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return want, true
		}
		size := len(b) - r.Len()
		if h.Masked {
			size -= 4
		}
		control := h.OpCode.IsControl()
		switch {
		case h.Rsv != 0, h.OpCode.IsReserved(), control && !h.Fin,
			!control && (h.OpCode == ws.OpContinuation) != (fragments > 0):
			return fail(ws.StatusProtocolError)
		case !control && fragments >= fragmentsMax:
			return fail(ws.StatusPolicyViolation)
		case !h.Masked, control && (size > 2 || h.Length > 125), err != nil, // a length with its highest bit set
			size == 4 && h.Length < 126, size == 10 && h.Length < 1<<16:
			return fail(ws.StatusProtocolError)
		case !control && h.Length > int64(messageMax-len(message)):
			return fail(ws.StatusMessageTooBig)
		case h.Length > int64(r.Len()):
			return want, true
		}
		payload := b[len(b)-r.Len():][:h.Length]
		b = b[len(b)-r.Len()+len(payload):]
		payload = bytes.Clone(payload)
		ws.Cipher(payload, h.Mask, 0)

		switch h.OpCode {
		case ws.OpPing:
			want = append(want, wsFrame{ws.OpPong, string(payload)})
		case ws.OpPong:
		case ws.OpClose:
			return fail(closeAnswer(payload))
		default:
			if fragments++; h.OpCode != ws.OpContinuation {
				op = h.OpCode
			}
			message = append(message, payload...)
			if op == ws.OpText && !(utf8.Valid(message) || !h.Fin && beginsText(message)) {
				return fail(ws.StatusInvalidFramePayloadData)
			}
			if h.Fin {
				want = append(want, wsFrame{op, string(message)})
				message, fragments = nil, 0
			}
		}
	}
}

// closeAnswer returns the code that answers a Close: its own, or that of its fault.
func closeAnswer(payload []byte) ws.StatusCode {
	if len(payload) == 0 {
		return ws.StatusNoStatusRcvd
	}
	if len(payload) == 1 {
		return ws.StatusProtocolError
	}
	code := ws.StatusCode(binary.BigEndian.Uint16(payload))
	switch {
	case code < 1000, code > 1014 && code < 3000, code > 4999, code >= 1004 && code <= 1006:
		return ws.StatusProtocolError
	case !utf8.Valid(payload[2:]):
		return ws.StatusInvalidFramePayloadData
	}
	return code
}

// beginsText reports whether b is UTF-8 but for a code point that it cuts at its end.
func beginsText(b []byte) bool {
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			return !utf8.FullRune(b)
		}
		b = b[size:]
	}
	return true
}

// closeFrame returns a Close with a code; 1005 stands for one without.
func closeFrame(code ws.StatusCode) wsFrame {
	if code == ws.StatusNoStatusRcvd {
		return wsFrame{ws.OpClose, ""}
	}
	return wsFrame{ws.OpClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))}
}

// closeCode returns the code of a Close frame, 1005 for none.
func closeCode(f wsFrame) ws.StatusCode {
	if len(f.payload) < 2 {
		return ws.StatusNoStatusRcvd
	}
	return ws.StatusCode(binary.BigEndian.Uint16([]byte(f.payload)))
}

// serverFrames takes apart what a server sent. ok is false when that is not all of
// it whole frames as a server may send them.
func serverFrames(b []byte) (got []wsFrame, ok bool) {
	for len(b) > 0 {
		r := bytes.NewReader(b)
		h, err := ws.ReadHeader(r)
		if err != nil || ws.CheckHeader(h, ws.StateClientSide) != nil || h.Length > int64(r.Len()) || !h.Fin {
			return got, false
		}
		at := len(b) - r.Len()
		payload := string(b[at : at+int(h.Length)])
		if h.OpCode == ws.OpClose {
			if len(payload) == 1 || len(payload) > 2 && !utf8.ValidString(payload[2:]) {
				return got, false
			}
			payload = payload[:min(len(payload), 2)]
		}
		got = append(got, wsFrame{h.OpCode, payload})
		b = b[at+int(h.Length):]
	}
	return got, true
}
