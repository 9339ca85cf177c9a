//go:build faults

package loop

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/wire"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// machinePeer is a client of a machine: what it has sent and the kernel has not delivered yet,
// and what it was sent.
type machinePeer struct {
	m        *machine
	sock     *socket
	tls      *tls.Conn // nil for a plain one
	kind     machineKind
	channel  string
	request  MachineRequest
	hello    Hello
	dirty    bool   // it sent what is no TLS: what it is sent from then on may be an alert
	unsent   []byte // on its way to the socket
	sealed   []byte // came from the socket, with TLS
	buf      []byte // that is not looked at yet: a part of a frame
	opened   bool   // the head of the response has come
	ended    bool   // a Close frame has come
	deaf     bool   // what comes is not understood any more
	deflated bool   // it has negotiated compression
	place    int    // in its channel, of the next publication; -1 for any
	id       uint64
}

// machineHead stands for the head of a response.
const machineHead = "HTTP\n"

// MachineChannels are those of a machine.
var MachineChannels = [...]string{"a", "b", "c"}

// machineKind is what a client asks for. A path that ends with a slash goes on with a channel.
type machineKind struct{ path, query string }

var machineKinds = [...]machineKind{
	{"/ws/", ""},
	{"/ws/", "format=json"},
	{"/ws/", "echo=off"},
	{"/ws/", "echo=off&format=json"},
	{"/ws/", "mode=subscribe"},
	{"/echo", ""},
	{"/sse/", ""},
	{"/sse/", "format=json"},
	{"/connection/websocket", ""},
	{"/connection/websocket", "format=protobuf"},
	{"/connection/uni_websocket", ""},
	{"/connection/uni_sse", ""},
	{"/plain/", ""},
}

// speaks reports whether it is a client of the Centrifugo protocol.
func (k machineKind) speaks() bool { return strings.HasPrefix(k.path, "/connection/") }

// uni reports whether it is one that is only sent to.
func (k machineKind) uni() bool { return strings.HasPrefix(k.path, "/connection/uni_") }

func (k machineKind) protobuf() bool { return k.query == "format=protobuf" }
func (k machineKind) stream() bool   { return strings.Contains(k.path, "sse") }

// asks makes the client's request.
func (p *machinePeer) asks(what, how byte) {
	k, m, r := p.kind, p.m, &p.request
	*r = MachineRequest{Path: k.path, Stream: k.stream()}
	query := []string{k.query}
	if strings.HasSuffix(k.path, "/") {
		r.Path += p.channel
	}
	if k.path == "/connection/uni_sse" || k.uni() && how&4 != 0 {
		connect := `{}`
		if m.Guarded && how&8 != 0 {
			connect = `{"token":"` + machineToken + `"}`
		}
		query = append(query, "cf_connect="+url.QueryEscape(connect))
	}
	if k.path == "/ws/" && what >= 128 || k.path == "/sse/" && what >= 64 {
		ask := how >> 1 & 3
		if k.path == "/ws/" && !strings.Contains(k.query, "json") {
			ask |= 1 // it has no offsets
		}
		at := channel.Position{Epoch: 1, Offset: 1}
		if ch := m.Space.Find(p.channel); ch != nil {
			at = ch.Newest()
			at.Offset -= min(at.Offset, uint64(how>>3))
		}
		since := fmt.Sprintf("%s:%d", at.Epoch, at.Offset)
		switch {
		case ask == 0:
			query = append(query, "since=now")
		case ask == 1:
			query = append(query, "history=3")
		case ask == 3:
			query = append(query, "history=1048576")
		case r.Stream && how&0x20 != 0:
			r.LastEventID = since
		default:
			query = append(query, "since="+since)
		}
	}
	r.Query = strings.TrimPrefix(strings.Join(query, "&"), "&")
}

// plainHello is what no protocol allows: a client asks for what it missed in a format that cannot
// tell it of a gap.
func (p *machinePeer) plainHello(how byte) Hello {
	start := &plainStart{channel: p.channel, format: wire.Raw{}, ask: &channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: 1, Offset: 1}}}
	if ch := p.m.Space.Find(p.channel); ch != nil {
		start.ask.At = ch.Newest()
		start.ask.At.Offset -= min(start.ask.At.Offset, uint64(how>>3))
	}
	return Hello{Variant: plainWebSocket, Start: start}
}

// arrive brings a new client, if the place is free.
func (m *machine) arrive(i int, what, how byte) {
	old := m.peers[i]
	if old != nil && !old.sock.closed || m.l.drain != nil {
		return
	}
	if old != nil {
		old.look()
	}
	s := &socket{fd: machineFD + len(m.sockets), space: 1 << 30}
	m.sockets = append(m.sockets, s)
	p := &machinePeer{m: m, sock: s, kind: machineKinds[int(what)%len(machineKinds)], channel: MachineChannels[how&1], place: -1}
	m.peers[i] = p
	p.asks(what, how)
	if p.kind.path == "/plain/" {
		p.hello = p.plainHello(how)
	} else {
		p.hello = m.server.Hello(&p.request)
	}
	if !p.kind.speaks() && how&8 != 0 {
		p.hello.Identity = &Identity{ID: NewClientID(), User: "u" + string('0'+how>>4&1), Info: []byte(`{}`)}
	}
	p.deflated = what&0x40 != 0 && !p.kind.stream()
	a := &Arrival{FD: s.fd, Hello: p.hello, Client: machineAddress, Response: []byte(machineHead), From: m, Compressed: p.deflated}
	if how&0xc0 >= 0x80 {
		p.tls, a.Secure = machineHandshake(m, p)
	}
	a.Refused = what == 99
	a.Seat = m.admission.take(a.Refused)
	if how&0x10 != 0 && p.kind.path == "/ws/" {
		a.Early = m.frames(p, how)
	}
	if how&0x20 != 0 {
		s.space = int(what)
	}
	a.Deliver(m.l)
	if p.id = m.set.lastID.Load(); p.kind.speaks() && p.hello.Start == nil && how&7 != 7 {
		p.command(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{Token: m.token(how)}})
	}
}

// Leave and NotArrived implement Origin.
func (m *machine) Leave()           {}
func (m *machine) NotArrived(error) {}

// machineToken is one that a verifier with a key for ES256 has to calculate for.
var machineToken = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + ".e30.AAAA"

func (m *machine) token(how byte) string {
	if !m.Guarded || how&0x30 == 0 {
		return ""
	}
	return machineToken
}

// machineTLS are the configurations of both sides, with one version and the other. The
// sessions of TLS 1.2 are resumed, which is much cheaper; the pipe has no room for the
// tickets of the other.
var machineTLS = sync.OnceValue(func() (all [2][2]*tls.Config) {
	curves := []tls.CurveID{tls.X25519}
	for i, version := range [...]uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server := Hardened(&tls.Config{Certificates: []tls.Certificate{clienttest.TestCertificate()}, MaxVersion: version, SessionTicketsDisabled: i == 1, CurvePreferences: curves})
		all[i] = [2]*tls.Config{server, {InsecureSkipVerify: true, MaxVersion: version, CurvePreferences: curves, ClientSessionCache: tls.NewLRUClientSessionCache(1)}}
	}
	return all
})

// machineHandshake does a handshake over a pipe, and leads both sides to the machine's
// socket then.
func machineHandshake(m *machine, p *machinePeer) (*tls.Conn, *Secure) {
	cfg := machineTLS()[(p.sock.fd&7)/7]
	near, far := net.Pipe()
	s := &Secure{wire: tlsWire{conn: near, fd: -1}}
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
		return []byte(clienttest.Text(msg))
	case 1:
		return []byte(clienttest.Part(0x01, msg[:4]) + clienttest.Ping("between") + clienttest.Part(0x00, msg[4:6]) + clienttest.Part(0x80, msg[6:]))
	case 2:
		return []byte(clienttest.Bin(msg))
	case 3:
		return []byte(clienttest.Text(msg) + clienttest.Text(m.say(8)) + clienttest.Text(m.say(700)))
	}
}

// command puts a command of the Centrifugo protocol on its way.
func (p *machinePeer) command(cmd *protocol.Command) {
	p.put([]byte(p.encoded(cmd)))
}

func (p *machinePeer) encoded(cmd *protocol.Command) string {
	if p.kind.uni() {
		return clienttest.Text(`{"token":"` + cmd.GetConnect().GetToken() + `"}`)
	} else if p.kind.protobuf() {
		b, _ := protocol.NewProtobufCommandEncoder().Encode(cmd) // ignored: a command of ours
		return clienttest.Bin(string(b))
	}
	b, _ := protocol.NewJSONCommandEncoder().Encode(cmd) // ignored: likewise
	return clienttest.Text(string(b))
}

// talk puts something of the peer's protocol on its way.
func (p *machinePeer) talk(what, how byte) {
	m := p.m
	if !p.kind.speaks() {
		p.put(m.frames(p, how))
		return
	}
	cmd, name := &protocol.Command{Id: uint32(what) + 2}, MachineChannels[how%3]
	switch what % 16 {
	default:
		data := `"` + m.say(machineSizes[how&7]) + `"`
		if p.kind.protobuf() {
			data = data[1 : len(data)-1]
		}
		cmd.Publish = &protocol.PublishRequest{Channel: name, Data: []byte(data)}
	case 0, 1, 2, 3:
		cmd.Subscribe = &protocol.SubscribeRequest{Channel: name, JoinLeave: how&8 != 0, Recoverable: how&16 != 0, Positioned: how&16 != 0, Recover: how&0x30 == 0x30, Offset: uint64(how >> 6)}
		if how >= 224 {
			cmd.Subscribe.Token = m.token(how)
		}
		if ch := m.Space.Find(name); ch != nil {
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

// machineBomb is a compressed message that has more than any limit.
var machineBomb = clienttest.Part(0xc2, clienttest.Compressed(false, strings.Repeat("*", 64<<10))[0])

// mutter puts something on its way that is no message.
func (p *machinePeer) mutter(what, how byte) {
	switch what % 17 {
	case 0, 1:
		p.put([]byte(clienttest.Ping(machineFiller[:how&63])))
	case 2:
		p.put([]byte(clienttest.Pong("")))
	case 3:
		p.put([]byte(clienttest.Closing(1000, "bye")))
	case 4:
		p.put([]byte(clienttest.Text(p.m.say(700)))[:100])
	case 5:
		p.put([]byte{0xff, how})
	case 6:
		p.put([]byte(clienttest.Text("\xff\xfe")))
	case 7:
		p.put([]byte(clienttest.Text(strings.Repeat("{", 3000))))
	case 8:
		p.put([]byte(clienttest.Text(p.m.say(8) + " is no command")))
	case 9:
		p.unsent, p.dirty = append(p.unsent, 0x15), true
	case 10:
		p.unsent, p.dirty = append(p.unsent, how, 3, 3, 0, how), true
	case 11:
		if p.tls != nil {
			p.tls.CloseWrite() // ignored: its TLS has ended
		}
	case 12: // the connection ends, and the next record has begun already
		p.put([]byte(clienttest.Closing(1000, "")))
		p.unsent, p.dirty = append(p.unsent, 0x15), true
	case 14: // a stored block, in two fragments
		text := p.m.say(machineSizes[how&7])
		n := len(text)
		block := string([]byte{0, byte(n), byte(n >> 8), ^byte(n), ^byte(n >> 8)}) + text + "\x00"
		p.put([]byte(clienttest.Part(0x41, block[:n/2]) + clienttest.Part(0x80, block[n/2:])))
	case 15:
		p.put([]byte(machineBomb))
	case 16:
		p.put([]byte(clienttest.Part(0xc1, string([]byte{how, how, 0xff}))))
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
	for len(p.buf) > 0 {
		if p.ended {
			p.m.fatalf("connection %d is sent %q behind its end", p.id, p.buf)
		}
		var n int
		if p.kind.stream() {
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
	compressed := p.deflated && h.Rsv1() && h.OpCode.IsData()
	if compressed {
		h.Rsv = 0
	}
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
		if compressed {
			if payload, err = p.m.inflater.Inflate(payload, 1<<20); err != nil {
				p.m.fatalf("connection %d is sent a compressed frame: %v", p.id, err)
			}
		}
		p.message(payload)
	default:
		p.m.fatalf("connection %d is sent a frame with the header %+v", p.id, h)
	}
	return head + int(h.Length)
}

// message sees that a raw client misses nothing and gets nothing twice.
func (p *machinePeer) message(payload []byte) {
	if k := p.kind; k.path != "/ws/" && k.path != "/plain/" || k.query != "" && k.query != "mode=subscribe" || len(payload) < 8 {
		return
	}
	at, known := p.m.order[saidIn(payload)]
	switch {
	case !known:
		p.m.fatalf("connection %d is sent %q, which nobody published", p.id, payload)
	case p.place >= 0 && at != p.place:
		p.m.fatalf("connection %d (%+v) is sent publication %d, want %d", p.id, p.request, at, p.place)
	}
	p.place = at + 1
}

// rested sees that a peer that stays was sent everything, and whole.
func (p *machinePeer) rested() {
	if p.sock.closed || p.sock.reset || p.sock.shut || p.deaf {
		return
	}
	for _, c := range p.m.l.conns {
		if c.FD() != p.sock.fd || c.Phase != phaseOpen || c.has(bitMuted) {
			continue
		}
		if len(p.buf) > 0 {
			p.m.fatalf("connection %d was sent a part of a frame: %q", p.id, p.buf)
		}
		if p.place >= 0 && p.place != p.m.taken[p.channel] {
			p.m.fatalf("connection %d was sent publications up to %d of %d", p.id, p.place, p.m.taken[p.channel])
		}
	}
}
