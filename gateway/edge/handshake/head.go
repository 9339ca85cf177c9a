package handshake

import (
	"bytes"

	"sluice/gateway/route"
)

// Bounds of a request head. A browser's upgrade has about 15 lines and 600 bytes,
// most of it cookies.
const (
	HeadBytesMax = 8 << 10 // with the empty line that ends it
	HeadLinesMax = 64      // request line and header fields
	URIBytesMax  = 4 << 10 // the request target
)

// requestLineBytesMax leaves room for a method and a version beside the target.
const requestLineBytesMax = URIBytesMax + 64

// End looks for the end of a request head in b and returns the head's length,
// with the empty line that ends it, or 0 when more bytes are needed. Bytes behind
// the head are not looked at.
//
// from is the length that b had at the previous call for the same head, or 0 at
// the first: those bytes are not searched again, so that a head which comes byte
// by byte costs no more than one that comes at once.
//
// A Reject is returned as soon as the bytes show that no continuation can be
// accepted: a bound is exceeded, or a byte may not stand where it stands.
//
// An empty line before the request line is passed over (RFC 9112 section 2.2): the
// head that [Parse] takes begins behind it, see [EmptyLine], and so do the bounds.
func End(b []byte, from int) (int, *route.Reject) {
	skip := EmptyLine(b)
	n, reject := end(b[skip:], max(from-skip, 0))
	if n > 0 {
		n += skip
	}
	return n, reject
}

// EmptyLine returns the length of the empty line that b begins with, 0 without one.
func EmptyLine(b []byte) int {
	if len(b) > 1 && b[0] == '\r' && b[1] == '\n' {
		return 2
	}
	return 0
}

func end(b []byte, from int) (int, *route.Reject) {
	if from <= requestLineBytesMax && requestLineBytesMax < len(b) {
		// Stop where the request line must have ended, so that the verdict does not
		// depend on how the bytes were cut into reads.
		if n, reject := end(b[:requestLineBytesMax], from); n > 0 || reject != nil {
			return n, reject
		}
		if bytes.IndexByte(b[:requestLineBytesMax], '\n') < 0 {
			return 0, rejectURILength
		}
		from = requestLineBytesMax
	}
	limit := min(len(b), HeadBytesMax)
	if 0 < from && from < limit && b[from-1] == '\r' && b[from] != '\n' {
		return 0, rejectCR
	}
	lines := -1 // lines that ended before i; -1: not counted yet
	for i := from; i < limit; i++ {
		c := b[i]
		if classes[c]&inValue != 0 {
			continue
		}
		switch c {
		case '\r':
			if i+1 < limit && b[i+1] != '\n' {
				return 0, rejectCR
			}
		case '\n':
			switch {
			case i == 0 || b[i-1] != '\r':
				return 0, rejectLineFeed
			case i == 1:
				return 0, rejectRequestLine
			case b[i-2] == '\n':
				return i + 1, nil
			}
			if lines < 0 {
				lines = bytes.Count(b[:i], newline)
			}
			if lines++; lines > HeadLinesMax {
				return 0, rejectHeadLines
			}
		default:
			return 0, rejectControl
		}
	}
	if len(b) >= HeadBytesMax {
		return 0, rejectHeadBytes
	}
	return 0, nil
}

var newline = []byte{'\n'}
