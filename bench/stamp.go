package bench

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// A stamp is the head of each message's payload. It is ASCII, so that a text
// frame stays valid UTF-8 and a JSON string needs no escapes, and of fixed
// width, so that reading it costs a few shifts:
//
//	0  6   run id: letters, random for each run
//	6  2   phase, two nibbles
//	8  4   stream (publisher, or channel), four nibbles
//	12 8   sequence number in its stream, eight nibbles
//	20 12  scheduled time, nanoseconds on the run's clock, twelve nibbles: 78 hours
//
// A nibble is '@' plus its value. Run and phase are
// compared as one word.
type stamp struct {
	stream    uint16
	seq       uint32
	scheduled int64
}

const (
	// SizeMin is the size of the smallest payload: that of the stamp that every payload
	// begins with.
	SizeMin = 32

	runIDSize = 6
	phaseAt   = 6
	streamAt  = 8
	seqAt     = 12
	timeAt    = 20
)

// mark is the first word of a stamp, big-endian: run id and phase.
type mark uint64

// newMark returns a mark with a random run id and phase zero.
func newMark() mark {
	var b [8]byte
	for i := range runIDSize {
		b[i] = 'a' + byte(rand.IntN(26))
	}
	putNibbles(b[phaseAt:8], 0)
	return mark(binary.BigEndian.Uint64(b[:]))
}

// inPhase returns the mark of the same run in another phase.
func (m mark) inPhase(phase uint8) mark {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(m))
	putNibbles(b[phaseAt:8], uint64(phase))
	return mark(binary.BigEndian.Uint64(b[:]))
}

// runID returns the letters that all phases of a run share.
func (m mark) runID() [runIDSize]byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(m))
	return [runIDSize]byte(b[:runIDSize])
}

// put writes the stamp over the first SizeMin bytes of p.
func (s stamp) put(p []byte, m mark) {
	binary.BigEndian.PutUint64(p, uint64(m))
	putNibbles(p[streamAt:seqAt], uint64(s.stream))
	putNibbles(p[seqAt:timeAt], uint64(s.seq))
	putNibbles(p[timeAt:SizeMin], uint64(s.scheduled))
}

// readStamp reads the stamp at the start of p, which holds SizeMin bytes, and
// reports whether its mark is m.
func readStamp(p []byte, m mark) (stamp, bool) {
	_ = p[SizeMin-1]
	if binary.BigEndian.Uint64(p) != uint64(m) {
		return stamp{}, false
	}
	return stamp{
		stream: uint16(eightNibbles(binary.BigEndian.Uint64(p[streamAt:])) >> 16), // and four of seq's
		seq:    eightNibbles(binary.BigEndian.Uint64(p[seqAt:])),
		// Twelve nibbles as two words of eight that share four.
		scheduled: int64(eightNibbles(binary.BigEndian.Uint64(p[timeAt:])))<<16 |
			int64(eightNibbles(binary.BigEndian.Uint64(p[SizeMin-8:]))&0xffff),
	}, true
}

// findStamp looks for a stamp of the run anywhere in p: a server may put the
// message into an envelope. It returns the offset, or -1.
func findStamp(p []byte, m mark) int {
	id := m.runID()
	i := bytes.Index(p, id[:])
	if i < 0 || len(p)-i < SizeMin {
		return -1
	}
	return i
}

// eightNibbles packs the low halves of eight bytes.
func eightNibbles(x uint64) uint32 {
	x &= 0x0f0f0f0f0f0f0f0f
	x = (x | x>>4) & 0x00ff00ff00ff00ff
	x = (x | x>>8) & 0x0000ffff0000ffff
	return uint32(x | x>>16)
}

func putNibbles(p []byte, v uint64) {
	for i := len(p) - 1; i >= 0; i-- {
		p[i] = '@' | byte(v&0xf)
		v >>= 4
	}
}
