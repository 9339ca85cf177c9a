package event

import (
	"encoding/binary"
	"encoding/json"

	"github.com/cespare/xxhash/v2"
)

// A record is an event that waits, in few bytes: its type, which of the optional fields it has,
// its time, its channel, and those fields.

const (
	hasWho = 1 << iota // client, user, transport
	hasWhy             // code, reason
	hasData
	hasPosition
	hasDropped // and the channel's state
)

// States of a channel in a record of a Resync.
const (
	unknown = iota
	vacated
	occupied
)

// partitionOf returns the partition of events of a channel or, without a channel, of a client.
func partitionOf(channel, client string) int {
	if channel == "" {
		channel = client
	}
	return int(xxhash.Sum64String(channel) % Partitions)
}

// appendRecord appends the record of an event. It does not keep what the event refers to.
func appendRecord(dst []byte, e *Event) []byte { return appendRecordOf(dst, nil, e) }

// appendRecordOf is appendRecord with the client's ID in bytes, nil if it is in the event.
func appendRecordOf(dst, client []byte, e *Event) []byte {
	has := byte(0)
	if client != nil || e.Client != "" || e.User != "" || e.Transport != "" {
		has |= hasWho
	}
	if e.Code != 0 || e.Reason != "" {
		has |= hasWhy
	}
	if e.Data != nil || e.Bytes != nil || e.Size > 0 {
		has |= hasData
	}
	if e.Offset > 0 {
		has |= hasPosition
	}
	if e.Dropped > 0 {
		has |= hasDropped
	}
	dst = append(dst, byte(e.Type), has)
	dst = binary.AppendUvarint(dst, uint64(e.Time))
	dst = appendText(dst, e.Channel)
	if has&hasWho != 0 {
		if client != nil {
			dst = append(binary.AppendUvarint(dst, uint64(len(client))), client...)
		} else {
			dst = appendText(dst, e.Client)
		}
		dst = appendText(appendText(dst, e.User), e.Transport)
	}
	if has&hasWhy != 0 {
		dst = appendText(binary.AppendUvarint(dst, uint64(e.Code)), e.Reason)
	}
	if has&hasData != 0 {
		data := e.Bytes
		if e.Data != nil {
			data = e.Data
		}
		size := max(e.Size, len(data))
		dst = binary.AppendUvarint(dst, uint64(size))
		if size > DataMax {
			data = nil
		}
		dst = appendText(dst, data)
	}
	if has&hasPosition != 0 {
		dst = appendText(binary.AppendUvarint(dst, e.Offset), e.HistoryEpoch)
	}
	if has&hasDropped != 0 {
		state := byte(unknown)
		if e.Occupied != nil {
			if state = vacated; *e.Occupied {
				state = occupied
			}
		}
		dst = append(binary.AppendUvarint(dst, e.Dropped), state)
	}
	return dst
}

func appendText[T ~string | ~[]byte](dst []byte, text T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

// record is a record that was found in a list of them. It refers to the list's bytes.
type record struct {
	all     []byte // the record
	kind    Type
	has     byte
	time    int64
	channel []byte
	recordFields
}

// recordFields are the optional fields of a record.
type recordFields struct {
	client, user, transport []byte
	code                    uint32
	reason                  []byte
	size                    int
	data                    []byte
	offset                  uint64
	historyEpoch            []byte
	dropped                 uint64
	state                   byte
}

// cut takes a record off a list of them, which this package has made.
func cut(list []byte) (r record, rest []byte) {
	c := cursor(list[2:])
	r.kind, r.has = Type(list[0]), list[1]
	r.time = int64(c.number())
	r.channel = c.text()
	f := &r.recordFields
	if r.has&hasWho != 0 {
		f.client, f.user, f.transport = c.text(), c.text(), c.text()
	}
	if r.has&hasWhy != 0 {
		f.code, f.reason = uint32(c.number()), c.text()
	}
	if r.has&hasData != 0 {
		f.size, f.data = int(c.number()), c.text()
	}
	if r.has&hasPosition != 0 {
		f.offset, f.historyEpoch = c.number(), c.text()
	}
	if r.has&hasDropped != 0 {
		f.dropped, f.state = c.number(), c[0]
		c = c[1:]
	}
	r.all = list[:len(list)-len(c)]
	return r, c
}

// event returns the event of a record, with nothing that refers to the record.
func (r *record) event() Event {
	f := &r.recordFields
	e := Event{
		Type: r.kind, Time: r.time, Channel: string(r.channel), Client: string(f.client), User: string(f.user), Transport: string(f.transport),
		Code: f.code, Reason: string(f.reason), Offset: f.offset, HistoryEpoch: string(f.historyEpoch), Dropped: f.dropped,
	}
	if f.state != unknown {
		on := f.state == occupied
		e.Occupied = &on
	}
	switch {
	case r.has&hasData == 0:
	case f.size > len(f.data):
		e.Size = f.size
	case json.Valid(f.data):
		e.Data = append(json.RawMessage(nil), f.data...)
	default:
		e.Bytes = append([]byte{}, f.data...)
	}
	return e
}

// cursor reads what append functions have written.
type cursor []byte

func (c *cursor) number() uint64 {
	n, size := binary.Uvarint(*c)
	*c = (*c)[size:]
	return n
}

func (c *cursor) text() []byte {
	n := c.number()
	text := (*c)[:n:n]
	*c = (*c)[n:]
	return text
}

// valid reports whether bytes from elsewhere are a list of records.
func valid(list []byte) (ok bool) {
	defer func() { // cut panics where something is missing
		if recover() != nil {
			ok = false
		}
	}()
	for len(list) > 0 {
		var r record
		r, list = cut(list)
		if r.kind == 0 || r.kind >= typeEnd {
			return false
		}
	}
	return true
}
