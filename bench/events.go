package bench

import (
	"bytes"

	"github.com/gobwas/ws"
)

// An event stream is lines; an empty one ends an event (WHATWG HTML, 9.2.6). A
// line may end in LF or CRLF; a lone CR, which the standard allows as well, is not
// taken for an end.

// event is what is known of an event whose end has not come.
type event struct {
	kind  eventKind
	at    standing // its id
	moved bool     // the id is of another epoch
	data  bool
	code  ws.StatusCode // of eventClose
}

type eventKind uint8

const (
	eventMessage eventKind = iota // also those of a type that we do not know
	eventGap
	eventClose
	eventGreeting
)

var (
	dataField  = []byte("data:")
	dataBehind = []byte("\ndata:")
	idField    = []byte("id:")
	eventField = []byte("event:")
	codeKey    = []byte(`"code":`)
)

// feedEvents is feed for an event stream.
func (r *receiver) feedEvents(c *conn, p []byte, now int64) error {
	for len(p) > 0 {
		if n := r.publication(c, p, now); n > 0 {
			p = p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n')
		if c.midLine {
			if end < 0 {
				p = nil
				break
			}
			c.midLine, p = false, p[end+1:]
			continue
		}
		line := p
		if end < 0 {
			if len(p) < envelopeMax {
				break
			}
			c.midLine, p = true, nil // what matters lies at its start
		} else {
			line, p = p[:end], p[end+1:]
			if end > 0 && line[end-1] == '\r' {
				line = line[:end-1]
			}
		}
		if len(line) > 0 {
			r.line(c, line[:min(len(line), envelopeMax)]) // the same of a line whether it came whole or not
		} else if err := r.eventDone(c, now); err != nil {
			return err
		}
	}
	if len(p) > 0 || len(c.partial) > 0 {
		c.partial = append(c.partial[:0], p...)
	}
	return nil
}

// publication takes an event as nearly all are, one that is whole: an id that
// begins like the last one, one line of data, the end. It returns the event's size,
// zero for any other.
func (r *receiver) publication(c *conn, p []byte, now int64) int {
	l := r.leadOf(c)
	if len(l.text) == 0 || !bytes.HasPrefix(p, l.text) || c.midLine || c.event != (event{}) {
		return 0
	}
	offset, size := decimal(p[len(l.text):])
	at := len(l.text) + size
	if size == 0 || !bytes.HasPrefix(p[at:], dataBehind) {
		return 0
	}
	at += len(dataBehind)
	end := bytes.IndexByte(p[at:], '\n')
	if end < 0 || len(p) == at+end+1 || p[at+end+1] != '\n' {
		return 0
	}
	r.inEpoch = l.hash
	r.follow(&c.stands, unknown, offset)
	if s, own := r.findOwn(p[at : at+min(end, envelopeMax-len(dataField))]); own { // as of a line
		r.arrived(c, s, now)
	}
	return at + end + 2
}

// line takes one line of an event. Comments and fields that we do not need are
// passed over.
func (r *receiver) line(c *conn, line []byte) {
	switch {
	case line[0] == 'd' && bytes.HasPrefix(line, dataField):
		if c.event.data {
			return // the stamp must lie in the first line
		}
		c.event.data = true
		switch c.event.kind {
		case eventMessage:
			c.held, c.heldOwn = r.findOwn(line[len(dataField):])
		case eventClose:
			if i := bytes.Index(line, codeKey); i >= 0 {
				code, _ := decimal(line[i+len(codeKey):]) // no number is zero, which is counted as none
				c.event.code = ws.StatusCode(code)
			}
		}
	case line[0] == 'i' && bytes.HasPrefix(line, idField):
		c.event.at, c.event.moved = r.leadOf(c).eventID(line)
	case line[0] == 'e' && bytes.HasPrefix(line, eventField):
		switch string(bytes.TrimPrefix(line[len(eventField):], []byte(" "))) {
		case "gap":
			c.event.kind = eventGap
		case "close":
			c.event.kind = eventClose
		case "greeting":
			c.event.kind = eventGreeting
		}
	}
}

// eventID returns the position that an id is, and reports whether it is of another epoch.
func (l *lead) eventID(line []byte) (at standing, moved bool) {
	if len(l.text) == 0 || !bytes.HasPrefix(line, l.text) {
		i := bytes.LastIndexByte(line, ':')
		if i < len(idField) {
			return at, false
		}
		moved = l.learn(line[:i+1], bytes.TrimPrefix(line[len(idField):i], []byte(" ")))
	}
	offset, size := decimal(line[len(l.text):])
	return standing{size > 0, offset}, moved
}

// eventDone takes the end of an event. One that has an id and no data, or tells of
// a gap, says where the connection stands.
func (r *receiver) eventDone(c *conn, now int64) error {
	e := c.event
	c.event = event{}
	switch {
	case e.kind == eventClose:
		if e.code.Empty() {
			e.code = ws.StatusNoStatusRcvd
		}
		r.closes[e.code]++
		return errClosed
	case e.kind == eventGap:
		r.gaps++
		c.stands = e.at
	case e.kind == eventGreeting:
	case e.at.known && !e.data: // it says where the connection stands, which must be where it stood
		switch {
		case c.stands.known && e.at.offset > c.stands.offset:
			r.holes++
		case c.stands.known && e.at.offset < c.stands.offset:
			r.repeats++
		}
		c.stands = e.at
	case e.data:
		if e.moved {
			r.moved(c)
		}
		if e.at.known {
			r.inEpoch = r.leadOf(c).hash
			r.follow(&c.stands, unknown, e.at.offset)
		}
		if c.heldOwn {
			if !e.at.known {
				r.holes++ // nobody can resume from it
				r.inEpoch = 0
			}
			c.heldOwn = false
			r.arrived(c, c.held, now)
		}
	}
	return nil
}
