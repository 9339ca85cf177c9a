// Package wire puts payloads on the wire.
//
// What a subscriber is sent is an encoding in a framing. An encoding appends the payload that a
// publication becomes; a [Framing] wraps it as a WebSocket frame or as an event of an event
// stream. The bytes must be the same for all subscribers that share them, so neither knows a
// connection. Both are comparable values, so that subscribers with equal ones share a log.
//
// [Raw], [Record] and [Event] are encodings that name no protocol's commands; a protocol may
// have others. The package also has the JSON strings that encodings of several protocols write
// ([AppendString]). It is a package of its own because these protocols do not import each
// other. It knows no protocol and no connection, and allocates nothing but what dst grows by.
package wire

import (
	"encoding/base64"
	"encoding/json"
	"strconv"

	"sluice/gateway/channel"
	"sluice/gateway/frame"

	"github.com/gobwas/ws"
)

// A Framing is how payloads are told apart on the wire.
type Framing uint8

const (
	// WebSocket: each payload is a whole unmasked frame (RFC 6455).
	WebSocket Framing = iota
	// SSE: each payload is an event (HTML standard, section 9.2).
	SSE
	// Lines: each payload is a line of text. A binary one begins with its length, which is its encoding's.
	Lines
)

// ReadsInput reports whether clients can send anything.
func (f Framing) ReadsInput() bool { return f == WebSocket }

// Pings is when a client is pinged.
type Pings uint8

const (
	// PingSilent: after each interval in which nothing has come from it, which is its answer too.
	PingSilent Pings = iota
	// PingAnswered: at intervals, whatever else it was sent.
	PingAnswered
	// PingUnanswered: likewise, and no answer is expected.
	PingUnanswered
)

// Pings returns when clients are pinged.
func (f Framing) Pings() Pings {
	if f == WebSocket {
		return PingSilent
	}
	return PingUnanswered
}

// headerSpace is room for the longest header of a frame that is not masked.
var headerSpace = make([]byte, 10)

// Begin appends what comes before a text whose length is not known yet. The caller appends
// the text, and then calls End.
func (f Framing) Begin(dst []byte) []byte {
	switch f {
	case SSE:
		return append(dst, "data: "...)
	case Lines:
		return dst
	}
	return append(dst, headerSpace...)
}

// End completes the frame that Begin began, where start was the length of dst. The text must
// be UTF-8, and in a stream without CR and LF, as JSON can be.
func (f Framing) End(dst []byte, start int) []byte {
	switch f {
	case SSE:
		return append(dst, "\n\n"...)
	case Lines:
		return append(dst, '\n')
	}
	// The length is known only now; the text moves down to its header.
	text := dst[start+len(headerSpace):]
	head := frame.AppendHeader(dst[:start], ws.OpText, len(text))
	return append(head, text...) // overlaps: append is memmove
}

// Append appends a payload of any bytes, or of any UTF-8 text if it is not binary. In an event
// stream, what is binary is an event with the name binary, in base64. A text that is a line has no line breaks.
func (f Framing) Append(dst, payload []byte, binary bool) []byte {
	switch {
	case f == SSE && binary:
		dst = append(dst, "event: binary\ndata: "...)
		dst = base64.StdEncoding.AppendEncode(dst, payload)
		return append(dst, "\n\n"...)
	case f == SSE:
		return append(appendLines(dst, payload), '\n')
	case f == Lines && binary:
		return append(dst, payload...)
	case f == Lines:
		return append(append(dst, payload...), '\n')
	case binary:
		return frame.Append(dst, ws.OpBinary, payload)
	}
	return frame.Append(dst, ws.OpText, payload)
}

// AppendPing appends a keep-alive. An event stream's is a comment, and one among lines is an empty line, which readers
// ignore.
func (f Framing) AppendPing(dst []byte) []byte {
	switch f {
	case SSE:
		return append(dst, ":\n\n"...)
	case Lines:
		return append(dst, '\n')
	}
	return frame.AppendHeader(dst, ws.OpPing, 0)
}

// AppendClose appends the last that a client is sent: a Close frame, an event with the
// name close, or a line.
func (f Framing) AppendClose(dst []byte, code ws.StatusCode, reason string) []byte {
	if f == WebSocket {
		return frame.AppendClose(dst, code, reason)
	}
	data, _ := json.Marshal(struct { // cannot fail: a number and a string
		Code   ws.StatusCode `json:"code"`
		Reason string        `json:"reason"`
	}{code, reason})
	if f == Lines {
		return append(append(dst, data...), '\n')
	}
	return append(append(append(dst, "event: close\ndata: "...), data...), "\n\n"...)
}

// AppendEventName appends the name of the event that follows. Events without one are messages.
func AppendEventName(dst []byte, name string) []byte {
	return append(append(append(dst, "event: "...), name...), '\n')
}

// AppendEventID appends a position as the ID of the event that follows, with which a browser
// asks for what came after it.
func AppendEventID(dst []byte, epoch channel.Epoch, offset uint64) []byte {
	dst = append(dst, "id: "...)
	dst = append(epoch.Append(dst), ':')
	return append(strconv.AppendUint(dst, offset, 10), '\n')
}

// appendLines appends text as data fields. A line ends at CR, LF or CRLF there, and the reader
// puts the lines together with LF.
func appendLines(dst, text []byte) []byte {
	start := 0
	for i := 0; i <= len(text); i++ {
		if i < len(text) && text[i] != '\n' && text[i] != '\r' {
			continue
		}
		dst = append(dst, "data: "...)
		dst = append(dst, text[start:i]...)
		dst = append(dst, '\n')
		if i+1 < len(text) && text[i] == '\r' && text[i+1] == '\n' {
			i++
		}
		start = i + 1
	}
	return dst
}
