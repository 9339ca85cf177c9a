package channel

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// What a publication says beside its payload lies in one slice of bytes, as a history keeps it:
// whoMark and the four parts of a Who, then tagMark, key and value for each tag. Each part stands
// behind its length.
const (
	whoMark byte = 'w'
	tagMark byte = 't'
)

// Extra is what Publication.Extra says. Its slices lie in that.
type Extra struct {
	HasWho bool
	Who    Who
	Tags   Tags
}

// ClientInfo is a client as others see it: a subscriber, or the one that has published. With its
// tags it is the server API's as well.
type ClientInfo struct {
	User     string          `json:"user"`
	Client   string          `json:"client"`              // the connection's ID
	ConnInfo json.RawMessage `json:"conn_info,omitempty"` // JSON from its token, empty for none
	ChanInfo json.RawMessage `json:"chan_info,omitempty"` // JSON from its subscription token, empty for none
}

// Who is the ClientInfo in an Extra, which formats read without copying it. User and Client are UTF-8.
type Who struct{ User, Client, ConnInfo, ChanInfo []byte }

// Info returns the ClientInfo. Its infos lie in the Extra.
func (w *Who) Info() *ClientInfo {
	return &ClientInfo{User: string(w.User), Client: string(w.Client), ConnInfo: w.ConnInfo, ChanInfo: w.ChanInfo}
}

// AppendWho appends a client to an empty Extra. What is not UTF-8 in its strings is replaced.
func AppendWho(dst []byte, who *ClientInfo) []byte {
	user, client := valid(who.User), valid(who.Client)
	dst = slices.Grow(dst, 1+4*binary.MaxVarintLen32+len(user)+len(client)+len(who.ConnInfo)+len(who.ChanInfo))
	dst = append(dst, whoMark)
	dst = appendPart(appendPart(dst, user), client)
	return appendPart(appendPart(dst, who.ConnInfo), who.ChanInfo)
}

// AppendTags appends tags to an Extra that has none, the same bytes for the same tags. What is
// not UTF-8 in them is replaced.
func AppendTags(dst []byte, tags map[string]string) []byte {
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		dst = append(dst, tagMark)
		dst = appendPart(appendPart(dst, valid(key)), valid(tags[key]))
	}
	return dst
}

func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func appendPart[T ~string | ~[]byte](dst []byte, part T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(part))), part...)
}

// ParseExtra reads what AppendWho and AppendTags wrote. Anything else says nothing as a whole,
// so that it cannot break the frame that it would stand in.
func ParseExtra(b []byte) (e Extra) {
	if len(b) > 0 && b[0] == whoMark {
		var ok [4]bool
		e.HasWho = true
		e.Who.User, b, ok[0] = cutPart(b[1:])
		e.Who.Client, b, ok[1] = cutPart(b)
		e.Who.ConnInfo, b, ok[2] = cutPart(b)
		if e.Who.ChanInfo, b, ok[3] = cutPart(b); ok != [4]bool{true, true, true, true} {
			return Extra{}
		}
	}
	e.Tags = b
	for len(b) > 0 {
		_, rest, ok := cutPart(b[1:])
		if ok {
			_, rest, ok = cutPart(rest)
		}
		if !ok || b[0] != tagMark {
			return Extra{}
		}
		b = rest
	}
	return e
}

// cutPart returns the part at the front of b, and what follows it.
func cutPart(b []byte) (part, rest []byte, ok bool) {
	n, size := uint64(0), 1
	if len(b) > 0 && b[0] < 1<<7 { // quickly, because most are short
		n = uint64(b[0])
	} else {
		n, size = binary.Uvarint(b)
	}
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	b = b[size:]
	return b[:n:n], b[n:], true
}

// Tags are the tags of an Extra, in the order of their keys.
type Tags []byte

// Next returns the first of some tags, and the others.
func (t Tags) Next() (key, value []byte, rest Tags) {
	key, b, _ := cutPart(t[1:]) // ParseExtra has read them
	value, b, _ = cutPart(b)
	return key, value, b
}
