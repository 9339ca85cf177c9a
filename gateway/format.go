package gateway

import (
	"encoding/base64"
	"strconv"

	"sluice/gateway/channel"
	"sluice/gateway/wire"
)

// format is a wire format, with what a subscriber is sent beside publications. A
// format is a comparable value: subscribers with equal formats share a log.
type format interface {
	channel.Format
	gapTeller
	// appendPlace adds the record of the place where a subscriber begins: nothing in formats
	// without offsets, nor where the subscriber knows it and the format has no other use of it.
	appendPlace(dst []byte, p *place) []byte
	// appendGreeting adds the text that each new client is sent first.
	appendGreeting(dst []byte, text string) []byte
}

// gapTeller is a format in which a subscriber can be told that it missed something.
type gapTeller interface{ TellsGaps() bool }

// place is where a subscriber begins in a channel's order.
type place struct {
	channel string
	at      channel.Place
	gap     bool   // not everything since the place that was asked for is kept
	known   bool   // it is where the subscriber asked to begin, or the first publication tells it
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
	return wire.WebSocket.Append(dst, p.Payload, p.Binary)
}

func (rawFormat) String() string { return "raw" }

// TellsGaps implements gapTeller: a message carries nothing that could tell one.
func (rawFormat) TellsGaps() bool { return false }

func (rawFormat) appendPlace(dst []byte, _ *place) []byte { return dst }

func (rawFormat) appendGreeting(dst []byte, text string) []byte {
	return wire.WebSocket.Append(dst, []byte(text), false)
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
	return wire.WebSocket.End(appendRecord(wire.WebSocket.Begin(dst), p), start)
}

func (jsonFormat) String() string { return "json" }

// TellsGaps implements gapTeller.
func (jsonFormat) TellsGaps() bool { return true }

func (jsonFormat) appendPlace(dst []byte, p *place) []byte {
	if p.known {
		return dst
	}
	start := len(dst)
	return wire.WebSocket.End(appendPlaceRecord(wire.WebSocket.Begin(dst), p), start)
}

func (jsonFormat) appendGreeting(dst []byte, text string) []byte {
	start := len(dst)
	dst = append(wire.WebSocket.Begin(dst), `{"greeting":`...)
	return wire.WebSocket.End(append(wire.AppendUTF8(dst, text), '}'), start)
}

// appendRecord adds a publication as a JSON object. Its keys and their order are
// part of the protocol (PROTOCOL.md).
func appendRecord(dst []byte, p *channel.Publication) []byte {
	dst = append(dst, `{"channel":`...)
	dst = wire.AppendUTF8(dst, p.Channel)
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
	return append(wire.AppendUTF8(dst, p.Payload), '}')
}

// appendPlaceRecord adds the JSON object that says where a subscriber begins.
func appendPlaceRecord(dst []byte, p *place) []byte {
	dst = append(dst, `{"gap":`...)
	dst = strconv.AppendBool(dst, p.gap)
	dst = append(dst, `,"channel":`...)
	dst = wire.AppendUTF8(dst, p.channel)
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
		dst = wire.AppendEventID(dst, p.Epoch, p.Offset)
	}
	if f.json {
		start := len(dst)
		return wire.SSE.End(appendRecord(wire.SSE.Begin(dst), p), start)
	}
	return wire.SSE.Append(dst, p.Payload, p.Binary)
}

func (f streamFormat) String() string {
	if f.json {
		return "json"
	}
	return "raw"
}

// TellsGaps implements gapTeller.
func (streamFormat) TellsGaps() bool { return true }

// appendPlace says without an event where the stream begins, so that a browser
// which loses the connection before anything came asks for what came since; a
// gap is an event.
func (streamFormat) appendPlace(dst []byte, p *place) []byte {
	dst = wire.AppendEventID(dst, p.at.Epoch, p.at.Offset)
	if !p.gap {
		return append(dst, '\n')
	}
	dst = wire.AppendEventName(dst, "gap")
	start := len(dst)
	return wire.SSE.End(appendPlaceRecord(wire.SSE.Begin(dst), p), start)
}

func (streamFormat) appendGreeting(dst []byte, text string) []byte {
	return wire.SSE.Append(wire.AppendEventName(dst, "greeting"), []byte(text), false)
}
