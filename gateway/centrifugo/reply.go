package centrifugo

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"sluice/gateway/channel"
	"sluice/gateway/frame"
	"sluice/gateway/wire"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"google.golang.org/protobuf/encoding/protowire"
)

// AppendReply adds a whole frame with one reply. For JSON its raw fields must be
// JSON: the error says that they are not, and then dst comes back as it was.
func AppendReply(dst []byte, f Format, r *protocol.Reply) ([]byte, error) {
	if f.Encoding == Protobuf {
		return f.appendMessage(dst, r)
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
		return f.appendMessage(dst, p)
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

// appendMessage adds one message behind its length, in its framing.
func (f Format) appendMessage(dst []byte, m message) ([]byte, error) {
	size, out := m.SizeVT(), dst
	if f.Framing == wire.WebSocket {
		out = frame.AppendHeader(out, ws.OpBinary, protowire.SizeBytes(size))
	}
	out = protowire.AppendVarint(out, uint64(size))
	start := len(out)
	out = slices.Grow(out, size)[:start+size]
	if _, err := m.MarshalToSizedBufferVT(out[start:]); err != nil {
		return dst, err
	}
	return out, nil
}

// ReadsInput reports whether clients can send anything.
func (f Format) ReadsInput() bool { return f.Framing.ReadsInput() }

// Pings returns when clients are pinged: their libraries expect a ping at each interval.
func (f Format) Pings() wire.Pings {
	if f.Uni {
		return wire.PingUnanswered
	}
	return wire.PingAnswered
}

// AppendPing adds a ping: an empty reply, or an empty push, as a whole frame, an
// event or a line.
func (f Format) AppendPing(dst []byte) []byte {
	if f.Encoding == Protobuf {
		return f.Framing.Append(dst, []byte{0}, true)
	}
	return f.Framing.Append(dst, []byte("{}"), false)
}

// AppendClose adds the end of a connection: a Close frame, or in a stream a push.
func (f Format) AppendClose(dst []byte, code ws.StatusCode, text string) []byte {
	if f.Framing == wire.WebSocket {
		return f.Framing.AppendClose(dst, code, text)
	}
	d := &protocol.Disconnect{Code: uint32(code), Reason: text, Reconnect: Reconnects(uint32(code))}
	dst, _ = AppendPush(dst, f, &protocol.Push{Disconnect: d}) // cannot fail: a number and a string
	return dst
}

// Publication returns a publication as replies list it, for clients of that encoding.
// It is a copy: nothing of p is kept.
func Publication(enc Encoding, p *channel.Publication) *protocol.Publication {
	pub := &protocol.Publication{Offset: p.Offset}
	if enc == JSON {
		pub.Data = AppendData(nil, p.Payload, p.Binary)
	} else {
		pub.Data = bytes.Clone(p.Payload)
	}
	e := channel.ParseExtra(p.Extra)
	if e.HasWho {
		pub.Info = clientInfo(enc, e.Who.Info())
	}
	for tags := e.Tags; len(tags) > 0; {
		var key, value []byte
		if pub.Tags == nil {
			pub.Tags = map[string]string{}
		}
		key, value, tags = tags.Next()
		pub.Tags[string(key)] = string(value)
	}
	return pub
}

// clientInfo returns who as replies have it, for clients of that encoding. It is a copy.
func clientInfo(enc Encoding, who *channel.ClientInfo) *protocol.ClientInfo {
	return &protocol.ClientInfo{User: who.User, Client: who.Client, ConnInfo: Raw(enc, who.ConnInfo), ChanInfo: Raw(enc, who.ChanInfo)}
}

// Raw returns what a backend said, of a client or for it, for clients of that encoding: nil for
// nothing, and for JSON a value within the bounds of a payload. It is a copy.
func Raw(enc Encoding, b []byte) protocol.Raw {
	switch {
	case len(b) == 0:
		return nil
	case enc == JSON:
		return AppendData(nil, b, !utf8.Valid(b))
	}
	return bytes.Clone(b)
}
