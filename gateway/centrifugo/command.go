package centrifugo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"sluice/gateway/frame"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"github.com/segmentio/encoding/json"
	"google.golang.org/protobuf/encoding/protowire"
)

// Errors for malformed commands, which end with DisconnectBadRequest.
var (
	ErrJSON    = errors.New("centrifugo: a command is not JSON")
	ErrLength  = errors.New("centrifugo: a length does not fit its message")
	ErrNesting = errors.New("centrifugo: a command nests too deep")
	ErrText    = errors.New("centrifugo: a name in a command is not UTF-8")
)

// filterNestingMax is how deep the filter of a subscription may nest: the generated
// decoder recurses.
const filterNestingMax = 32

// Next decodes the first command of data, the payload of a frame or what is left of
// it. It used n bytes, with the separator: the rest of the payload is data[n:], and
// the frame is done when that is empty. Commands of JSON are apart by one line feed,
// and the last may have one too. Nothing of cmd lies in data.
func Next(enc Encoding, data []byte) (cmd *protocol.Command, n int, err error) {
	if enc == Protobuf {
		return nextProtobuf(data)
	}
	piece, n := data, len(data)
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		piece, n = data[:i], i+1
	}
	cmd = new(protocol.Command)
	if err := parseJSON(piece, cmd); err != nil {
		return nil, 0, err
	}
	return cmd, n, checkNames(cmd)
}

// DecodeConnect decodes the connect request of a client that is only sent to: its
// first message, or a parameter of its URL. Nothing of it lies in data.
func DecodeConnect(data []byte) (*protocol.ConnectRequest, error) {
	req := new(protocol.ConnectRequest)
	if err := parseJSON(data, req); err != nil {
		return nil, err
	}
	return req, checkNames(&protocol.Command{Connect: req})
}

// parseJSON decodes an object. The official decoder would let strings lie in data;
// this is the same parser without that flag.
func parseJSON(data []byte, into any) error {
	if i := skipSpace(data, 0); i == len(data) || data[i] != '{' || !validJSON(data) {
		return ErrJSON
	}
	_, err := json.Parse(data, into, 0)
	return err
}

// nextProtobuf decodes the message behind the length that data begins with.
func nextProtobuf(data []byte) (*protocol.Command, int, error) {
	size, n := binary.Uvarint(data)
	if n <= 0 || size > uint64(len(data)-n) {
		return nil, 0, ErrLength
	}
	body := data[n : n+int(size)]
	if !filtersShallow(body) {
		return nil, 0, ErrNesting
	}
	cmd := new(protocol.Command)
	if err := cmd.UnmarshalVT(body); err != nil {
		return nil, 0, err
	}
	return cmd, n + int(size), checkNames(cmd)
}

// filtersShallow looks for the only thing in a Command that nests: the filter of a
// SubscribeRequest, which stands in it or in the subs of a ConnectRequest.
func filtersShallow(command []byte) bool {
	filter := func(subscribe []byte) bool {
		return eachField(subscribe, 13, func(node []byte) bool { return nodeShallow(node, filterNestingMax) })
	}
	return eachField(command, 5, filter) &&
		eachField(command, 4, func(connect []byte) bool {
			return eachField(connect, 3, func(entry []byte) bool { return eachField(entry, 2, filter) })
		})
}

func nodeShallow(node []byte, depth int) bool {
	return depth > 0 && eachField(node, 6, func(child []byte) bool { return nodeShallow(child, depth-1) })
}

// eachField calls f with the value of every field num that holds bytes, until it
// gives false. A message that cannot be read is left to the decoder.
func eachField(b []byte, num protowire.Number, f func(value []byte) bool) bool {
	for len(b) > 0 {
		got, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return true
		}
		b = b[n:]
		if got == num && typ == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b)
			if !f(value) {
				return false
			}
		}
		if n = protowire.ConsumeFieldValue(got, typ, b); n < 0 {
			return true
		}
		b = b[n:]
	}
	return true
}

// checkNames refuses names that are not UTF-8, as Protobuf itself does and its
// generated decoder does not: they come out again at other clients.
func checkNames(cmd *protocol.Command) error {
	ok := utf8.ValidString(cmd.GetSubscribe().GetChannel()) &&
		utf8.ValidString(cmd.GetUnsubscribe().GetChannel()) &&
		utf8.ValidString(cmd.GetPublish().GetChannel()) &&
		utf8.ValidString(cmd.GetPresence().GetChannel()) &&
		utf8.ValidString(cmd.GetPresenceStats().GetChannel()) &&
		utf8.ValidString(cmd.GetHistory().GetChannel()) &&
		utf8.ValidString(cmd.GetSubRefresh().GetChannel()) &&
		utf8.ValidString(cmd.GetRpc().GetMethod()) &&
		utf8.ValidString(cmd.GetConnect().GetName()) &&
		utf8.ValidString(cmd.GetConnect().GetVersion())
	for name := range cmd.GetConnect().GetSubs() {
		ok = ok && utf8.ValidString(name)
	}
	if !ok {
		return ErrText
	}
	return nil
}

// IsPong reports whether data, the payload of a frame, is one empty command: the
// answer to a ping. It allocates nothing.
func IsPong(enc Encoding, data []byte) bool {
	if enc == Protobuf {
		return len(data) == 1 && data[0] == 0
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	if bytes.IndexByte(data, '\n') >= 0 {
		return false
	}
	i := skipSpace(data, 0)
	if i == len(data) || data[i] != '{' {
		return false
	}
	i = skipSpace(data, i+1)
	return i < len(data) && data[i] == '}' && skipSpace(data, i+1) == len(data)
}

// op is the opcode of a client's messages.
func (f Format) op() ws.OpCode {
	if f.Encoding == Protobuf {
		return ws.OpBinary
	}
	return ws.OpText
}

// message returns the message with which a client sends a command.
func (f Format) message(cmd *protocol.Command) (m frame.Message, ok bool) {
	var err error
	if m.Op = f.op(); f.Encoding == Protobuf {
		var body []byte
		body, err = cmd.MarshalVT()
		m.Payload = append(binary.AppendUvarint(nil, uint64(len(body))), body...)
	} else {
		m.Payload, err = protocol.NewJSONCommandEncoder().Encode(cmd)
	}
	return m, err == nil
}
