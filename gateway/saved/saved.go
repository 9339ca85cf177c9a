// Package saved is the form of what one process hands over to another: values with a version,
// whose parts are numbers as varints, and bytes behind their length.
//
// Data comes from another version of this program, perhaps a later one: a Reader never panics, and
// allocates for no more than what is there.
//
// The package does not know what the values are of.
package saved

import (
	"encoding/binary"
	"fmt"
)

// AppendBytes appends a part.
func AppendBytes[T ~string | ~[]byte](dst []byte, part T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(part))), part...)
}

// partLength is how long the length of a part is that AppendPart appends: enough for 32 GiB.
const partLength = 5

// AppendPart appends a part that fill appends: a large one is not copied.
func AppendPart(dst []byte, fill func(dst []byte) []byte) []byte {
	var length [partLength]byte
	at := len(dst)
	dst = fill(append(dst, length[:]...))
	n := len(dst) - at - partLength
	for i := range partLength - 1 { // a varint may have more bytes than it needs
		dst[at+i] = byte(n>>(7*i)) | 0x80
	}
	dst[at+partLength-1] = byte(n >> (7 * (partLength - 1)))
	return dst
}

// Reader reads the parts of a value. After an error they are all zero, and End returns the error.
type Reader struct {
	what    string // set at construction, as version
	rest    []byte
	version byte
	err     error
}

// Read reads the version of a value, which must be this one. what names the value in errors, such
// as "a connection".
func Read(what string, b []byte, version byte) *Reader {
	r := &Reader{what: what, rest: b, version: version}
	if got := r.Byte(); r.err == nil && got != version {
		r.err = fmt.Errorf("%s that was handed over has the unknown version %d; version %d can be read", what, got, version)
	}
	return r
}

// ReadPart reads a value that has no version of its own: it is a part of one that has.
func ReadPart(what string, b []byte) *Reader { return &Reader{what: what, rest: b} }

// Take returns the next n bytes, which are a part of the value; nil where there are fewer.
func (r *Reader) Take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.rest)) {
		r.Fail()
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// Fail notes that the value is malformed.
func (r *Reader) Fail() {
	if r.err == nil {
		r.err = fmt.Errorf("%s that was handed over is truncated or malformed (version %d)", r.what, r.version)
	}
}

// Byte returns the next byte.
func (r *Reader) Byte() byte {
	if b := r.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint returns the next number.
func (r *Reader) Uint() uint64 {
	n, size := binary.Uvarint(r.rest)
	r.Take(uint64(max(size, 0)))
	if size <= 0 {
		r.Fail()
	}
	if r.err != nil {
		return 0
	}
	return n
}

// Count returns the next number, of things that each have a byte at least.
func (r *Reader) Count() int {
	n := r.Uint()
	if n > uint64(len(r.rest)) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Int returns the next number that AppendVarint of encoding/binary has written.
func (r *Reader) Int() int64 {
	n := r.Uint()
	return int64(n>>1) ^ -int64(n&1)
}

// View returns the next part where it lies.
func (r *Reader) View() []byte { return r.Take(r.Uint()) }

// Bytes returns a copy of the next part, nil for an empty one.
func (r *Reader) Bytes() []byte { return append([]byte(nil), r.Take(r.Uint())...) }

// More reports whether there is more of the value.
func (r *Reader) More() bool { return r.err == nil && len(r.rest) > 0 }

// End returns what is wrong with the value, nil if it was read to its end.
func (r *Reader) End() error {
	if len(r.rest) > 0 {
		r.Fail()
	}
	return r.err
}
