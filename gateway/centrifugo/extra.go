package centrifugo

import (
	"sluice/gateway/channel"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of fields in client.proto that are written here. They are below 16, so that a tag is
// one byte.
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

// infoLen returns the size of a ClientInfo.
func infoLen(who *channel.Who) int {
	return optionalLen(who.User) + optionalLen(who.Client) + optionalLen(who.ConnInfo) + optionalLen(who.ChanInfo)
}

// appendInfo adds a ClientInfo of n bytes as the field num.
func appendInfo(dst []byte, num protowire.Number, who *channel.Who, n int) []byte {
	dst = appendHead(dst, num, n)
	dst = appendOptional(dst, infoUser, who.User)
	dst = appendOptional(dst, infoClient, who.Client)
	dst = appendOptional(dst, infoConnInfo, who.ConnInfo)
	return appendOptional(dst, infoChanInfo, who.ChanInfo)
}

// tagsLen returns the size of the fields of tags.
func tagsLen(tags channel.Tags) (n int) {
	for len(tags) > 0 {
		var key, value []byte
		key, value, tags = tags.Next()
		n += bytesFieldLen(bytesFieldLen(len(key)) + bytesFieldLen(len(value)))
	}
	return n
}

// appendTags adds a field for each tag.
func appendTags(dst []byte, tags channel.Tags) []byte {
	for len(tags) > 0 {
		var key, value []byte
		key, value, tags = tags.Next()
		dst = appendHead(dst, pubTags, bytesFieldLen(len(key))+bytesFieldLen(len(value)))
		dst = appendBytesField(dst, entryKey, key)
		dst = appendBytesField(dst, entryValue, value)
	}
	return dst
}

func appendBytesField[T ~string | ~[]byte](dst []byte, num protowire.Number, value T) []byte {
	return append(appendHead(dst, num, len(value)), value...)
}

// appendHead adds the tag and the length of a field of n bytes.
func appendHead(dst []byte, num protowire.Number, n int) []byte {
	dst = append(dst, byte(num)<<3|byte(protowire.BytesType))
	if n < 1<<7 {
		return append(dst, byte(n))
	}
	return protowire.AppendVarint(dst, uint64(n))
}

// bytesFieldLen returns the size of a field with a value of n bytes.
func bytesFieldLen(n int) int { return 1 + protowire.SizeBytes(n) }

// appendOptional adds a field unless its value is empty; optionalLen returns its size.
func appendOptional[T ~string | ~[]byte](dst []byte, num protowire.Number, value T) []byte {
	if len(value) == 0 {
		return dst
	}
	return appendBytesField(dst, num, value)
}

func optionalLen[T ~string | ~[]byte](value T) int {
	if len(value) == 0 {
		return 0
	}
	return bytesFieldLen(len(value))
}
