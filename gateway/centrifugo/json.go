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
	e := channel.ParseExtra(p.Extra)
	switch p.Kind {
	case channel.KindJoin:
		dst = append(dst, `"join":{"info":`...)
		dst = append(appendInfoJSON(dst, &e.Who), '}')
	case channel.KindLeave:
		dst = append(dst, `"leave":{"info":`...)
		dst = append(appendInfoJSON(dst, &e.Who), '}')
	default:
		dst = append(dst, `"pub":`...)
		dst = appendPublicationJSON(dst, p, &e)
	}
	return append(dst, '}')
}

func appendPublicationJSON(dst []byte, p *channel.Publication, e *channel.Extra) []byte {
	dst = append(dst, `{"data":`...)
	dst = AppendData(dst, p.Payload, p.Binary)
	if e.HasWho {
		dst = append(dst, `,"info":`...)
		dst = appendInfoJSON(dst, &e.Who)
	}
	if p.Offset != 0 {
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendUint(dst, p.Offset, 10)
	}
	if len(e.Tags) > 0 {
		dst = append(dst, `,"tags":`...)
		dst = appendTagsJSON(dst, e.Tags)
	}
	return append(dst, '}')
}

// appendInfoJSON adds a ClientInfo.
func appendInfoJSON(dst []byte, who *channel.Who) []byte {
	dst = append(dst, `{"user":`...)
	dst = wire.AppendBytes(dst, who.User)
	dst = append(dst, `,"client":`...)
	dst = wire.AppendBytes(dst, who.Client)
	if len(who.ConnInfo) > 0 {
		dst = append(dst, `,"conn_info":`...)
		dst = AppendData(dst, who.ConnInfo, !utf8.Valid(who.ConnInfo))
	}
	if len(who.ChanInfo) > 0 {
		dst = append(dst, `,"chan_info":`...)
		dst = AppendData(dst, who.ChanInfo, !utf8.Valid(who.ChanInfo))
	}
	return append(dst, '}')
}

// appendTagsJSON adds tags.
func appendTagsJSON(dst []byte, tags channel.Tags) []byte {
	dst = append(dst, '{')
	for first := true; len(tags) > 0; first = false {
		var key, value []byte
		key, value, tags = tags.Next()
		if !first {
			dst = append(dst, ',')
		}
		dst = append(wire.AppendBytes(dst, key), ':')
		dst = wire.AppendBytes(dst, value)
	}
	return append(dst, '}')
}

// AppendData adds a payload as a JSON value: the table of the package's comment.
func AppendData(dst, payload []byte, binary bool) []byte {
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
