package centrifugo

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"sluice/gateway/channel"
	"sluice/gateway/wire"
)

// appendPushJSON adds a publication as a Push.
func appendPushJSON(dst []byte, p *channel.Publication) []byte {
	dst = append(dst, '{')
	if p.Channel != "" { // as the official encoder has it
		dst = append(dst, `"channel":`...)
		dst = append(wire.AppendString(dst, p.Channel), ',')
	}
	switch p.Kind {
	case channel.KindJoin:
		dst = append(dst, `"join":{"info":`...)
		dst = append(appendInfoJSON(dst, p.Payload), '}')
	case channel.KindLeave:
		dst = append(dst, `"leave":{"info":`...)
		dst = append(appendInfoJSON(dst, p.Payload), '}')
	default:
		dst = append(dst, `"pub":`...)
		dst = appendPublicationJSON(dst, p)
	}
	return append(dst, '}')
}

func appendPublicationJSON(dst []byte, p *channel.Publication) []byte {
	dst = append(dst, `{"data":`...)
	dst = appendData(dst, p.Payload, p.Binary)
	e, _ := parseExtra(p.Extra) // one that cannot be read says nothing
	if e.hasInfo {
		dst = append(dst, `,"info":`...)
		dst = appendInfoJSON(dst, e.info)
	}
	if p.Offset != 0 {
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendUint(dst, p.Offset, 10)
	}
	if len(e.tags) > 0 {
		dst = append(dst, `,"tags":`...)
		dst = appendTagsJSON(dst, e.tags)
	}
	return append(dst, '}')
}

// appendInfoJSON adds a ClientInfo, given as Protobuf.
func appendInfoJSON(dst, info []byte) []byte {
	i, _ := parseInfo(info) // as far as it can be read
	dst = append(dst, `{"user":`...)
	dst = wire.AppendBytes(dst, i.user)
	dst = append(dst, `,"client":`...)
	dst = wire.AppendBytes(dst, i.client)
	if len(i.conn) > 0 {
		dst = append(dst, `,"conn_info":`...)
		dst = appendData(dst, i.conn, !utf8.Valid(i.conn))
	}
	if len(i.chann) > 0 {
		dst = append(dst, `,"chan_info":`...)
		dst = appendData(dst, i.chann, !utf8.Valid(i.chann))
	}
	return append(dst, '}')
}

// appendTagsJSON adds tags, given as parseExtra has them.
func appendTagsJSON(dst, tags []byte) []byte {
	dst = append(dst, '{')
	for first := true; len(tags) > 0; first = false {
		var key, value []byte
		key, value, tags = nextTag(tags)
		if !first {
			dst = append(dst, ',')
		}
		dst = append(wire.AppendBytes(dst, key), ':')
		dst = wire.AppendBytes(dst, value)
	}
	return append(dst, '}')
}

// appendData adds a payload as a JSON value: the table of the package's comment.
func appendData(dst, payload []byte, binary bool) []byte {
	if binary {
		dst = append(dst, `{"base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, payload)
		return append(dst, `"}`...)
	}
	if !validJSON(payload) {
		return wire.AppendBytes(dst, payload)
	}
	return appendUnbroken(dst, payload)
}

// appendUnbroken adds JSON without the line breaks between its tokens: there are
// none elsewhere.
func appendUnbroken(dst, text []byte) []byte {
	if bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') < 0 {
		return append(dst, text...)
	}
	for _, b := range text {
		if b != '\n' && b != '\r' {
			dst = append(dst, b)
		}
	}
	return dst
}
