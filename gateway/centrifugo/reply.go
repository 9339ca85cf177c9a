package centrifugo

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"sluice/gateway/channel"
	"sluice/gateway/frame"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"google.golang.org/protobuf/encoding/protowire"
)

// AppendReply adds a whole frame with one reply. For JSON its raw fields must be
// JSON: the error says that they are not, and then dst comes back as it was.
func AppendReply(dst []byte, f Format, r *protocol.Reply) ([]byte, error) {
	if f.Encoding == Protobuf {
		return appendMessage(dst, r)
	}
	text, err := protocol.DefaultJsonReplyEncoder.Encode(r)
	if err != nil {
		return dst, err
	}
	return f.appendText(dst, text), nil
}

// AppendPush adds a whole frame, or an event, with one push. For JSON its raw fields
// must be JSON: the error says that they are not, and then dst comes back as it was.
func AppendPush(dst []byte, f Format, p *protocol.Push) ([]byte, error) {
	if !f.Uni {
		return AppendReply(dst, f, &protocol.Reply{Push: p})
	}
	if f.Encoding == Protobuf {
		return appendMessage(dst, p)
	}
	text, err := protocol.DefaultJsonPushEncoder.Encode(p)
	if err != nil {
		return dst, err
	}
	return f.appendText(dst, text), nil
}

// appendText adds a JSON text that the official encoder gave. It has taken out line
// feeds, not carriage returns, which end a line in an event stream.
func (f Format) appendText(dst, text []byte) []byte {
	start := len(dst)
	return f.Framing.End(appendUnbroken(f.Framing.Begin(dst), text), start)
}

// message is what the official package generates for Protobuf.
type message interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
}

// appendMessage adds a binary frame with one message behind its length.
func appendMessage(dst []byte, m message) ([]byte, error) {
	size := m.SizeVT()
	out := frame.AppendHeader(dst, ws.OpBinary, protowire.SizeBytes(size))
	out = protowire.AppendVarint(out, uint64(size))
	start := len(out)
	out = slices.Grow(out, size)[:start+size]
	if _, err := m.MarshalToSizedBufferVT(out[start:]); err != nil {
		return dst, err
	}
	return out, nil
}

// AppendPing adds a ping: an empty reply, or an empty push, as a whole frame or an
// event.
func AppendPing(dst []byte, f Format) []byte {
	if f.Encoding == Protobuf {
		return f.Framing.Append(dst, []byte{0}, true)
	}
	return f.Framing.Append(dst, []byte("{}"), false)
}

// Publication returns a publication as replies list it, for clients of that encoding.
// It is a copy: nothing of p is kept.
func Publication(enc Encoding, p *channel.Publication) *protocol.Publication {
	pub := &protocol.Publication{Offset: p.Offset}
	if enc == JSON {
		pub.Data = appendData(nil, p.Payload, p.Binary)
	} else {
		pub.Data = bytes.Clone(p.Payload)
	}
	e, _ := parseExtra(p.Extra) // one that cannot be read says nothing
	if e.hasInfo {
		pub.Info = ClientInfo(enc, e.info)
	}
	for tags := e.tags; len(tags) > 0; {
		var key, value []byte
		if pub.Tags == nil {
			pub.Tags = map[string]string{}
		}
		key, value, tags = nextTag(tags)
		pub.Tags[string(key)] = string(value)
	}
	return pub
}

// ClientInfo returns the info that AppendClientInfo wrote, for clients of that
// encoding: for JSON its raw fields are JSON. It is a copy.
func ClientInfo(enc Encoding, info []byte) *protocol.ClientInfo {
	i, _ := parseInfo(info) // as far as it can be read
	return &protocol.ClientInfo{User: string(i.user), Client: string(i.client), ConnInfo: Raw(enc, i.conn), ChanInfo: Raw(enc, i.chann)}
}

// Raw returns what a backend said, of a client or for it, for clients of that encoding: nil for
// nothing, and for JSON a value within the bounds of a payload. It is a copy.
func Raw(enc Encoding, b []byte) protocol.Raw {
	switch {
	case len(b) == 0:
		return nil
	case enc == JSON:
		return appendData(nil, b, !utf8.Valid(b))
	}
	return bytes.Clone(b)
}
