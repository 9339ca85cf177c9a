package frame

import (
	"encoding/binary"

	"github.com/gobwas/ws"
)

// takeHeader takes header bytes from p and gives their number. When the header
// is complete, s is in its payload.
func (s *State) takeHeader(p []byte, lim *Limits) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	before := s.headBytes
	known := s.head[:before+copy(s.head[before:], p)]
	if err := s.checkFirst(known[0], lim); err != nil {
		return len(known) - before, err
	}
	if len(known) == 1 {
		s.headBytes = 1
		return 1, nil
	}
	if err := s.checkSecond(known[0], known[1]); err != nil {
		return len(known) - before, err
	}
	size := headerSize(known[1])
	length, err := s.checkLength(known[0], known[1], known[2:min(len(known), size-4)], lim)
	if err != nil {
		return len(known) - before, err
	}
	if len(known) < size {
		s.headBytes = len(known)
		return len(known) - before, nil
	}
	s.header = ws.Header{
		Fin:    known[0]&fin != 0,
		OpCode: ws.OpCode(known[0] & opCodeBits),
		Masked: true,
		Mask:   [4]byte(known[size-4:]),
		Length: int64(length),
	}
	s.headBytes = 0
	s.inPayload, s.left = true, length
	switch s.header.OpCode {
	case ws.OpText, ws.OpBinary:
		s.op, s.fragments = s.header.OpCode, 1
		s.compressed = known[0]&compressed != 0
		s.buf = s.buf[:0]
		s.text.Reset(inPlace{})
	case ws.OpContinuation:
		s.fragments++
	}
	return size - before, nil
}

// headerSize returns the size of a client's header by its second byte.
func headerSize(b1 byte) int {
	switch b1 & lengthBits {
	case 126:
		return 2 + 2 + 4
	case 127:
		return 2 + 8 + 4
	default:
		return 2 + 4
	}
}

// checkFirst checks the first byte of a header.
func (s *State) checkFirst(b0 byte, lim *Limits) error {
	op := ws.OpCode(b0 & opCodeBits)
	switch {
	case b0&reservedBits != 0 && !mayCompress(b0, lim):
		return ErrReservedBits
	case op.IsReserved():
		return ErrReservedOpCode
	case op.IsControl():
		if b0&fin == 0 {
			return ErrFragmentedControl
		}
	case op == ws.OpContinuation:
		if s.op == ws.OpContinuation {
			return ErrNoMessage
		}
		if s.fragments >= lim.FragmentsMax {
			return ErrTooManyFragments
		}
	case s.op != ws.OpContinuation:
		return ErrInsideMessage
	}
	return nil
}

// mayCompress reports whether the reserved bits of the first byte of a header say that a compressed message
// begins, and the client may send one.
func mayCompress(b0 byte, lim *Limits) bool {
	op := ws.OpCode(b0 & opCodeBits)
	return lim.Deflate && b0&reservedBits == compressed && (op == ws.OpText || op == ws.OpBinary)
}

// checkSecond checks the second byte of a header.
func (s *State) checkSecond(b0, b1 byte) error {
	switch {
	case b1&masked == 0:
		return ErrUnmasked
	case b0&controlBit != 0 && b1&lengthBits > ws.MaxControlFramePayloadSize:
		return ErrLongControl
	}
	return nil
}

// checkLength checks the declared length and gives it. ext are the bytes of a
// length of 16 or 64 bits, as far as they are known: what is missing makes the
// length a range from low to high, which each byte narrows. The length returned
// means something only when no byte is missing.
func (s *State) checkLength(b0, b1 byte, ext []byte, lim *Limits) (int, error) {
	var low, high, shortest uint64
	switch b1 & lengthBits {
	case 126:
		var b [2]byte
		copy(b[:], ext)
		low, shortest = uint64(binary.BigEndian.Uint16(b[:])), 126
		high = low | (1<<(16-8*len(ext)) - 1)
	case 127:
		var b [8]byte
		copy(b[:], ext)
		low, shortest = binary.BigEndian.Uint64(b[:]), 1<<16
		high = low | (1<<(64-8*len(ext)) - 1)
	default:
		low = uint64(b1 & lengthBits)
		high = low
	}
	switch {
	case low>>63 != 0:
		return 0, ErrLengthSign
	case high < shortest:
		return 0, ErrLengthMinimal
	case b0&controlBit != 0:
		return int(low), nil // checkSecond has bounded it
	}
	room := lim.bytesMax(b0&compressed != 0)
	if s.op != ws.OpContinuation {
		room = lim.bytesMax(s.compressed) - len(s.buf)
	}
	if low > uint64(max(room, 0)) {
		return 0, ErrTooBig
	}
	return int(low), nil
}
