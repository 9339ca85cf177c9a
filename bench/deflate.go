package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/klauspost/compress/flate"
)

// The tester can ask for compression: permessage-deflate of which neither side keeps its context, or an event stream in gzip. What is
// broadcast is then the same compressed bytes on all connections, so they are inflated once and compared on the others:
// nothing is taken on trust, and the tester spends its time on reading.

// syncMarker ends what is compressed by itself; WebSocket leaves it out.
const syncMarker = "\x00\x00\xff\xff"

// lastBlock ends a reading.
const lastBlock = "\x01\x00\x00\xff\xff"

// gzipHead is the size of a gzip header without a name.
const gzipHead = 10

var errDeflate = fmt.Errorf("%w: what was compressed cannot be decompressed", errProtocol)

// inflater inflates what a loop receives.
type inflater struct {
	// Owned by the goroutine that reads.
	reader   io.Reader // a flate.Resetter
	source   bytes.Reader
	in       []byte
	last     []byte // what was inflated last ...
	text     []byte // ... and to what
	inflated int64  // how often
}

// message returns what a compressed message was.
func (f *inflater) message(p []byte) ([]byte, error) {
	if bytes.Equal(p, f.last) && len(p) > 0 {
		return f.text, nil
	}
	f.in = append(append(append(f.in[:0], p...), syncMarker...), lastBlock...)
	if err := f.inflate(); err != nil {
		return nil, errDeflate
	}
	f.last = append(f.last[:0], p...)
	return f.text, nil
}

// piece returns what the first piece of p was, and its size: all up to a sync marker that refers to nothing before it. The size is 0 if p
// has no whole one.
func (f *inflater) piece(p []byte) (text []byte, size int) {
	if len(f.last) > 0 && bytes.HasPrefix(p, f.last) {
		return f.text, len(f.last)
	}
	for end := 0; ; {
		i := bytes.Index(p[end:], []byte(syncMarker))
		if i < 0 {
			return nil, 0
		}
		end += i + len(syncMarker)
		f.in = append(append(f.in[:0], p[:end]...), lastBlock...)
		if f.inflate() == nil { // else the marker is a part of something else
			f.last = append(f.last[:0], p[:end]...)
			return f.text, end
		}
		end -= len(syncMarker) - 1
	}
}

// inflate inflates f.in into f.text.
func (f *inflater) inflate() error {
	f.source.Reset(f.in)
	if f.reader == nil {
		f.reader = flate.NewReader(&f.source)
	}
	f.reader.(flate.Resetter).Reset(&f.source, nil) // never fails
	f.last, f.text = f.last[:0], f.text[:0]
	f.inflated++
	for {
		if len(f.text) == cap(f.text) {
			f.text = append(make([]byte, 0, max(2*cap(f.text), 4<<10)), f.text...)
		}
		n, err := f.reader.Read(f.text[len(f.text):cap(f.text)])
		f.text = f.text[:len(f.text)+n]
		switch {
		case err == io.EOF && f.source.Len() == 0:
			return nil
		case err != nil:
			return errDeflate
		case len(f.text) > sizeMax:
			return errors.New("a message inflates to more than any")
		}
	}
}

// feedPieces is feed for an event stream in gzip.
func (r *receiver) feedPieces(c *conn, p []byte, now int64) error {
	if !c.inMember {
		if len(p) < gzipHead {
			c.partial = append(c.partial[:0], p...)
			return nil
		}
		if p[0] != 0x1f || p[1] != 0x8b || p[2] != 8 || p[3] != 0 {
			return errDeflate
		}
		c.inMember, p = true, p[gzipHead:]
	}
	for len(p) > 0 {
		text, size := r.inflater.piece(p)
		if size == 0 {
			if len(p) > messageMost {
				return errDeflate
			}
			break
		}
		p = p[size:]
		c.partial = c.partial[:0] // what it held is in p
		if err := r.feedEvents(c, text, now); err != nil {
			return err
		}
		if len(c.partial) > 0 {
			return fmt.Errorf("%w: a compressed piece ends within a line", errProtocol)
		}
	}
	c.partial = append(c.partial[:0], p...)
	return nil
}

// Content is what payloads consist of behind their stamp.
type Content string

const (
	// Dots are the same character.
	Dots Content = "dots"
	// Objects is JSON as of many an API: long names, small numbers, few words.
	Objects Content = "json"
	// IDs is the same with a random identifier in each object, which does not shrink.
	IDs Content = "json-ids"
)

// Contents are all contents.
var Contents = []Content{Dots, Objects, IDs}

// contentMin is the least payload of JSON.
const contentMin = 128

// contentsVaried is how many payloads are sent in turn.
const contentsVaried = 64

// blanks returns payloads without their stamps, and where these lie. Those of JSON differ from each other.
func (k Content) blanks(size int, object bool, seed uint64) (all [][]byte, at int) {
	if k == Dots || k == "" {
		payload, at := blank(size, object)
		return [][]byte{payload}, at
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for range contentsVaried {
		const end = "]}"
		payload, _ := blank(size, true)
		b := append(payload[:stampAt+SizeMin], `","readings":[`...)
		for comma := ""; ; comma = "," {
			next := comma + "{"
			if k == IDs {
				next += fmt.Sprintf(`"id":"%016x%016x",`, r.Uint64(), r.Uint64())
			}
			next += fmt.Sprintf(`"sensor":"room-%d","temperature":%d.%d,"humidity":%d,"status":"%s"}`,
				1+r.IntN(40), 18+r.IntN(8), r.IntN(10), 30+r.IntN(40), []string{"ok", "ok", "ok", "warning", "offline"}[r.IntN(5)])
			if len(b)+len(next)+len(end) > size {
				break
			}
			b = append(b, next...)
		}
		b = append(b, bytes.Repeat([]byte{' '}, size-len(b)-len(end))...)
		all = append(all, append(b, end...))
	}
	return all, stampAt
}
