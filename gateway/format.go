package gateway

import (
	"encoding/base64"
	"strconv"

	"sluice/gateway/channel"
	"sluice/gateway/frame"

	"github.com/gobwas/ws"
)

// format is a wire format, with what a subscriber is sent beside publications. A
// format is a comparable value: subscribers with equal formats share a log.
type format interface {
	channel.Format
	// appendPlace adds the record of the place where a subscriber begins, and nothing in
	// formats without offsets.
	appendPlace(dst []byte, p *place) []byte
	// appendGreeting adds the text that each new client is sent first.
	appendGreeting(dst []byte, text string) []byte
}

// place is where a subscriber begins in a channel's order.
type place struct {
	channel string
	at      channel.Place
	gap     bool   // not everything since the place that was asked for is kept
	conn    uint64 // id of the subscriber's own connection
}

// rawFormat is the wire format of raw clients: one unmasked frame for each
// publication, and nothing else.
type rawFormat struct{}

// Append implements channel.Format.
func (rawFormat) Append(dst []byte, p *channel.Publication) []byte {
	(*conn)(nil).plant("append")
	if p.Kind != channel.KindMessage {
		return dst // joins and leaves are the client protocol's
	}
	op := ws.OpText
	if p.Binary {
		op = ws.OpBinary
	}
	return frame.Append(dst, op, p.Payload)
}

func (rawFormat) appendPlace(dst []byte, _ *place) []byte { return dst }

func (rawFormat) appendGreeting(dst []byte, text string) []byte {
	return frame.Append(dst, ws.OpText, []byte(text))
}

// jsonFormat is the wire format of raw clients that asked for ?format=json: a text
// frame with a JSON object for each publication.
type jsonFormat struct{}

// Append implements channel.Format.
func (jsonFormat) Append(dst []byte, p *channel.Publication) []byte {
	if p.Kind != channel.KindMessage {
		return dst
	}
	start := len(dst)
	return textFrame(appendRecord(append(dst, headerSpace...), p), start)
}

func (jsonFormat) appendPlace(dst []byte, p *place) []byte {
	start := len(dst)
	return textFrame(appendPlaceRecord(append(dst, headerSpace...), p), start)
}

func (jsonFormat) appendGreeting(dst []byte, text string) []byte {
	start := len(dst)
	dst = append(append(dst, headerSpace...), `{"greeting":`...)
	return textFrame(append(appendString(dst, text), '}'), start)
}

// headerSpace is room for the longest header of a frame that is not masked.
var headerSpace = make([]byte, 10)

// textFrame makes a frame of what stands behind the header's space at start. Its
// length is known only now; the payload moves down to its header.
func textFrame(dst []byte, start int) []byte {
	payload := dst[start+len(headerSpace):]
	head := frame.AppendHeader(dst[:start], ws.OpText, len(payload))
	return append(head, payload...) // overlaps: append is memmove
}

// appendRecord adds a publication as a JSON object. Its keys and their order are
// part of the protocol (PROTOCOL.md).
func appendRecord(dst []byte, p *channel.Publication) []byte {
	dst = append(dst, `{"channel":`...)
	dst = appendString(dst, p.Channel)
	if p.Offset > 0 { // else it passes, and leaves the reader where it is
		dst = appendPosition(dst, p.Epoch, p.Offset)
	}
	dst = append(dst, `,"at":`...)
	dst = strconv.AppendInt(dst, p.At, 10)
	dst = append(dst, `,"from":"`...)
	if p.From == 0 {
		dst = append(dst, "api"...)
	} else {
		dst = strconv.AppendUint(dst, p.From, 10)
	}
	if p.Binary {
		dst = append(dst, `","base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, p.Payload)
		return append(dst, `"}`...)
	}
	dst = append(dst, `","data":`...)
	return append(appendString(dst, p.Payload), '}')
}

// appendPlaceRecord adds the JSON object that says where a subscriber begins.
func appendPlaceRecord(dst []byte, p *place) []byte {
	dst = append(dst, `{"gap":`...)
	dst = strconv.AppendBool(dst, p.gap)
	dst = append(dst, `,"channel":`...)
	dst = appendString(dst, p.channel)
	dst = appendPosition(dst, p.at.Epoch, p.at.Offset)
	dst = append(dst, `,"conn":"`...)
	dst = strconv.AppendUint(dst, p.conn, 10)
	return append(dst, `"}`...)
}

func appendPosition(dst []byte, epoch channel.Epoch, offset uint64) []byte {
	dst = append(dst, `,"epoch":"`...)
	dst = epoch.Append(dst)
	dst = append(dst, `","offset":`...)
	return strconv.AppendUint(dst, offset, 10)
}

// appendString adds UTF-8 text as a JSON string (RFC 8259 section 7): only what
// must be escaped is. encoding/json would allocate, and escape <, > and & for
// pages that put JSON into HTML.
func appendString[T string | []byte](dst []byte, text T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := range len(text) {
		b := text[i]
		if b >= ' ' && b != '"' && b != '\\' {
			continue
		}
		dst = append(dst, text[start:i]...)
		start = i + 1
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		}
	}
	return append(append(dst, text[start:]...), '"')
}

// streamFormat is the wire format of event streams (HTML standard, section 9.2): an
// event for each publication, with its position as the event's id.
type streamFormat struct {
	json bool // data is the publication's record; else its payload
}

// Append implements channel.Format.
func (f streamFormat) Append(dst []byte, p *channel.Publication) []byte {
	if p.Kind != channel.KindMessage {
		return dst
	}
	if p.Offset > 0 { // else it passes, and leaves the reader where it is
		dst = appendEventID(dst, p.Epoch, p.Offset)
	}
	switch {
	case f.json:
		dst = appendRecord(append(dst, "data: "...), p)
		return append(dst, "\n\n"...)
	case p.Binary:
		dst = append(dst, "event: binary\ndata: "...)
		dst = base64.StdEncoding.AppendEncode(dst, p.Payload)
		return append(dst, "\n\n"...)
	}
	return append(appendData(dst, p.Payload), '\n')
}

// appendPlace says without an event where the stream begins, so that a browser
// which loses the connection before anything came asks for what came since; a
// gap is an event.
func (streamFormat) appendPlace(dst []byte, p *place) []byte {
	dst = appendEventID(dst, p.at.Epoch, p.at.Offset)
	if p.gap {
		dst = append(dst, "event: gap\ndata: "...)
		dst = append(appendPlaceRecord(dst, p), '\n')
	}
	return append(dst, '\n')
}

func (streamFormat) appendGreeting(dst []byte, text string) []byte {
	dst = append(dst, "event: greeting\n"...)
	return append(appendData(dst, []byte(text)), '\n')
}

func appendEventID(dst []byte, epoch channel.Epoch, offset uint64) []byte {
	dst = append(dst, "id: "...)
	dst = append(epoch.Append(dst), ':')
	return append(strconv.AppendUint(dst, offset, 10), '\n')
}

// appendData adds text as data fields. A line ends at CR, LF or CRLF there, and
// the reader puts the lines together with LF.
func appendData(dst, text []byte) []byte {
	start := 0
	for i := 0; i <= len(text); i++ {
		if i < len(text) && text[i] != '\n' && text[i] != '\r' {
			continue
		}
		dst = append(dst, "data: "...)
		dst = append(dst, text[start:i]...)
		dst = append(dst, '\n')
		if i+1 < len(text) && text[i] == '\r' && text[i+1] == '\n' {
			i++
		}
		start = i + 1
	}
	return dst
}
