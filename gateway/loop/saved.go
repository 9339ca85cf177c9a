package loop

import (
	"encoding/binary"
	"fmt"

	"sluice/gateway/channel"
)

// A process that hands its connections over to another one saves what protocols keep of them. A
// saved value is a version, which is one byte, and the parts that follow: numbers as varints, bytes
// behind their length.

// Saved is what Protocol.Load has read.
type Saved struct {
	Variant    *Variant
	Identity   *Identity // with its State; nil for none
	Identified bool      // Identify is due
	// Formats are those of the connection's subscriptions: in the order of Ref, or of the one that
	// has not begun.
	Formats []channel.Format
}

// AppendBytes appends a part.
func AppendBytes[T ~string | ~[]byte](dst []byte, part T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(part))), part...)
}

// AppendIdentity appends who, without its State.
func AppendIdentity(dst []byte, who *Identity) []byte {
	dst = append(dst, who.ID[:]...)
	dst = AppendBytes(AppendBytes(dst, who.User), who.Info)
	return binary.AppendVarint(dst, who.ExpireAt)
}

// SavedReader reads the parts of a saved value. After an error they are all zero, and End returns
// the error.
type SavedReader struct {
	rest    []byte
	version byte
	err     error
}

// ReadSaved reads the version of a saved value, which must be this one.
func ReadSaved(b []byte, version byte) *SavedReader {
	r := &SavedReader{rest: b, version: version}
	if got := r.Byte(); r.err == nil && got != version {
		r.err = fmt.Errorf("loop: a saved connection has the unknown version %d; version %d can be read", got, version)
	}
	return r
}

// take returns the next n bytes, nil where there are fewer.
func (r *SavedReader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.rest)) {
		r.Fail()
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// Fail notes that the value is malformed.
func (r *SavedReader) Fail() {
	if r.err == nil {
		r.err = fmt.Errorf("loop: a saved connection, version %d, is truncated or malformed", r.version)
	}
}

// Byte returns the next byte.
func (r *SavedReader) Byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint returns the next number.
func (r *SavedReader) Uint() uint64 {
	n, size := binary.Uvarint(r.rest)
	r.take(uint64(max(size, 0)))
	if size <= 0 {
		r.Fail()
	}
	if r.err != nil {
		return 0
	}
	return n
}

// Count returns the next number, of things that each have a byte at least.
func (r *SavedReader) Count() int {
	n := r.Uint()
	if n > uint64(len(r.rest)) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Int returns the next number that AppendVarint of encoding/binary has written.
func (r *SavedReader) Int() int64 {
	n := r.Uint()
	return int64(n>>1) ^ -int64(n&1)
}

// Bytes returns a copy of the next part, nil for an empty one.
func (r *SavedReader) Bytes() []byte { return append([]byte(nil), r.take(r.Uint())...) }

// Identity reads what AppendIdentity has written.
func (r *SavedReader) Identity(who *Identity) {
	copy(who.ID[:], r.take(uint64(len(who.ID))))
	who.User, who.Info, who.ExpireAt = string(r.Bytes()), r.Bytes(), r.Int()
}

// End returns what is wrong with the value, nil if it was read to its end.
func (r *SavedReader) End() error {
	if len(r.rest) > 0 {
		r.Fail()
	}
	return r.err
}
