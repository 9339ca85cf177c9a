package nats

import (
	"encoding/base64"

	"github.com/cespare/xxhash/v2"
)

// A channel's name is one token of a subject, its last one. Most names are tokens as they are. In others
// there are bytes that mean something in a subject (. * > and space) or that some server or tool may not
// like: those are encoded as a whole, behind a byte that no other token begins with. Tokens that begin with
// an exclamation mark are the engine's own. A name has at most 255 bytes, so a token has at most 341.

const (
	encodedMark = '='
	ownMark     = '!'
)

// probeToken is where messages go that only ask whether a stream answers. No channel has that token.
const probeToken = "!probe"

// plain are the bytes that names have which are tokens as they are.
var plain = func() (set [256]bool) {
	for _, b := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_:$#/-") {
		set[b] = true
	}
	return set
}()

var nameEncoding = base64.RawURLEncoding.Strict()

// token returns a channel's token. It allocates nothing for most names.
func token(channel string) string {
	if isPlain(channel) {
		return channel
	}
	b := make([]byte, 1+nameEncoding.EncodedLen(len(channel)))
	b[0] = encodedMark
	nameEncoding.Encode(b[1:], []byte(channel))
	return string(b)
}

// channelOf returns the channel that has a token. ok is false if no channel has it.
func channelOf(token string) (channel string, ok bool) {
	if token == "" || token[0] != encodedMark {
		return token, isPlain(token)
	}
	b, err := nameEncoding.DecodeString(token[1:])
	if err != nil || len(b) == 0 || isPlain(string(b)) {
		return "", false
	}
	return string(b), true
}

func isPlain(name string) bool {
	for i := range len(name) {
		if !plain[name[i]] {
			return false
		}
	}
	return name != ""
}

// hash decides which lane, stream and bucket a channel belongs to. It is the same on every node and in
// every version, because streams keep what they have.
func hash(channel string) uint64 { return xxhash.Sum64String(channel) }
