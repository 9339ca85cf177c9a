package raw

import (
	"slices"

	"sluice/gateway/frame"
	"sluice/gateway/loop"
	"sluice/gateway/saved"

	"github.com/gobwas/ws"
)

// savedVersion is that of what Save appends: a byte with the variant's index and the bits below,
// and the identity.
const savedVersion = 1

const (
	savedVariant byte = 1<<2 - 1
	// savedFormat: it has a subscription, in JSON with savedJSON.
	savedFormat, savedJSON byte = 1 << 2, 1 << 3
	// savedIdentity: its identity follows.
	savedIdentity byte = 1 << 4
)

// Save implements loop.Protocol.
func (p *Protocol) Save(dst []byte, c *loop.Conn) []byte {
	head, who := byte(slices.Index(p.variants(), c.Variant())), c.Identity()
	if f := c.Format(); f != nil {
		head |= savedFormat
		if f == formatOf(c.Variant() == p.stream, true) {
			head |= savedJSON
		}
	}
	if who == nil {
		return append(dst, savedVersion, head)
	}
	return loop.AppendIdentity(append(dst, savedVersion, head|savedIdentity), who)
}

// Load implements loop.Protocol.
func (p *Protocol) Load(_ *loop.Loop, b []byte) (s loop.Saved, err error) {
	r := saved.Read("a connection", b, savedVersion)
	head, variants := r.Byte(), p.variants()
	i := int(head & savedVariant)
	if i >= len(variants) || head >= savedIdentity<<1 {
		r.Fail()
		i = 0
	}
	s.Variant = variants[i]
	if head&savedFormat != 0 {
		s.Formats = append(s.Formats, formatOf(s.Variant == p.stream, head&savedJSON != 0))
	}
	if head&savedIdentity != 0 {
		s.Identity = new(loop.Identity)
		loop.ReadIdentity(r, s.Identity)
		s.Identified = true
	}
	return s, r.End()
}

// Taken implements loop.Protocol: nothing of a connection is anywhere else.
func (*Protocol) Taken(*loop.Conn) {}

// Again implements loop.Publisher.
func (*Protocol) Again(_ *loop.Conn, _ string, payload []byte, binary bool) (frame.Message, bool) {
	if binary {
		return frame.Message{Op: ws.OpBinary, Payload: payload}, true
	}
	return frame.Message{Op: ws.OpText, Payload: payload}, true
}

// Describe implements loop.Protocol.
func (*Protocol) Describe(c *loop.Conn, d *loop.Description) {
	d.Format = "raw"
	if f, ok := c.Format().(rawFormat); ok {
		d.Format = f.String()
	}
}
