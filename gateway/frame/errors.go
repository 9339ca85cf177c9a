package frame

import "github.com/gobwas/ws"

// Error is a violation of the protocol by the peer. The connection must be closed after it,
// with Code and Reason in the Close frame.
type Error struct {
	Code   ws.StatusCode
	Reason string // plain ASCII, short enough for a Close frame
}

// Error returns the reason for a log line.
func (e *Error) Error() string { return "frame: " + e.Reason }

// The faults, in the order in which a frame's bytes show them.
var (
	// Byte 0 of a header.
	ErrReservedBits      = &Error{ws.StatusProtocolError, "reserved bits set without an extension"}
	ErrReservedOpCode    = &Error{ws.StatusProtocolError, "reserved opcode"}
	ErrFragmentedControl = &Error{ws.StatusProtocolError, "fragmented control frame"}
	ErrNoMessage         = &Error{ws.StatusProtocolError, "continuation without a message"}
	ErrInsideMessage     = &Error{ws.StatusProtocolError, "new message inside a fragmented one"}
	ErrTooManyFragments  = &Error{ws.StatusPolicyViolation, "too many fragments in a message"}

	// Byte 1 of a header.
	ErrUnmasked    = &Error{ws.StatusProtocolError, "frame is not masked"}
	ErrLongControl = &Error{ws.StatusProtocolError, "control frame longer than 125 bytes"}

	// The length.
	ErrLengthSign    = &Error{ws.StatusProtocolError, "length with the most significant bit set"}
	ErrLengthMinimal = &Error{ws.StatusProtocolError, "length not in its shortest form"}
	ErrTooBig        = &Error{ws.StatusMessageTooBig, "message too big"}

	// The payload.
	ErrText        = &Error{ws.StatusInvalidFramePayloadData, "text is not UTF-8"}
	ErrCloseLength = &Error{ws.StatusProtocolError, "close payload of one byte"}
	ErrCloseCode   = &Error{ws.StatusProtocolError, "close code not allowed"}
	ErrCloseReason = &Error{ws.StatusInvalidFramePayloadData, "close reason is not UTF-8"}
)
