package centrifugo

import (
	"sluice/gateway/channel"
	"sluice/gateway/frame"
	"sluice/gateway/wire"

	"github.com/gobwas/ws"
	"google.golang.org/protobuf/encoding/protowire"
)

// Encoding is one of the two forms of the protocol.
type Encoding uint8

// The encodings. JSON travels in text frames, Protobuf in binary ones, where each
// message stands behind its length.
const (
	JSON Encoding = iota
	Protobuf
)

// Format is a wire format of the protocol. It is comparable: subscribers with equal
// formats share a log.
type Format struct {
	Encoding Encoding
	Uni      bool         // pushes stand alone, with no Reply around them
	Joins    bool         // the subscriber is notified of joins and leaves
	Framing  wire.Framing // in an event stream, and where Uni, Encoding must be JSON
}

var _ channel.Format = Format{}

// shared are all formats as what a log has. A value of an interface would be allocated
// anew for each subscription.
var shared = func() (all [1 << 5]channel.Format) {
	for i := range all {
		all[i] = Format{Encoding: Encoding(i & 1), Uni: i&2 != 0, Framing: wire.Framing(i >> 2 & 3), Joins: i&16 != 0}
	}
	return all
}()

// Shared returns the format as a log has it, without an allocation.
func (f Format) Shared() channel.Format {
	i := int(f.Encoding&1) | int(f.Framing&3)<<2
	if f.Uni {
		i |= 2
	}
	if f.Joins {
		i |= 16
	}
	return shared[i]
}

// String returns the word for the encoding.
func (f Format) String() string {
	if f.Encoding == Protobuf {
		return "protobuf"
	}
	return "json"
}

// TellsGaps reports whether a subscriber can be told that it missed something: it subscribes
// again then, which unidirectional clients cannot do.
func (f Format) TellsGaps() bool { return !f.Uni }

// Append implements channel.Format: it adds one whole frame, not masked, one
// event, or one line. It adds nothing for a join or a leave where they are not wanted, nor for a gap.
func (f Format) Append(dst []byte, p *channel.Publication) []byte {
	if p.Kind != channel.KindMessage && (!f.Joins || p.Kind > channel.KindLeave) {
		return dst
	}
	if f.Encoding == Protobuf {
		return f.appendProtobuf(dst, p)
	}
	start := len(dst)
	dst = f.Framing.Begin(dst)
	if f.Uni {
		return f.Framing.End(appendPushJSON(dst, p), start)
	}
	dst = append(dst, `{"push":`...)
	return f.Framing.End(append(appendPushJSON(dst, p), '}'), start)
}

// appendProtobuf adds a publication as Protobuf, behind its length, in its framing. All lengths are summed
// up first, so that every byte is written once, where it stays.
func (f Format) appendProtobuf(dst []byte, p *channel.Publication) []byte {
	e := channel.ParseExtra(p.Extra)
	var num protowire.Number
	var info, body int // bytes of the ClientInfo, and of the Publication, Join or Leave
	if e.HasWho {
		info = infoLen(&e.Who)
	}
	switch p.Kind {
	case channel.KindJoin:
		num, body = pushJoin, bytesFieldLen(info)
	case channel.KindLeave:
		num, body = pushLeave, bytesFieldLen(info)
	default:
		num, body = pushPub, optionalLen(p.Payload)+tagsLen(e.Tags)
		if e.HasWho {
			body += bytesFieldLen(info)
		}
		if p.Offset != 0 {
			body += 1 + protowire.SizeVarint(p.Offset)
		}
	}
	push := bytesFieldLen(body) + optionalLen(p.Channel)
	message := push
	if !f.Uni {
		message = bytesFieldLen(push)
	}

	if f.Framing == wire.WebSocket {
		dst = frame.AppendHeader(dst, ws.OpBinary, protowire.SizeBytes(message))
	}
	dst = protowire.AppendVarint(dst, uint64(message))
	if !f.Uni {
		dst = appendHead(dst, replyPush, push)
	}
	dst = appendOptional(dst, pushChannel, p.Channel)
	dst = appendHead(dst, num, body)
	if p.Kind != channel.KindMessage {
		return appendInfo(dst, joinInfo, &e.Who, info)
	}
	dst = appendOptional(dst, pubData, p.Payload)
	if e.HasWho {
		dst = appendInfo(dst, pubInfo, &e.Who, info)
	}
	if p.Offset != 0 {
		dst = protowire.AppendTag(dst, pubOffset, protowire.VarintType)
		dst = protowire.AppendVarint(dst, p.Offset)
	}
	return appendTags(dst, e.Tags)
}
