package loop

import (
	"errors"
	"unicode/utf8"

	"sluice/gateway/frame"
	"sluice/gateway/wire/deflate"

	"github.com/gobwas/ws"
)

// Compression is a bit of a connection, and no protocol knows of it. Such a connection is in the group of its
// format's compressed form (Group); its own bytes are not compressed. WebSocket allows that for each message, and
// in an event stream, which is one gzip member, they are stored blocks (seal). What a client sends compressed is
// inflated here, one message at a time, before its protocol sees it.

// A compressed message counts as more than one against the client's rate: one more for as many bytes that it inflates to,
// or for as many that it has, whichever is more. Blocks of nothing take most time, up to 90 ns for each of their bytes.
// It never counts as more than the client may send in a second, so no message is too many by itself.
const (
	inflatedPerMessage = 16 << 10
	deflatedPerMessage = 4 << 10
)

// gzips reports whether the connection is an event stream that is a gzip member.
func (c *Conn) gzips() bool { return c.has(bitCompressed) && !c.framing().ReadsInput() }

// seal makes the connection's own bytes, those of buf from start on, fit for what it has negotiated.
func (c *Conn) seal(buf []byte, start int) []byte {
	if !c.gzips() {
		return buf
	}
	return deflate.Seal(buf, start)
}

// limits returns what holds for the client's frames.
func (c *Conn) limits() *frame.Limits {
	if c.has(bitCompressed) {
		return &c.loop.compressed
	}
	return &c.loop.limits
}

// handleCompressed processes a compressed message, and reports whether it waits.
func (c *Conn) handleCompressed(m frame.Message) (waits bool) {
	c.Plant("handleCompressed")
	if p, ok := c.protocol().(Ignorer); (!ok || !p.IgnoresPayload(c)) && !c.inflate(&m) {
		return false
	}
	waits = c.await(c.protocol().Message(c, m))
	c.loop.inflater.Release()
	return waits
}

// inflate inflates a message, which is valid until the next one is inflated. It returns false if the client is closed
// for it.
func (c *Conn) inflate(m *frame.Message) bool {
	counted := len(m.Payload) / deflatedPerMessage
	if !c.countMore(0, counted) {
		return false
	}
	payload, err := c.loop.inflater.Inflate(m.Payload, c.loop.limits.MessageBytesMax)
	switch {
	case errors.Is(err, deflate.ErrTooBig):
		c.Close(ReasonTooBig)
		return false
	case errors.Is(err, deflate.ErrContext):
		c.Close(ReasonContext)
		return false
	case err != nil:
		c.Close(ReasonDeflate)
		return false
	case m.Op == ws.OpText && !utf8.Valid(payload):
		c.Close(ReasonText)
		return false
	}
	if !c.countMore(counted, len(payload)/inflatedPerMessage) {
		return false
	}
	m.Payload, m.Compressed = payload, false
	return true
}

// countMore counts a message as so many more, of which some are counted already. It returns false if the client is closed
// for it.
func (c *Conn) countMore(counted, more int) bool {
	for range min(more, c.messageRate().PerTick()) - counted {
		if !c.MayMessage() {
			c.Close(ReasonMessageRate)
			return false
		}
	}
	return true
}
