package nats

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"unicode/utf8"

	"sluice/gateway/channel"
)

// A message is a publication as it lies in a stream and as it goes between nodes. All of it is in
// the data, so that no header is needed:
//
//	version    1 byte
//	flags      1 byte
//	of flagCore only:
//	  node     8 bytes, the publisher's
//	  counter  uvarint, how many core messages the publisher has sent in the channel's bucket
//	  previous uvarint, the counter of its previous one in this channel; 0 if it remembers none
//	  age      uvarint, how many ms before this one that was sent
//	at         varint, Publication.At
//	from       uvarint
//	extra      uvarint, its length, and that many bytes
//	payload    the rest; of a tombstone, a uvarint: the offset of the newest publication that it removes
//
// A message of another version, or with a flag that this one does not have, cannot be read. Nor can one that is text
// and no UTF-8: anything may publish to NATS, and a client closes the connection over which it gets such text.

// messageVersion is the version of the format.
const messageVersion = 1

const (
	flagKind      = 3 // a mask: channel.Kind
	flagBinary    = 1 << 2
	flagPassing   = 1 << 3
	flagTombstone = 1 << 4 // the history up to here was removed
	flagProbe     = 1 << 5 // it only asks whether the store answers
	flagCore      = 1 << 6 // it is not stored
	flagsKnown    = 1<<7 - 1
)

// messageOverhead is how many bytes a message has beside payload and extra, at most.
const messageOverhead = 2 + 8 + 6*binary.MaxVarintLen64

var (
	errMessageVersion = errors.New("nats: a message of an unknown version")
	errMessage        = errors.New("nats: malformed message")
	errText           = errors.New("nats: a message whose text is not UTF-8")
)

type message struct {
	channel.Publication // Payload, Extra, Binary, From, At, Kind and Passing

	tombstone, probe bool
	removed          uint64 // of a tombstone

	core              bool
	node              uint64
	counter, previous uint64
	age               uint64
}

// appendMessage appends a message to dst.
func appendMessage(dst []byte, m *message) []byte {
	flags := byte(m.Kind) & flagKind
	if m.Binary {
		flags |= flagBinary
	}
	if m.Passing {
		flags |= flagPassing
	}
	if m.tombstone {
		flags |= flagTombstone
	}
	if m.probe {
		flags |= flagProbe
	}
	if m.core {
		flags |= flagCore
	}
	dst = append(dst, messageVersion, flags)
	if m.core {
		dst = binary.LittleEndian.AppendUint64(dst, m.node)
		dst = binary.AppendUvarint(dst, m.counter)
		dst = binary.AppendUvarint(dst, m.previous)
		dst = binary.AppendUvarint(dst, m.age)
	}
	dst = binary.AppendVarint(dst, m.At)
	dst = binary.AppendUvarint(dst, m.From)
	dst = binary.AppendUvarint(dst, uint64(len(m.Extra)))
	dst = append(dst, m.Extra...)
	if m.tombstone {
		return binary.AppendUvarint(dst, m.removed)
	}
	return append(dst, m.Payload...)
}

// parseMessage reads a message. Its payload and extra lie in b.
func parseMessage(b []byte) (m message, err error) {
	if len(b) < 2 {
		return message{}, errMessage
	}
	flags := b[1]
	if b[0] != messageVersion || flags&^flagsKnown != 0 || flags&flagKind > byte(channel.KindLeave) {
		return message{}, errMessageVersion
	}
	m.Kind = channel.Kind(flags & flagKind)
	m.Binary, m.Passing = flags&flagBinary != 0, flags&flagPassing != 0
	m.tombstone, m.probe, m.core = flags&flagTombstone != 0, flags&flagProbe != 0, flags&flagCore != 0
	r := reader{rest: b[2:]}
	if m.core {
		if len(r.rest) < 8 {
			return message{}, errMessage
		}
		m.node, r.rest = binary.LittleEndian.Uint64(r.rest), r.rest[8:]
		m.counter, m.previous, m.age = r.uvarint(), r.uvarint(), r.uvarint()
	}
	m.At = r.varint()
	m.From = r.uvarint()
	if n := r.uvarint(); n > uint64(len(r.rest)) {
		r.bad = true
	} else {
		m.Extra, r.rest = r.rest[:n:n], r.rest[n:]
	}
	if m.tombstone {
		m.removed = r.uvarint()
	} else {
		m.Payload = r.rest
	}
	switch {
	case r.bad:
		return message{}, errMessage
	case !isText(&m.Publication):
		return message{}, errText
	}
	return m, nil
}

// isText reports whether what formats take for UTF-8 is that.
func isText(p *channel.Publication) bool {
	if !p.Binary && !utf8.Valid(p.Payload) {
		return false
	}
	if len(p.Extra) == 0 {
		return true
	}
	e := channel.ParseExtra(p.Extra)
	ok := utf8.Valid(e.Who.User) && utf8.Valid(e.Who.Client)
	for ok && len(e.Tags) > 0 {
		var key, value []byte
		key, value, e.Tags = e.Tags.Next()
		ok = utf8.Valid(key) && utf8.Valid(value)
	}
	return ok
}

// reader reads numbers.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) varint() int64 {
	v := r.uvarint()
	if v&1 != 0 {
		return ^int64(v >> 1)
	}
	return int64(v >> 1)
}

// acknowledgement is a stream's answer to a message.
type acknowledgement struct {
	stream    []byte // name; lies in the answer
	seq       uint64
	duplicate bool // it was stored before, as that one
	code      int  // of the error; 0 if it was stored
	text      string
}

// of reports whether it is a stream's.
func (a *acknowledgement) of(st *stream) bool { return string(a.stream) == st.name }

// parseAcknowledgement reads a stream's answer, quickly where it is the usual one.
func parseAcknowledgement(b []byte) (a acknowledgement, ok bool) {
	if a.stream, a.seq = quickSequence(b); a.seq > 0 {
		return a, true
	}
	return slowAcknowledgement(b)
}

// quickSequence returns the stream's name and the sequence of an answer that has nothing else; 0 for others.
func quickSequence(b []byte) (stream []byte, seq uint64) {
	const begin, middle = `{"stream":"`, `","seq":`
	if len(b) < len(begin) || string(b[:len(begin)]) != begin {
		return nil, 0
	}
	b = b[len(begin):]
	n := 0
	for n < len(b) && b[n] != '"' && b[n] != '\\' {
		n++
	}
	stream, b = b[:n], b[n:]
	if len(b) < len(middle) || string(b[:len(middle)]) != middle {
		return nil, 0
	}
	b = b[len(middle):]
	for len(b) > 0 && '0' <= b[0] && b[0] <= '9' {
		if seq > math.MaxUint64/10-1 {
			return nil, 0
		}
		seq, b = seq*10+uint64(b[0]-'0'), b[1:]
	}
	if len(b) != 1 || b[0] != '}' {
		return nil, 0
	}
	return stream, seq
}

// slowAcknowledgement reads any answer of a stream.
func slowAcknowledgement(b []byte) (a acknowledgement, ok bool) {
	var all struct {
		Stream    string `json:"stream"`
		Seq       uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			Code        int    `json:"code"`
			Err         int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if json.Unmarshal(b, &all) != nil {
		return acknowledgement{}, false
	}
	a = acknowledgement{stream: []byte(all.Stream), seq: all.Seq, duplicate: all.Duplicate}
	if all.Error != nil {
		if a.code = all.Error.Err; a.code == 0 {
			a.code = max(all.Error.Code, 1)
		}
		a.text = all.Error.Description
	}
	return a, a.code != 0 || a.seq != 0
}
