package centrifugo

import (
	"encoding/binary"
	"slices"

	"sluice/gateway/channel"
	"sluice/gateway/hook/client"
	"sluice/gateway/loop"
	"sluice/gateway/saved"

	"github.com/centrifugal/protocol"
)

// savedVersion is that of what Save appends: a byte with the variant's index and the bits below, the
// identity, the session's age, the disconnect, and for each subscription a byte with its bits and
// its detail. With savedHooked there follow what hooks are sent of the client, and what it has connected with if it is not
// connected yet. With savedStream the variants begin with streamVariant, and there follow a byte that is 1 if what savedHooked
// has comes next, and the secret of an emulated session, empty for none.
const (
	savedVersion = 1
	savedHooked  = 2
	savedStream  = 3
)

const (
	savedVariant                     byte = 1<<2 - 1
	streamVariant                    byte = 1 << 2 // the index of the first variant that only savedStream has
	savedIdentified, savedDisconnect byte = 1 << 2, 1 << 3

	savedJoins, savedDetail byte = 1 << 0, 1 << 1 // of a subscription
)

// Save implements loop.Protocol.
func (p *Protocol) Save(dst []byte, conn *loop.Conn) []byte {
	c := p.Client(conn)
	head := byte(slices.Index(p.variants, c.Variant()))
	version := byte(savedVersion)
	switch {
	case head >= streamVariant:
		version, head = savedStream, head-streamVariant
	case c.hooked != nil:
		version = savedHooked
	}
	if c.Identified() {
		head |= savedIdentified
	}
	if c.disconnect != nil {
		head |= savedDisconnect
	}
	dst = loop.AppendIdentity(append(dst, version, head), &c.session.Identity)
	dst = binary.AppendUvarint(dst, uint64(c.Loop().Now()-c.begun))
	if d := c.disconnect; d != nil {
		dst = saved.AppendBytes(binary.AppendUvarint(dst, uint64(d.Code)), d.Reason)
	}
	catching, f := c.CatchesUp()
	n := c.Refs()
	if f != nil {
		n++
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for i := range c.Refs() {
		r := c.Ref(i)
		dst = c.saveSubscription(dst, r.Channel(), r.Group().Format())
	}
	if f != nil {
		dst = c.saveSubscription(dst, catching, f)
	}
	if version == savedStream {
		dst = append(dst, 0)
		if c.hooked != nil {
			dst[len(dst)-1] = 1
		}
	}
	if c.hooked != nil {
		dst = c.hooked.append(dst)
	}
	if version == savedStream {
		var secret []byte
		if e := c.emulated(); e != nil {
			secret = e.secret[:]
		}
		dst = saved.AppendBytes(dst, secret)
	}
	return dst
}

// append appends what hooks are sent of a client.
func (h *hooked) append(dst []byte) []byte { return saved.AppendBytes(h.Append(dst), h.request) }

// saveSubscription appends what the protocol keeps of a subscription.
func (c clientConn) saveSubscription(dst []byte, name string, f channel.Format) []byte {
	bits := byte(0)
	if f.(Format).Joins {
		bits |= savedJoins
	}
	d := c.details[name]
	if d == nil {
		return append(dst, bits)
	}
	dst = saved.AppendBytes(append(dst, bits|savedDetail), name)
	return binary.AppendVarint(saved.AppendBytes(dst, d.info), d.expireAt)
}

// Taken implements loop.Protocol: who is there is shown, and not announced.
func (p *Protocol) Taken(conn *loop.Conn) {
	c := p.Client(conn)
	if c.hooked != nil {
		c.hooked.Taken(conn, c.format.kind())
	}
	if e := c.emulated(); e != nil && c.Identified() {
		c.known(e)
	}
	c.showPresence("")
}

// Load implements loop.Protocol.
func (p *Protocol) Load(l *loop.Loop, b []byte) (loop.Saved, error) {
	version := byte(savedVersion)
	if len(b) > 0 && (b[0] == savedHooked || b[0] == savedStream) {
		version = b[0]
	}
	r := saved.Read("a connection", b, version)
	head := r.Byte()
	if head >= savedDisconnect<<1 {
		r.Fail()
	}
	index := head & savedVariant
	if version == savedStream {
		index += streamVariant
	}
	v := p.variants[index]
	ses := newSession(v.Framing.(Format))
	loop.ReadIdentity(r, &ses.Identity)
	ses.begun = l.Now() - uint32(r.Uint())
	if head&savedDisconnect != 0 {
		ses.disconnect = &protocol.Disconnect{Code: uint32(r.Uint()), Reason: string(r.Bytes())}
	}
	s := loop.Saved{Variant: v, Identity: &ses.Identity, Identified: head&savedIdentified != 0}
	for range r.Count() {
		bits, f := r.Byte(), ses.format
		if bits >= savedDetail<<1 {
			r.Fail()
		}
		f.Joins = bits&savedJoins != 0
		s.Formats = append(s.Formats, f.Shared())
		if bits&savedDetail != 0 {
			name := string(r.Bytes())
			ses.setDetail(name, detail{info: r.Bytes(), expireAt: r.Int()})
		}
	}
	hooks := version == savedHooked
	if version == savedStream {
		hooks = r.Byte() == 1
	}
	switch {
	case hooks:
		if h := (&hooked{client.Read(r), r.Bytes()}); p.Policy.Hooked() { // else this process has none
			ses.hooked = h
		}
	case p.Policy.Hooked(): // the other process had none
		ses.hooked = &hooked{Client: client.New(nil)}
	}
	if version == savedStream {
		secret := r.Bytes()
		if e, ok := ses.State.(*emulated); ok && copy(e.secret[:], secret) != len(e.secret) {
			r.Fail()
		}
	}
	return s, r.End()
}

// Describe implements loop.Protocol.
func (p *Protocol) Describe(c *loop.Conn, d *loop.Description) {
	d.Format = p.Client(c).format.String()
}
