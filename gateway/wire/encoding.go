package wire

import (
	"encoding/base64"
	"strconv"

	"sluice/gateway/channel"
)

// Position is where a subscriber begins in a channel's order.
type Position struct {
	Channel string
	At      channel.Position
	Gap     bool   // not everything since the position that was asked for is kept
	Known   bool   // it is where the subscriber asked to begin, or the first publication shows it
	Conn    uint64 // ID of the subscriber's own connection, 0 for none
}

// Raw is the payload of each publication as a WebSocket message, and nothing else.
type Raw struct{}

// Append implements channel.Format.
func (Raw) Append(dst []byte, p *channel.Publication) []byte {
	if p.Kind != channel.KindMessage {
		return dst // joins and leaves are the Centrifugo protocol's
	}
	return WebSocket.Append(dst, p.Payload, p.Binary)
}

// String returns the name of the format.
func (Raw) String() string { return "raw" }

// TellsGaps reports that a subscriber cannot be notified of a gap.
func (Raw) TellsGaps() bool { return false }

// AppendPosition appends nothing: publications have no offsets.
func (Raw) AppendPosition(dst []byte, _ *Position) []byte { return dst }

// AppendGreeting appends a text that is sent first.
func (Raw) AppendGreeting(dst []byte, text string) []byte {
	return WebSocket.Append(dst, []byte(text), false)
}

// Record is a JSON object for each publication, as a WebSocket message.
type Record struct{}

// Append implements channel.Format.
func (f Record) Append(dst []byte, p *channel.Publication) []byte {
	switch p.Kind {
	case channel.KindMessage:
		start := len(dst)
		return WebSocket.End(appendRecord(WebSocket.Begin(dst), p), start)
	case channel.KindGap, channel.KindReset:
		return f.AppendPosition(dst, gapAt(p))
	}
	return dst
}

// String returns the name of the format.
func (Record) String() string { return "json" }

// TellsGaps reports that a subscriber can be notified of a gap.
func (Record) TellsGaps() bool { return true }

// AppendPosition appends the record of a position, unless the subscriber knows it.
func (Record) AppendPosition(dst []byte, p *Position) []byte {
	if p.Known {
		return dst
	}
	start := len(dst)
	return WebSocket.End(appendPosition(WebSocket.Begin(dst), p), start)
}

// AppendGreeting appends a text that is sent first.
func (Record) AppendGreeting(dst []byte, text string) []byte {
	start := len(dst)
	dst = append(WebSocket.Begin(dst), `{"greeting":`...)
	return WebSocket.End(append(AppendUTF8(dst, text), '}'), start)
}

// appendRecord appends a publication as a JSON object. Its keys and their order are part of
// the protocol (PROTOCOL.md).
func appendRecord(dst []byte, p *channel.Publication) []byte {
	dst = append(dst, `{"channel":`...)
	dst = AppendUTF8(dst, p.Channel)
	if p.Offset > 0 { // else it passes, and leaves the reader where it is
		dst = appendEpochOffset(dst, p.Epoch, p.Offset)
		dst = append(dst, `,"prev":`...)
		dst = strconv.AppendUint(dst, p.Prev, 10)
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
	return append(AppendUTF8(dst, p.Payload), '}')
}

// gapAt returns the position behind a gap or a reset, for all subscribers alike.
func gapAt(p *channel.Publication) *Position {
	return &Position{Channel: p.Channel, At: channel.Position{Epoch: p.Epoch, Offset: p.Prev}, Gap: true}
}

// appendPosition appends the JSON object that says where a subscriber begins.
func appendPosition(dst []byte, p *Position) []byte {
	dst = append(dst, `{"gap":`...)
	dst = strconv.AppendBool(dst, p.Gap)
	dst = append(dst, `,"channel":`...)
	dst = AppendUTF8(dst, p.Channel)
	dst = appendEpochOffset(dst, p.At.Epoch, p.At.Offset)
	if p.Conn != 0 {
		dst = append(dst, `,"conn":"`...)
		dst = strconv.AppendUint(dst, p.Conn, 10)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

func appendEpochOffset(dst []byte, epoch channel.Epoch, offset uint64) []byte {
	dst = append(dst, `,"epoch":"`...)
	dst = epoch.Append(dst)
	dst = append(dst, `","offset":`...)
	return strconv.AppendUint(dst, offset, 10)
}

// Event is an event for each publication, with its position as the event's ID.
type Event struct {
	JSON bool // data is the publication's record; else its payload
}

// Append implements channel.Format.
func (f Event) Append(dst []byte, p *channel.Publication) []byte {
	switch p.Kind {
	case channel.KindMessage:
	case channel.KindGap, channel.KindReset:
		return f.AppendPosition(dst, gapAt(p))
	default:
		return dst
	}
	if p.Offset > 0 { // else it passes, and leaves the reader where it is
		dst = AppendEventID(dst, p.Epoch, p.Offset)
	}
	if f.JSON {
		start := len(dst)
		return SSE.End(appendRecord(SSE.Begin(dst), p), start)
	}
	return SSE.Append(dst, p.Payload, p.Binary)
}

// String returns the name of the format.
func (f Event) String() string {
	if f.JSON {
		return "json"
	}
	return "raw"
}

// TellsGaps reports that a subscriber can be notified of a gap.
func (Event) TellsGaps() bool { return true }

// AppendPosition appends without an event where the stream begins, so that a browser whose
// connection ends before anything came asks for what came since. A gap is an event.
func (Event) AppendPosition(dst []byte, p *Position) []byte {
	dst = AppendEventID(dst, p.At.Epoch, p.At.Offset)
	if !p.Gap {
		return append(dst, '\n')
	}
	dst = AppendEventName(dst, "gap")
	start := len(dst)
	return SSE.End(appendPosition(SSE.Begin(dst), p), start)
}

// AppendGreeting appends a text that is sent first.
func (Event) AppendGreeting(dst []byte, text string) []byte {
	return SSE.Append(AppendEventName(dst, "greeting"), []byte(text), false)
}
