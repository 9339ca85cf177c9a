//go:build faults

package gateway

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/wire"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// machinePeer is a client of a machine: what it has sent and the kernel has not delivered yet,
// and what it was sent.
type machinePeer struct {
	m      *machine
	sock   *socket
	tls    *tls.Conn // nil for a plain one
	target target
	client centrifugo.Format
	dirty  bool   // it sent what is no TLS: what it is sent from then on may be an alert
	unsent []byte // on its way to the socket
	sealed []byte // came from the socket, with TLS
	buf    []byte // that is not looked at yet: a part of a frame
	opened bool   // the head of the response has come
	ended  bool   // a Close frame has come
	deaf   bool   // what comes is not understood any more
	place  int    // in its channel, of the next publication; -1 for any
	id     uint64
}

// machineHead stands for the head of a response.
const machineHead = "HTTP\n"

var machineChannels = [...]string{"a", "b", "c"}

// machineTargets are what clients speak.
var machineTargets = [...]struct {
	target
	client centrifugo.Format // of a client of the Centrifugo protocol
}{
	{target: target{variant: rawWebSocket, format: rawFormat{}}},
	{target: target{variant: rawWebSocket, format: jsonFormat{}}},
	{target: target{variant: rawWebSocket, format: rawFormat{}, noEcho: true}},
	{target: target{variant: rawWebSocket, format: jsonFormat{}, noEcho: true}},
	{target: target{variant: rawWebSocket, format: rawFormat{}, listen: true}},
	{target: target{variant: echoWebSocket, format: rawFormat{}}},
	{target: target{variant: rawStream, format: streamFormat{}, listen: true}},
	{target: target{variant: rawStream, format: streamFormat{json: true}, listen: true}},
	{target{variant: clientWebSocket}, centrifugo.Format{Encoding: centrifugo.JSON}},
	{target{variant: clientWebSocket}, centrifugo.Format{Encoding: centrifugo.Protobuf}},
	{target{variant: clientWebSocket}, centrifugo.Format{Encoding: centrifugo.JSON, Uni: true}},
	{target{variant: clientStream}, pushFormat},
	{target{variant: clientWebSocket}, centrifugo.Format{Encoding: centrifugo.Protobuf, Uni: true}},
}

// speaks reports whether it is a target of the Centrifugo protocol.
func (t *target) speaks() bool { return t.variant.protocol == connProtocol(centrifugoProtocol{}) }

// arrive brings a new client, if the place is free.
func (m *machine) arrive(i int, what, how byte) {
	old := m.peers[i]
	if old != nil && !old.sock.closed || m.l.stopping {
		return
	}
	if old != nil {
		old.look()
	}
	s := &socket{fd: machineFD + len(m.sockets), space: 1 << 30}
	m.sockets = append(m.sockets, s)
	kind := machineTargets[int(what)%len(machineTargets)]
	t := kind.target
	p := &machinePeer{m: m, sock: s, client: kind.client, place: -1}
	m.peers[i] = p
	t.channel = machineChannels[how&1]
	if t.variant == rawWebSocket && what >= 128 || t.variant == rawStream && what >= 64 {
		t.asks = true
		t.ask = [...]channel.Ask{{Kind: channel.AskNow}, {Kind: channel.AskNewest, N: 3}, {Kind: channel.AskSince, At: channel.Place{Epoch: 1, Offset: 1}}, {Kind: channel.AskNewest, N: 1 << 20}}[how>>1&3]
		if ch := m.server.space.Find(t.channel); ch != nil && t.ask.Kind == channel.AskSince {
			at := ch.Newest()
			t.ask.At = channel.Place{Epoch: at.Epoch, Offset: at.Offset - min(at.Offset, uint64(how>>3))}
		}
		t.blind = how == 255
	}
	if !t.speaks() && how&8 != 0 {
		t.identity = &identity{id: newClientID(), user: "u" + string('0'+how>>4&1), info: []byte(`{}`)}
	}
	if t.speaks() && (p.client.Framing == wire.SSE || p.client.Uni && how&4 != 0) {
		t.connect = []byte(`{}`)
		if m.server.policy.Tokens() != nil && how&8 != 0 {
			t.connect = []byte(`{"token":"` + machineToken + `"}`)
		}
	}
	if t.speaks() {
		t.identity = newSession(p.client)
	} else if text := m.server.cfg.Greeting; text != "" {
		t.greeting = t.format.appendGreeting(nil, text)
	}
	p.target = t
	a := &arrival{server: m.server, fd: s.fd, target: t, client: machineAddress, response: []byte(machineHead), from: m}
	if how&0xc0 >= 0x80 {
		p.tls, a.secure = machineHandshake(m, p)
	}
	if a.count = countedOpen; what == 99 {
		a.count = countedRefused
		m.server.refusing.Add(1)
	} else {
		m.server.connections.Add(1)
	}
	a.seat, _ = m.server.admission.Enter(machineAddress.Addr(), m.now.UnixMilli())
	if how&0x10 != 0 && t.variant == rawWebSocket {
		a.early = m.frames(p, how)
	}
	if how&0x20 != 0 {
		s.space = int(what)
	}
	a.deliver(m.l)
	if p.id = m.server.lastID.Load(); t.speaks() && t.connect == nil && how&7 != 7 {
		p.command(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{Token: m.token(how)}})
	}
}

// leave implements leaver.
func (m *machine) leave() {}

// machineToken is one that a verifier with a key for ES256 has to calculate for.
var machineToken = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + ".e30.AAAA"

func (m *machine) token(how byte) string {
	if m.server.policy.Tokens() == nil || how&0x30 == 0 {
		return ""
	}
	return machineToken
}

func machinePEM(t testing.TB) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// machineTLS are the configurations of both sides, with one version and the other. The
// sessions of TLS 1.2 are resumed, which is much cheaper; the pipe has no room for the
// tickets of the other.
var machineTLS = sync.OnceValue(func() (all [2][2]*tls.Config) {
	curves := []tls.CurveID{tls.X25519}
	for i, version := range [...]uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server := hardened(&tls.Config{Certificates: []tls.Certificate{testCertificate()}, MaxVersion: version, SessionTicketsDisabled: i == 1, CurvePreferences: curves})
		all[i] = [2]*tls.Config{server, {InsecureSkipVerify: true, MaxVersion: version, CurvePreferences: curves, ClientSessionCache: tls.NewLRUClientSessionCache(1)}}
	}
	return all
})

// machineHandshake does a handshake over a pipe, and leads both sides to the machine's
// socket then.
func machineHandshake(m *machine, p *machinePeer) (*tls.Conn, *secure) {
	cfg := machineTLS()[(p.sock.fd&7)/7]
	near, far := net.Pipe()
	s := &secure{wire: tlsWire{conn: near, fd: -1}}
	s.Conn = tls.Server(&s.wire, cfg[0])
	w := &peerWire{Conn: far, p: p}
	c := tls.Client(w, cfg[1])
	done := make(chan error, 1)
	go func() { done <- s.Conn.Handshake() }()
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		m.fatalf("TLS handshake: %v", err)
	}
	w.Conn, s.wire.conn, s.wire.fd = nil, nil, p.sock.fd
	return c, s
}

// peerWire is what a peer's tls.Conn reads from and writes to.
type peerWire struct {
	net.Conn // nil after the handshake
	p        *machinePeer
}

func (w *peerWire) Read(b []byte) (int, error) {
	if w.Conn != nil {
		return w.Conn.Read(b)
	}
	if len(w.p.sealed) == 0 {
		return 0, errNothing
	}
	n := copy(b, w.p.sealed)
	w.p.sealed = w.p.sealed[n:]
	return n, nil
}

func (w *peerWire) Write(b []byte) (int, error) {
	if w.Conn != nil {
		return w.Conn.Write(b)
	}
	w.p.unsent = append(w.p.unsent, b...)
	return len(b), nil
}

func (w *peerWire) SetWriteDeadline(time.Time) error { return nil }
func (w *peerWire) Close() error                     { return nil }

// put puts bytes on their way.
func (p *machinePeer) put(b []byte) {
	if p.tls == nil {
		p.unsent = append(p.unsent, b...)
		return
	}
	p.tls.Write(b) // ignored: its TLS has ended
}

// send delivers so many bytes to the socket; false when there are none.
func (p *machinePeer) send(n int) bool {
	if p.sock.fin || p.sock.reset || p.sock.closed {
		p.unsent = nil
	}
	if n = min(n, len(p.unsent)); n == 0 {
		return false
	}
	p.sock.in = append(p.sock.in, p.unsent[:n]...)
	p.unsent = p.unsent[n:]
	return true
}

// ready lets the loop see what the kernel reports; false when that is nothing.
func (m *machine) ready(p *machinePeer) bool {
	if p.sock.closed {
		return false
	}
	for _, c := range m.l.conns {
		if c.FD() == p.sock.fd && c.Active() {
			if ev := p.sock.ready(c.Interest()); ev != 0 {
				c.Ready(ev)
				return true
			}
		}
	}
	return false
}

// saidIn returns the number that a payload begins with.
func saidIn(p []byte) (n uint32) {
	p = bytes.TrimPrefix(p, []byte(`"`))
	for i := 0; i < len(p) && i < 8; i++ {
		n = n<<4 | uint32(p[i]-'A')
	}
	return n
}

// say returns a payload like no other, of about so many bytes.
func (m *machine) say(size int) string {
	m.said++
	var b strings.Builder
	for shift := 28; shift >= 0; shift -= 4 {
		b.WriteByte('A' + byte(m.said>>shift&15))
	}
	for b.Len() < size {
		b.WriteString(machineFiller[:min(len(machineFiller), size-b.Len())])
	}
	return b.String()
}

var machineFiller = strings.Repeat(".", 2048)

var machineSizes = [...]int{8, 8, 40, 125, 126, 700, 1500, 2000}

// frames returns messages of a raw client.
func (m *machine) frames(p *machinePeer, how byte) []byte {
	msg := m.say(machineSizes[how&7])
	switch how >> 3 & 7 {
	default:
		return []byte(text(msg))
	case 1:
		return []byte(part(0x01, msg[:4]) + ping("between") + part(0x00, msg[4:6]) + part(0x80, msg[6:]))
	case 2:
		return []byte(bin(msg))
	case 3:
		return []byte(text(msg) + text(m.say(8)) + text(m.say(700)))
	}
}

// command puts a command of the Centrifugo protocol on its way.
func (p *machinePeer) command(cmd *protocol.Command) {
	p.put([]byte(p.encoded(cmd)))
}

func (p *machinePeer) encoded(cmd *protocol.Command) string {
	if f := p.client; f.Uni {
		return text(`{"token":"` + cmd.GetConnect().GetToken() + `"}`)
	} else if f.Encoding == centrifugo.Protobuf {
		b, _ := protocol.NewProtobufCommandEncoder().Encode(cmd) // ignored: a command of ours
		return bin(string(b))
	}
	b, _ := protocol.NewJSONCommandEncoder().Encode(cmd) // ignored: likewise
	return text(string(b))
}

// talk puts something of the peer's protocol on its way.
func (p *machinePeer) talk(what, how byte) {
	m := p.m
	if !p.target.speaks() {
		p.put(m.frames(p, how))
		return
	}
	cmd, name := &protocol.Command{Id: uint32(what) + 2}, machineChannels[how%3]
	switch what % 16 {
	default:
		data := `"` + m.say(machineSizes[how&7]) + `"`
		if p.client.Encoding == centrifugo.Protobuf {
			data = data[1 : len(data)-1]
		}
		cmd.Publish = &protocol.PublishRequest{Channel: name, Data: []byte(data)}
	case 0, 1, 2, 3:
		cmd.Subscribe = &protocol.SubscribeRequest{Channel: name, JoinLeave: how&8 != 0, Recoverable: how&16 != 0, Positioned: how&16 != 0, Recover: how&0x30 == 0x30, Offset: uint64(how >> 6)}
		if how >= 224 {
			cmd.Subscribe.Token = m.token(how)
		}
		if ch := m.server.space.Find(name); ch != nil {
			cmd.Subscribe.Epoch = ch.Epoch().String()
		}
	case 4:
		cmd.Unsubscribe = &protocol.UnsubscribeRequest{Channel: name}
	case 5:
		cmd.Presence = &protocol.PresenceRequest{Channel: name}
	case 6:
		cmd.PresenceStats = &protocol.PresenceStatsRequest{Channel: name}
	case 7:
		cmd.History = &protocol.HistoryRequest{Channel: name, Limit: int32(how) - 1, Reverse: how&1 != 0}
	case 8:
		cmd.Refresh = &protocol.RefreshRequest{Token: m.token(how | 0x30)}
	case 9:
		cmd.SubRefresh = &protocol.SubRefreshRequest{Channel: name, Token: m.token(how | 0x30)}
	case 10:
		cmd = &protocol.Command{} // a pong
	}
	p.command(cmd)
}

// mutter puts something on its way that is no message.
func (p *machinePeer) mutter(what, how byte) {
	switch what % 14 {
	case 0, 1:
		p.put([]byte(ping(machineFiller[:how&63])))
	case 2:
		p.put([]byte(pong("")))
	case 3:
		p.put([]byte(closing(1000, "bye")))
	case 4:
		p.put([]byte(text(p.m.say(700)))[:100])
	case 5:
		p.put([]byte{0xff, how})
	case 6:
		p.put([]byte(text("\xff\xfe")))
	case 7:
		p.put([]byte(text(strings.Repeat("{", 3000))))
	case 8:
		p.put([]byte(text(p.m.say(8) + " is no command")))
	case 9:
		p.unsent, p.dirty = append(p.unsent, 0x15), true
	case 10:
		p.unsent, p.dirty = append(p.unsent, how, 3, 3, 0, how), true
	case 11:
		if p.tls != nil {
			p.tls.CloseWrite() // ignored: its TLS has ended
		}
	case 12: // the connection ends, and the next record has begun already
		p.put([]byte(closing(1000, "")))
		p.unsent, p.dirty = append(p.unsent, 0x15), true
	case 13:
		p.put([]byte("\x81\x01x"))
		p.unsent, p.dirty = append(p.unsent, 0x17, 3, 3), true
	}
}

// look looks at what the peer was sent.
func (p *machinePeer) look() {
	s := p.sock
	if len(s.out) == 0 {
		return
	}
	out := s.out
	s.out = s.out[:0]
	if p.tls == nil {
		p.took(out)
		return
	}
	p.sealed = append(p.sealed, out...)
	b := machineRead
	for !p.deaf {
		n, err := p.tls.Read(b)
		p.took(b[:n])
		switch {
		case errors.Is(err, errNothing):
			return
		case errors.Is(err, io.EOF):
			p.deaf = true
		case err != nil:
			if p.deaf = true; !p.dirty {
				p.m.fatalf("connection %d: its TLS is broken: %v", p.id, err)
			}
		}
	}
}

var machineRead = make([]byte, 32<<10)

// took takes plain bytes apart.
func (p *machinePeer) took(b []byte) {
	if len(b) == 0 {
		return
	}
	p.buf = append(p.buf, b...)
	if !p.opened {
		if len(p.buf) < len(machineHead) {
			return
		}
		p.buf, p.opened = p.buf[len(machineHead):], true
	}
	events := !p.target.variant.framing.ReadsInput()
	for len(p.buf) > 0 {
		if p.ended {
			p.m.fatalf("connection %d is sent %q behind its end", p.id, p.buf)
		}
		var n int
		if events {
			n = p.event()
		} else {
			n = p.frame()
		}
		if n == 0 {
			return
		}
		p.buf = p.buf[n:]
	}
	p.buf = nil
}

// event takes an event off the buffer; 0 when it is not whole.
func (p *machinePeer) event() int {
	n := bytes.Index(p.buf, []byte("\n\n"))
	if n < 0 {
		return 0
	}
	e := p.buf[:n]
	switch {
	case bytes.HasPrefix(e, []byte("event: close")), bytes.Contains(e, []byte(`"disconnect":{`)):
		p.ended = true
	case e[0] == ':':
	case !bytes.Contains(e, []byte("data")) && !bytes.Contains(e, []byte("id: ")) && !bytes.HasPrefix(e, []byte("retry: ")):
		p.m.fatalf("connection %d is sent the event %q", p.id, e)
	}
	return n + 2
}

// frame takes a frame off the buffer; 0 when it is not whole.
func (p *machinePeer) frame() int {
	r := bytes.NewReader(p.buf)
	h, err := ws.ReadHeader(r)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0
		}
		p.m.fatalf("connection %d is sent %q: %v", p.id, p.buf, err)
	}
	head := len(p.buf) - r.Len()
	if !h.Fin || h.Masked || h.Rsv != 0 || h.OpCode.IsControl() && h.Length > 125 {
		p.m.fatalf("connection %d is sent a frame with the header %+v", p.id, h)
	}
	if h.Length > int64(r.Len()) {
		return 0
	}
	payload := p.buf[head : head+int(h.Length)]
	switch h.OpCode {
	case ws.OpClose:
		p.ended = true
	case ws.OpPing, ws.OpPong:
	case ws.OpText, ws.OpBinary:
		p.message(payload)
	default:
		p.m.fatalf("connection %d is sent a frame with the header %+v", p.id, h)
	}
	return head + int(h.Length)
}

// message sees that a raw client misses nothing and gets nothing twice.
func (p *machinePeer) message(payload []byte) {
	t := &p.target
	if t.variant != rawWebSocket || t.format != (rawFormat{}) || t.noEcho || len(payload) < 8 {
		return
	}
	at, known := p.m.order[saidIn(payload)]
	switch {
	case !known:
		p.m.fatalf("connection %d is sent %q, which nobody published", p.id, payload)
	case p.place >= 0 && at != p.place:
		p.m.fatalf("connection %d (%+v) is sent publication %d of %q, want %d", p.id, *t, at, t.channel, p.place)
	}
	p.place = at + 1
}

// rested sees that a peer that stays was sent everything, and whole.
func (p *machinePeer) rested() {
	if p.sock.closed || p.sock.reset || p.sock.shut || p.deaf {
		return
	}
	for _, c := range p.m.l.conns {
		if c.FD() != p.sock.fd || c.phase != phaseOpen || c.has(bitMuted) {
			continue
		}
		if len(p.buf) > 0 {
			p.m.fatalf("connection %d was sent a part of a frame: %q", p.id, p.buf)
		}
		if p.place >= 0 && p.place != p.m.taken[p.target.channel] {
			p.m.fatalf("connection %d was sent publications up to %d of %d", p.id, p.place, p.m.taken[p.target.channel])
		}
	}
}
