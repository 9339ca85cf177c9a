package centrifugo

import (
	"maps"
	"slices"
	"strings"

	"github.com/centrifugal/protocol"
	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of fields in client.proto that are written or read here.
const (
	replyPush protowire.Number = 4

	pushChannel protowire.Number = 2
	pushPub     protowire.Number = 4
	pushJoin    protowire.Number = 5
	pushLeave   protowire.Number = 6

	pubData   protowire.Number = 4
	pubInfo   protowire.Number = 5
	pubOffset protowire.Number = 6
	pubTags   protowire.Number = 7

	joinInfo protowire.Number = 1 // of a Leave too

	infoUser     protowire.Number = 1
	infoClient   protowire.Number = 2
	infoConnInfo protowire.Number = 3
	infoChanInfo protowire.Number = 4

	entryKey   protowire.Number = 1
	entryValue protowire.Number = 2
)

// AppendExtra adds what a channel.Publication has as its Extra: the publisher, if
// info is not nil, and the tags. What is not UTF-8 in their strings is replaced.
func AppendExtra(dst []byte, info *protocol.ClientInfo, tags map[string]string) []byte {
	if info != nil {
		body := AppendClientInfo(nil, info)
		dst = appendBytesField(dst, pubInfo, body)
	}
	if len(tags) == 0 {
		return dst
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) { // the same bytes for the same tags
		k, v := strings.ToValidUTF8(key, "\ufffd"), strings.ToValidUTF8(tags[key], "\ufffd")
		dst = protowire.AppendTag(dst, pubTags, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(bytesFieldLen(len(k))+bytesFieldLen(len(v))))
		dst = appendBytesField(dst, entryKey, k)
		dst = appendBytesField(dst, entryValue, v)
	}
	return dst
}

// AppendClientInfo adds an info as Protobuf: the payload of a join and of a leave.
// What is not UTF-8 in its strings is replaced.
func AppendClientInfo(dst []byte, info *protocol.ClientInfo) []byte {
	if info.User != "" {
		dst = appendBytesField(dst, infoUser, strings.ToValidUTF8(info.User, "\ufffd"))
	}
	if info.Client != "" {
		dst = appendBytesField(dst, infoClient, strings.ToValidUTF8(info.Client, "\ufffd"))
	}
	if len(info.ConnInfo) > 0 {
		dst = appendBytesField(dst, infoConnInfo, info.ConnInfo)
	}
	if len(info.ChanInfo) > 0 {
		dst = appendBytesField(dst, infoChanInfo, info.ChanInfo)
	}
	return dst
}

func appendBytesField[T ~string | ~[]byte](dst []byte, num protowire.Number, value T) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// bytesFieldLen returns the size of a field with a value of n bytes. The numbers used
// here are below 16, so that the tag is one byte.
func bytesFieldLen(n int) int { return 1 + protowire.SizeBytes(n) }

// extra is what an Extra says. Its slices lie in it.
type extra struct {
	info    []byte // a ClientInfo
	hasInfo bool
	tags    []byte // fields of tags, each of which nextTag can read
}

// parseExtra reads what AppendExtra wrote. Anything else is refused as a whole, so
// that it cannot break the frame that it would stand in.
func parseExtra(b []byte) (e extra, ok bool) {
	if len(b) == 0 {
		return extra{}, true
	}
	if value, n := consumeField(b, pubInfo); n > 0 {
		if _, ok := parseInfo(value); !ok {
			return extra{}, false
		}
		e.info, e.hasInfo, b = value, true, b[n:]
	}
	e.tags = b
	for len(b) > 0 {
		entry, n := consumeField(b, pubTags)
		if n <= 0 {
			return extra{}, false
		}
		_, k := consumeField(entry, entryKey)
		if k <= 0 {
			return extra{}, false
		}
		if _, v := consumeField(entry[k:], entryValue); v <= 0 || k+v != len(entry) {
			return extra{}, false
		}
		b = b[n:]
	}
	return e, true
}

// nextTag takes the first tag. The tags are those of an extra.
func nextTag(tags []byte) (key, value, rest []byte) {
	entry, n := consumeField(tags, pubTags)
	key, k := consumeField(entry, entryKey)
	value, _ = consumeField(entry[k:], entryValue)
	return key, value, tags[n:]
}

// clientInfo is what a ClientInfo says. Its slices lie in it.
type clientInfo struct{ user, client, conn, chann []byte }

// parseInfo reads what AppendClientInfo wrote; of anything else, what comes before
// the first fault.
func parseInfo(b []byte) (i clientInfo, ok bool) {
	for _, field := range [...]struct {
		num protowire.Number
		to  *[]byte
	}{{infoUser, &i.user}, {infoClient, &i.client}, {infoConnInfo, &i.conn}, {infoChanInfo, &i.chann}} {
		if value, n := consumeField(b, field.num); n > 0 {
			*field.to, b = value, b[n:]
		}
	}
	return i, len(b) == 0
}

// consumeField takes the field num, whose value is bytes, off the front of b: n is
// its size with its tag. Where it does not stand there n is not positive.
func consumeField(b []byte, num protowire.Number) (value []byte, n int) {
	if len(b) == 0 || b[0] != byte(num)<<3|byte(protowire.BytesType) {
		return nil, 0
	}
	value, n = protowire.ConsumeBytes(b[1:])
	if n < 0 {
		return nil, n
	}
	return value, 1 + n
}
