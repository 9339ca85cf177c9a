package deflate

import "encoding/binary"

// GzipHeader begins a gzip member (RFC 1952 section 2.3): compressed with deflate, by an unknown system, with
// no name and no time.
const GzipHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// storedMax is what a stored block can hold (RFC 1951 section 3.2.4), and storedHead is what comes before it,
// at a byte boundary: a byte, the length, and its complement.
const (
	storedMax  = 1<<16 - 1
	storedHead = 5
)

// emptyBlock is a stored block of nothing, as a compressor's Flush writes.
const emptyBlock = "\x00" + syncMarker

// sealedLen returns what n bytes take in stored blocks.
func sealedLen(n int) int { return n + storedHead*((n+storedMax-1)/storedMax) + len(emptyBlock) }

// Seal makes dst[start:], unless it is empty, stored blocks, so that it can be a piece of a gzip member at a byte
// boundary. An empty block follows: readers such as Go's pass a stored block on only when they come to the next one.
func Seal(dst []byte, start int) []byte {
	n := len(dst) - start
	if n == 0 {
		return dst
	}
	blocks := (n + storedMax - 1) / storedMax
	for range blocks {
		dst = append(dst, make([]byte, storedHead)...) // on the stack
	}
	dst = append(dst, emptyBlock...)
	for i := blocks - 1; i >= 0; i-- { // each moves up, behind its own header and those before
		from := start + i*storedMax
		text := dst[from:min(from+storedMax, start+n)]
		at := from + i*storedHead
		copy(dst[at+storedHead:], text)
		dst[at] = 0
		binary.LittleEndian.PutUint16(dst[at+1:], uint16(len(text)))
		binary.LittleEndian.PutUint16(dst[at+3:], ^uint16(len(text)))
	}
	return dst
}
