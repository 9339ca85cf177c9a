package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// dialect is one form of Centrifugo's client protocol. Commands, and all that is rare,
// go through package protocol; a plain publication is read where it lies.
type dialect interface {
	subprotocol() string // none: ""
	opcode() ws.OpCode   // of messages in both directions
	commands([]*protocol.Command) []byte
	pong() []byte // a frame

	// message takes one WebSocket message, which holds replies and pushes.
	message(r *receiver, c *conn, p []byte, now int64) error
}

// messageMost bounds a message of Centrifugo's protocol, which is only read once it is
// whole: a reply may hold all that a client has missed.
const messageMost = 512 << 10

// inJSON has one object on each line of a text message.
type inJSON struct{}

var jsonPong = maskedFrame(ws.OpText, []byte("{}"))

func (inJSON) subprotocol() string { return "" }
func (inJSON) opcode() ws.OpCode   { return ws.OpText }
func (inJSON) pong() []byte        { return jsonPong }

func (inJSON) commands(cmds []*protocol.Command) []byte {
	out := protocol.NewJSONDataEncoder()
	for _, cmd := range cmds {
		b, err := protocol.NewJSONCommandEncoder().Encode(cmd)
		if err != nil {
			panic(err) // our own commands are plain
		}
		out.Encode(b) // ignored: a buffer does not fail
	}
	return out.Finish()
}

func (d inJSON) message(r *receiver, c *conn, p []byte, now int64) error {
	for len(p) > 0 {
		line := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line, p = p[:i], p[i+1:]
		} else {
			p = nil
		}
		if sub, data, offset := d.publication(c.session, line); sub != nil {
			if err := r.pushed(c, sub, data, offset, now); err != nil {
				return err
			}
			continue
		}
		if c.member != nil && c.member.receipt(line, now) {
			continue
		}
		var reply protocol.Reply
		if err := json.Unmarshal(line, &reply); err != nil {
			return fmt.Errorf("%w: %.100q: %w", errProtocol, line, err)
		}
		if err := r.decoded(c, &reply, now); err != nil {
			return err
		}
	}
	return nil
}

var (
	jsonOffset = []byte(`,"offset":`)
	jsonEnd    = []byte("}}}")
)

// publication takes a push as nearly all are: data, its offset, and nothing behind it. It
// returns no subscription for any other.
//
//	{"push":{"channel":"news","pub":{"data":{"s":"..."},"offset":13}}}
//
// Read from its end, the offset cannot be one inside the data: there it would be
// followed by more than three braces.
func (inJSON) publication(s *session, line []byte) (sub *subscription, data []byte, offset uint64) {
	if !bytes.HasSuffix(line, jsonEnd) {
		return nil, nil, 0
	}
	digits := len(line) - len(jsonEnd)
	end := digits
	for digits > 0 && line[digits-1]-'0' <= 9 {
		digits--
	}
	if digits == end || !bytes.HasSuffix(line[:digits], jsonOffset) {
		return nil, nil, 0
	}
	for _, sub := range s.subs {
		if lead := sub.channel.lead; bytes.HasPrefix(line, lead) && len(lead) < digits-len(jsonOffset) {
			offset, _ = decimal(line[digits:end])
			return sub, line[len(lead) : digits-len(jsonOffset)], offset
		}
	}
	return nil, nil, 0
}

// inProtobuf has messages with their length before each, in a binary message.
type inProtobuf struct{}

var protobufPong = maskedFrame(ws.OpBinary, []byte{0})

func (inProtobuf) subprotocol() string { return "centrifuge-protobuf" }
func (inProtobuf) opcode() ws.OpCode   { return ws.OpBinary }
func (inProtobuf) pong() []byte        { return protobufPong }

func (inProtobuf) commands(cmds []*protocol.Command) (out []byte) {
	for _, cmd := range cmds {
		b, err := protocol.NewProtobufCommandEncoder().Encode(cmd)
		if err != nil {
			panic(err) // our own commands are plain
		}
		out = append(out, b...)
	}
	return out
}

func (d inProtobuf) message(r *receiver, c *conn, p []byte, now int64) error {
	for len(p) > 0 {
		size, n := binary.Uvarint(p)
		if n <= 0 || size > uint64(len(p)-n) {
			return fmt.Errorf("%w: a reply of %d bytes in a message with %d bytes left", errProtocol, size, len(p))
		}
		one := p[n : n+int(size)]
		p = p[n+int(size):]
		if sub, data, offset := d.publication(c.session, one); sub != nil {
			if err := r.pushed(c, sub, data, offset, now); err != nil {
				return err
			}
			continue
		}
		var reply protocol.Reply
		if err := reply.UnmarshalVT(one); err != nil {
			return fmt.Errorf("%w: %.100x: %w", errProtocol, one, err)
		}
		if err := r.decoded(c, &reply, now); err != nil {
			return err
		}
	}
	return nil
}

// The keys of what a push holds, in client.proto of package protocol.
const (
	keyPush    = 4<<3 | 2 // of Reply
	keyChannel = 2<<3 | 2 // of Push
	keyPub     = 4<<3 | 2 // of Push
	keyData    = 4<<3 | 2 // of Publication
	keyOffset  = 6 << 3   // of Publication, a varint
)

// publication takes a push with a channel and a publication of data and offset, in this
// order, and nothing else. It returns no subscription for any other.
func (inProtobuf) publication(s *session, p []byte) (sub *subscription, data []byte, offset uint64) {
	push, rest := block(p, keyPush)
	name, push := block(push, keyChannel)
	pub, behind := block(push, keyPub)
	data, pub = block(pub, keyData)
	if len(data) == 0 || len(rest) > 0 || len(behind) > 0 {
		return nil, nil, 0
	}
	if len(pub) > 0 {
		var n int
		if offset, n = binary.Uvarint(pub[1:]); pub[0] != keyOffset || n != len(pub)-1 {
			return nil, nil, 0
		}
	}
	for _, sub := range s.subs {
		if string(name) == sub.channel.name {
			return sub, data, offset
		}
	}
	return nil, nil, 0
}

// block returns the field with a length that p begins with, and what comes behind it; none
// when p begins with something else.
func block(p []byte, key byte) (field, rest []byte) {
	if len(p) < 2 || p[0] != key {
		return nil, p
	}
	size, n := binary.Uvarint(p[1:])
	if n <= 0 || size > uint64(len(p)-1-n) {
		return nil, p
	}
	return p[1+n : 1+n+int(size)], p[1+n+int(size):]
}
