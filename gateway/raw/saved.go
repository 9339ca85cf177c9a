package raw

import (
	"encoding/binary"
	"slices"

	"sluice/gateway/channel"
	"sluice/gateway/frame"
	"sluice/gateway/hook/client"
	"sluice/gateway/loop"
	"sluice/gateway/saved"

	"github.com/gobwas/ws"
)

// savedVersion is that of what Save appends: a byte with the variant's index and the bits below,
// and the identity. savedHooked is that of a client about which hooks are asked: what they are sent of it follows, until when
// it may stay in its channel and, after a byte with the bits of opening, what it asks for if it is not there yet.
const (
	savedVersion = 1
	savedHooked  = 2
)

const (
	savedVariant byte = 1<<2 - 1
	// savedFormat: it has a subscription, in JSON with savedJSON.
	savedFormat, savedJSON byte = 1 << 2, 1 << 3
	// savedIdentity: its identity follows.
	savedIdentity byte = 1 << 4

	// Of an opening. savedOpens is set if there is one.
	savedOpens, savedConnect, savedSettled, savedGranted byte = 1 << 0, 1 << 1, 1 << 2, 1 << 3
	savedResumes, savedAsks, savedNoEcho, savedBlind     byte = 1 << 4, 1 << 5, 1 << 6, 1 << 7
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
	s := stateOf(c)
	if s == nil {
		return loop.AppendIdentity(append(dst, savedVersion, head|savedIdentity), who)
	}
	if s.opening != nil && s.opening.format == formatOf(c.Variant() == p.stream, true) {
		head |= savedJSON
	}
	return s.append(loop.AppendIdentity(append(dst, savedHooked, head|savedIdentity), who))
}

// append appends what hooks are sent of a client, and what else Save appends about it.
func (s *state) append(dst []byte) []byte {
	return s.opening.append(binary.AppendVarint(s.Client.Append(dst), s.until))
}

// append appends what a client asks for that is not in its channel yet.
func (o *opening) append(dst []byte) []byte {
	if o == nil {
		return append(dst, 0)
	}
	bits := savedOpens
	for _, b := range o.bits() {
		if *b.is {
			bits |= b.bit
		}
	}
	dst = append(saved.AppendBytes(append(dst, bits), o.channel), byte(o.ask.Kind))
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(o.ask.At.Epoch)), o.ask.At.Offset)
	return saved.AppendBytes(binary.AppendUvarint(dst, uint64(o.ask.N)), o.cors.String())
}

// bits are what is saved of an opening as bits.
func (o *opening) bits() []savedBit {
	return []savedBit{{savedConnect, &o.connect}, {savedSettled, &o.settled}, {savedGranted, &o.granted}, {savedResumes, &o.resumes},
		{savedAsks, &o.asks}, {savedNoEcho, &o.NoEcho}, {savedBlind, &o.blind}}
}

type savedBit struct {
	bit byte
	is  *bool
}

// readOpening reads what append has appended, nil for nothing.
func readOpening(r *saved.Reader, f rawFormat) *opening {
	bits := r.Byte()
	if bits&savedOpens == 0 {
		if bits != 0 {
			r.Fail()
		}
		return nil
	}
	o := &opening{rawStart: rawStart{format: f}}
	for _, b := range o.bits() {
		*b.is = bits&b.bit != 0
	}
	o.channel, o.ask.Kind = string(r.Bytes()), channel.AskKind(r.Byte())
	o.ask.At = channel.Position{Epoch: channel.Epoch(r.Uint()), Offset: r.Uint()}
	o.ask.N, o.cors = int(r.Uint()), fieldsOf(string(r.Bytes()))
	if o.ask.Kind > channel.AskNewest || o.ask.N < 0 || !channel.ValidName(o.channel) {
		r.Fail()
	}
	return o
}

// Load implements loop.Protocol.
func (p *Protocol) Load(_ *loop.Loop, b []byte) (s loop.Saved, err error) {
	version := byte(savedVersion)
	if len(b) > 0 && b[0] == savedHooked {
		version = savedHooked
	}
	r := saved.Read("a connection", b, version)
	head, variants := r.Byte(), p.variants()
	i := int(head & savedVariant)
	if i >= len(variants) || head >= savedIdentity<<1 || version == savedHooked && head&savedIdentity == 0 {
		r.Fail()
		i = 0
	}
	s.Variant = variants[i]
	f := formatOf(s.Variant == p.stream, head&savedJSON != 0)
	if head&savedFormat != 0 {
		s.Formats = append(s.Formats, f)
	}
	if head&savedIdentity != 0 {
		s.Identity, s.Identified = new(loop.Identity), true
		loop.ReadIdentity(r, s.Identity)
	}
	if version == savedHooked && s.Identity != nil {
		st := &state{Client: client.Read(r), until: r.Int(), opening: readOpening(r, f)}
		s.Identity.State, s.Identified = st, st.opening == nil
	}
	if p.Policy.Hooked() && version == savedVersion { // the other process had none
		if s.Identity == nil {
			s.Identity = &loop.Identity{ID: loop.NewClientID()}
		}
		// Its time is that of its connection or of its channel: a hook that prolongs one must not prolong the other.
		s.Identity.State = &state{Client: client.New(nil), until: s.Identity.ExpireAt}
	}
	return s, r.End()
}

// Taken implements loop.Protocol: nothing of a connection is anywhere else.
func (p *Protocol) Taken(c *loop.Conn) {
	if s := stateOf(c); s != nil {
		s.Client.Taken(c, p.kindOf(c))
	}
}

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
