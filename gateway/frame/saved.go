package frame

import (
	"encoding/binary"

	"github.com/gobwas/ws"

	"sluice/gateway/saved"
)

// savedVersion is that of what Append appends.
const savedVersion = 1

// Append appends the State, for Load in another process.
func (s *State) Append(dst []byte) []byte {
	const fin, inPayload, compressed = 1, 2, 4
	flags := byte(0)
	if s.header.Fin {
		flags |= fin
	}
	if s.inPayload {
		flags |= inPayload
	}
	if s.compressed {
		flags |= compressed
	}
	dst = append(dst, savedVersion, flags, byte(s.op), byte(s.header.OpCode))
	dst = append(dst, s.header.Mask[:]...)
	dst = binary.AppendUvarint(dst, uint64(s.header.Length))
	dst = binary.AppendUvarint(dst, uint64(s.left))
	dst = binary.AppendUvarint(dst, uint64(s.fragments))
	dst = saved.AppendBytes(dst, s.head[:s.headBytes])
	var control []byte
	if s.inPayload && s.header.OpCode.IsControl() {
		control = s.control[:int(s.header.Length)-s.left]
	}
	dst = saved.AppendBytes(dst, control)
	var buf []byte
	if s.op != ws.OpContinuation {
		buf = s.buf
	}
	return saved.AppendBytes(dst, buf)
}

// Load reads what Append has appended, within the limits, into a State that is idle. It reports whether that
// is a State that Next can go on with.
func (s *State) Load(b []byte, lim *Limits) bool {
	const fin, inPayload, compressed, all = 1, 2, 4, 7
	r := saved.Read("a frame", b, savedVersion)
	flags, op := r.Byte(), ws.OpCode(r.Byte())
	s.header = ws.Header{Fin: flags&fin != 0, OpCode: ws.OpCode(r.Byte()), Masked: true}
	copy(s.header.Mask[:], r.Take(4))
	length, left, fragments := r.Uint(), r.Uint(), r.Uint()
	head, control, buf := r.View(), r.View(), r.View()
	most := uint64(lim.bytesMax(flags&compressed != 0))
	switch {
	case r.End() != nil, flags > all, op > ws.OpBinary, s.header.OpCode > ws.OpPong,
		len(head) >= len(s.head), len(control) > len(s.control), uint64(len(buf)) > most,
		length > max(most, uint64(len(s.control))), left > length, uint64(len(buf))+left > max(most, uint64(len(s.control))), fragments > uint64(max(lim.FragmentsMax, 1)),
		flags&inPayload != 0 && (left == 0 || len(head) > 0),
		flags&inPayload != 0 && s.header.OpCode.IsControl() && (length > uint64(len(s.control)) || uint64(len(control)) != length-left),
		flags&inPayload != 0 && !s.header.OpCode.IsControl() && op == ws.OpContinuation:
		s.Reset()
		return false
	}
	s.inPayload, s.compressed, s.op = flags&inPayload != 0, flags&compressed != 0, op
	s.header.Length, s.left, s.fragments = int64(length), int(left), int(fragments)
	s.headBytes = copy(s.head[:], head)
	copy(s.control[:], control)
	s.buf = append(s.buf[:0], buf...)
	s.text.Reset(inPlace{})
	if op == ws.OpText && !s.compressed && !s.takeText(s.buf, false) {
		s.Reset()
		return false
	}
	return true
}
