package deflate

import (
	"encoding/binary"

	"sluice/gateway/channel"
	"sluice/gateway/frame"
)

// Format is the compressed form of a format. It is a channel.Format of its own.
type Format struct {
	// Set at construction.
	plain       channel.Format
	stream      bool
	compressors *Compressors
}

// Plain returns a format without the compression, if it has one.
func Plain(f channel.Format) channel.Format {
	if f, ok := f.(*Format); ok {
		return f.plain
	}
	return f
}

// Append implements channel.Format. What a channel appends under its lock, a gap or a reset, is not
// compressed.
func (f *Format) Append(dst []byte, p *channel.Publication) []byte {
	start := len(dst)
	dst = f.plain.Append(dst, p)
	gap := p.Kind == channel.KindGap || p.Kind == channel.KindReset
	switch {
	case f.stream && gap:
		return Seal(dst, start)
	case f.stream:
		return f.compressEvent(dst, start)
	case gap || len(dst) == start:
		return dst
	}
	return f.compressFrame(dst, start)
}

// rsv1 is the bit of a frame's first byte that says that its message is compressed.
const rsv1 = 0x40

// compressFrame makes the WebSocket frame at dst[start:] a compressed one, if that is smaller.
func (f *Format) compressFrame(dst []byte, start int) []byte {
	end := len(dst)
	head, ok := headerLen(dst[start:])
	if !ok {
		return dst
	}
	dst, s := f.compressors.compress(dst, start+head)
	if s == nil {
		return dst
	}
	squeezed := dst[end : len(dst)-len(syncMarker)]
	if frame.HeaderLen(len(squeezed))+len(squeezed) >= end-start {
		return dst[:end]
	}
	s.shrunk(end-start-head, len(squeezed))
	first := dst[start] | rsv1
	dst = frame.AppendHeader(dst[:start], 0, len(squeezed))
	dst[start] = first
	return append(dst, squeezed...) // overlaps: append is memmove
}

// headerLen returns the length of the header of p, if p is one whole frame that is not masked.
func headerLen(p []byte) (n int, ok bool) {
	if len(p) < 2 {
		return 0, false
	}
	payload := uint64(p[1])
	switch n = 2; {
	case payload == 126 && len(p) >= 4:
		n, payload = 4, uint64(binary.BigEndian.Uint16(p[2:]))
	case payload == 127 && len(p) >= 10:
		n, payload = 10, binary.BigEndian.Uint64(p[2:])
	}
	return n, payload == uint64(len(p)-n)
}

// compressEvent makes the event at dst[start:] a piece of a gzip member.
func (f *Format) compressEvent(dst []byte, start int) []byte {
	end := len(dst)
	dst, s := f.compressors.compress(dst, start)
	squeezed := dst[end:]
	if s == nil || len(squeezed) >= sealedLen(end-start) {
		return Seal(dst[:end], start)
	}
	s.shrunk(end-start, len(squeezed))
	return append(dst[:start], squeezed...) // overlaps: append is memmove
}
