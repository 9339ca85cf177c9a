package deflate

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/flate"
)

// What is wrong with a message that does not inflate.
var (
	// ErrTooBig: the message has more bytes than the limit.
	ErrTooBig = errors.New("deflate: message too big")
	// ErrCorrupt: it is not compressed as RFC 7692 says.
	ErrCorrupt = errors.New("deflate: corrupt message")
	// ErrContext: it refers to messages before it, although the client has agreed to client_no_context_takeover.
	ErrContext = errors.New("deflate: message refers to those before it")
)

// messageTail completes a message: the sync marker that the sender has cut off, and an empty block that is the
// last, which ends the reading.
const messageTail = syncMarker + "\x01\x00\x00\xff\xff"

const (
	// outBytesMin is the first size of the buffer for what is inflated.
	outBytesMin = 4 << 10
	// bytesKept bounds the buffers that are kept for the next message.
	bytesKept = 128 << 10
	// windowBytes is how far back a message may refer.
	windowBytes = 32 << 10
)

// Inflater inflates messages, one at a time. It takes 36 KB, and a buffer for a message. The zero Inflater is
// ready for use.
type Inflater struct {
	reader io.Reader // a flate.Resetter
	source bytes.Reader
	in     []byte // a message with its tail
	out    []byte
}

// Inflate returns what a message was before it was compressed, up to limit bytes. It is valid until the next
// call, or Release. A small message that would inflate to very much costs no more than limit bytes. One of many
// blocks with nothing in them costs more than its bytes are worth, and is not found here.
func (i *Inflater) Inflate(message []byte, limit int) ([]byte, error) {
	i.out = i.out[:0]
	if len(message) == 0 { // no deflate stream is, but what it means is clear
		return i.out, nil
	}
	i.in = append(append(i.in[:0], message...), messageTail...)
	switch err := i.inflate(nil, limit); {
	case err == ErrCorrupt && i.inflate(make([]byte, windowBytes), limit) != ErrCorrupt:
		return nil, ErrContext // with anything before it, it can be inflated
	case err != nil:
		return nil, err
	case !i.ended():
		return nil, ErrCorrupt
	}
	return i.out, nil
}

// inflate inflates i.in into i.out, with what it may refer to.
func (i *Inflater) inflate(before []byte, limit int) error {
	i.source.Reset(i.in)
	if i.reader == nil {
		i.reader = flate.NewReader(&i.source)
	}
	i.reader.(flate.Resetter).Reset(&i.source, before) // never fails
	i.out = i.out[:0]
	for {
		if len(i.out) == cap(i.out) {
			i.out = append(make([]byte, 0, min(max(2*cap(i.out), outBytesMin), limit+1)), i.out...)
		}
		n, err := i.reader.Read(i.out[len(i.out):min(cap(i.out), limit+1)])
		i.out = i.out[:len(i.out)+n]
		switch {
		case len(i.out) > limit:
			return ErrTooBig
		case err == io.EOF:
			return nil
		case err != nil:
			return ErrCorrupt
		}
	}
}

// ended reports whether the stream that was read to its end was the whole message. A message may have an end
// of its own: an empty stored block whose last bytes are the sync marker, or any other block, with a byte 00
// behind it (RFC 7692 section 7.2.3.4).
func (i *Inflater) ended() bool {
	switch left := i.source.Len(); left {
	case 0, len(messageTail) - len(syncMarker), len(messageTail):
		return true
	case len(messageTail) + 1:
		return i.in[len(i.in)-left] == 0
	}
	return false
}

// Release lets large buffers go.
func (i *Inflater) Release() {
	if cap(i.out) > bytesKept {
		i.out = nil
	}
	if cap(i.in) > bytesKept {
		i.in = nil
	}
}
