package gateway

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// A client speaks to the gateway over a socket, by bytes, so that it can do what
// no library lets it do. A test with it reads like a transcript: what is sent,
// and what is wanted and why. Every wait is bounded by patience.
type client struct {
	t    testing.TB
	conn link
	in   *bufio.Reader
}

// connect makes a TCP connection.
func connect(t testing.TB, s *server) *client {
	t.Helper()
	return connectWith(t, s, 0)
}

// connectWith bounds the client's receive buffer, so that it soon takes no more
// when it does not read. 0: the kernel's default. The segments of loopback would
// be larger than such a buffer, and TCP would wait for time to pass.
func connectWith(t testing.TB, s *server, receiveBuffer int) *client {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if receiveBuffer > 0 {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var optErr error
			err := c.Control(func(fd uintptr) {
				optErr = errors.Join(
					syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer),
					syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 500))
			})
			return errors.Join(err, optErr)
		}
	}
	nc, err := d.Dial("tcp", s.addr)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	l := link(nc.(*net.TCPConn))
	if s.secured {
		l = secureLink(nc.(*net.TCPConn), nil)
	}
	return &client{t: t, conn: l, in: bufio.NewReader(l)}
}

// link is a client's connection: TCP, or TLS on it.
type link interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
	SetLinger(seconds int) error
}

// tlsLink is TLS on TCP.
type tlsLink struct {
	*tls.Conn
	tcp *net.TCPConn
}

func secureLink(tcp *net.TCPConn, cfg *tls.Config) *tlsLink {
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.InsecureSkipVerify = true
	return &tlsLink{tls.Client(tcp, cfg), tcp}
}

func (l *tlsLink) SyscallConn() (syscall.RawConn, error) { return l.tcp.SyscallConn() }
func (l *tlsLink) SetLinger(seconds int) error           { return l.tcp.SetLinger(seconds) }
func (l *tlsLink) Close() error                          { return l.tcp.Close() }
func (l *tlsLink) CloseWrite() error                     { return errors.Join(l.Conn.CloseWrite(), l.tcp.CloseWrite()) }

// dial makes a WebSocket connection to a request target.
func dial(t testing.TB, s *server, target string, fields ...string) *client {
	t.Helper()
	c := connect(t, s)
	c.upgrade(target, fields...)
	return c
}

// dialSmall is dial with the smallest receive buffer.
func dialSmall(t testing.TB, s *server, target string) *client {
	t.Helper()
	c := connectWith(t, s, 4<<10)
	c.upgrade(target)
	return c
}

// upgradeTo gives the head of a good upgrade, with further fields.
func upgradeTo(target string, fields ...string) string {
	head := "GET " + target + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	return head + "\r\n"
}

func (c *client) upgrade(target string, fields ...string) http.Header {
	c.t.Helper()
	c.write(upgradeTo(target, fields...))
	return c.wantUpgrade("the upgrade to " + target)
}

func (c *client) wantUpgrade(why string) http.Header {
	c.t.Helper()
	header := c.wantStatus(why, http.StatusSwitchingProtocols).Header
	if got := header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		c.t.Fatalf("%s: got accept key %q", why, got)
	}
	return header
}

// answer is an HTTP answer with its body.
type answer struct {
	*http.Response
	body string
}

// wantStatus reads an HTTP answer.
func (c *client) wantStatus(why string, status int) answer {
	c.t.Helper()
	c.patience()
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatalf("%s: want status %d, got %v", why, status, err)
	}
	var body []byte
	if resp.StatusCode != http.StatusSwitchingProtocols {
		if body, err = io.ReadAll(resp.Body); err != nil {
			c.t.Fatalf("%s: body: %v", why, err)
		}
	}
	if resp.StatusCode != status {
		c.t.Fatalf("%s: got status %d %q, want %d", why, resp.StatusCode, body, status)
	}
	return answer{resp, string(body)}
}

func (c *client) patience() {
	c.conn.SetDeadline(time.Now().Add(patience)) // ignored: then the next call fails
}

// write sends bytes in one piece.
func (c *client) write(p string) {
	c.t.Helper()
	c.patience()
	if _, err := io.WriteString(c.conn, p); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// send sends frames in one piece.
func (c *client) send(frames ...string) {
	c.t.Helper()
	c.write(strings.Join(frames, ""))
}

// fin ends the client's side and goes on reading.
func (c *client) fin() {
	c.t.Helper()
	if err := c.conn.CloseWrite(); err != nil {
		c.t.Fatalf("fin: %v", err)
	}
}

// vanish resets the connection.
func (c *client) vanish() {
	c.conn.SetLinger(0) // ignored: then it ends by a FIN, and the test fails
	c.conn.Close()      // ignored: likewise
}

// part gives a client's frame by its first byte.
func part(b0 byte, payload string) string {
	head := []byte{b0}
	switch n := len(payload); {
	case n < 126:
		head = append(head, 0x80|byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x12, 0xa5, 0x7f, 0xe0}
	head = append(head, mask[:]...)
	body := []byte(payload)
	ws.Cipher(body, mask, 0)
	return string(head) + string(body)
}

func text(p string) string { return part(0x81, p) }
func bin(p string) string  { return part(0x82, p) }
func ping(p string) string { return part(0x89, p) }
func pong(p string) string { return part(0x8a, p) }

// closing gives a Close frame; without a code for 0.
func closing(code ws.StatusCode, why string) string {
	if code == 0 {
		return part(0x88, "")
	}
	return part(0x88, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+why)
}

// next reads a frame.
func (c *client) next() (op ws.OpCode, payload string, err error) {
	c.patience()
	h, err := ws.ReadHeader(c.in)
	if err != nil {
		return 0, "", err
	}
	if !h.Fin || h.Rsv != 0 || h.Masked {
		return 0, "", errors.New("not a whole and plain frame of a server")
	}
	p := make([]byte, h.Length)
	_, err = io.ReadFull(c.in, p)
	return h.OpCode, string(p), err
}

// want reads a frame and compares it.
func (c *client) want(why string, op ws.OpCode, payload string) {
	c.t.Helper()
	gotOp, got, err := c.next()
	if err != nil {
		c.t.Fatalf("%s: want a frame of opcode %#x with %s, got %v", why, op, brief(payload), err)
	}
	if gotOp != op || got != payload {
		c.t.Fatalf("%s: got a frame of opcode %#x with %s, want %#x with %s", why, gotOp, brief(got), op, brief(payload))
	}
}

func brief(p string) string {
	if len(p) <= 64 {
		return strings.ToValidUTF8(p, "?")
	}
	return strings.ToValidUTF8(p[:48], "?") + "..."
}

func (c *client) wantText(why, payload string)   { c.t.Helper(); c.want(why, ws.OpText, payload) }
func (c *client) wantBinary(why, payload string) { c.t.Helper(); c.want(why, ws.OpBinary, payload) }
func (c *client) wantPing(why string)            { c.t.Helper(); c.want(why, ws.OpPing, "") }
func (c *client) wantPong(why, payload string)   { c.t.Helper(); c.want(why, ws.OpPong, payload) }

// wantCloseFrame reads a Close frame; code 0 is one without a code.
func (c *client) wantCloseFrame(why string, code ws.StatusCode) {
	c.t.Helper()
	op, p, err := c.next()
	if err != nil {
		c.t.Fatalf("%s: want a Close frame with %d, got %v", why, code, err)
	}
	c.isClose(why, op, p, code)
}

func (c *client) isClose(why string, op ws.OpCode, p string, code ws.StatusCode) {
	c.t.Helper()
	got := ws.StatusCode(0)
	if len(p) >= 2 {
		got = ws.StatusCode(binary.BigEndian.Uint16([]byte(p)))
	}
	if op != ws.OpClose || got != code {
		c.t.Fatalf("%s: got a frame of opcode %#x with %s, want Close with %d", why, op, brief(p), code)
	}
}

// wantClose reads a Close frame, answers it, and sees the connection end in
// order: by a FIN, which a reset would not be.
func (c *client) wantClose(why string, code ws.StatusCode) {
	c.t.Helper()
	c.wantCloseFrame(why, code)
	c.endClose(why)
}

func (c *client) endClose(why string) {
	c.t.Helper()
	io.WriteString(c.conn, closing(1000, "")) // ignored: the server may have closed its side, and need not read any more
	c.conn.CloseWrite()                       // ignored: likewise
	c.wantEOF(why)
}

// wantEOF sees the connection end by a FIN with nothing before it.
func (c *client) wantEOF(why string) {
	c.t.Helper()
	c.patience()
	rest, err := io.ReadAll(c.in)
	if err != nil || len(rest) > 0 {
		c.t.Fatalf("%s: want the end of the connection, got %q, %v", why, brief(string(rest)), err)
	}
}

// wantGone sees the connection end, in whatever way, with nothing before it.
func (c *client) wantGone(why string) {
	c.t.Helper()
	c.patience()
	rest, err := io.ReadAll(c.in)
	if errors.Is(err, os.ErrDeadlineExceeded) || len(rest) > 0 {
		c.t.Fatalf("%s: want the end of the connection, got %q, %v", why, brief(string(rest)), err)
	}
}

// wantIdle sees that nothing comes once the loops have done what they know of.
func (c *client) wantIdle(s *server, why string) {
	c.t.Helper()
	s.quiet()
	c.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // ignored: then the read fails otherwise
	b, err := c.in.Peek(1)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("%s: want nothing, got %q, %v", why, b, err)
	}
}

// settle sees that the server has processed what the client sent: the pong to
// a last ping comes when everything before it was taken.
func (c *client) settle(s *server) {
	c.t.Helper()
	c.send(ping("settle"))
	c.wantPong("everything before is processed", "settle")
	s.quiet()
}

// texts reads text frames until a Close or the end, whichever comes first.
func (c *client) texts() (got []string, code ws.StatusCode, err error) {
	for {
		op, p, err := c.next()
		switch {
		case err != nil:
			return got, 0, err
		case op == ws.OpClose && len(p) >= 2:
			return got, ws.StatusCode(binary.BigEndian.Uint16([]byte(p))), nil
		case op == ws.OpText:
			got = append(got, p)
		}
	}
}

// numbered gives texts that tell their place, each of so many bytes.
func numbered(n, size int) (all []string) {
	for i := range n {
		var b bytes.Buffer
		b.WriteString(strings.Repeat("0", max(size-8, 0)))
		for d := 10_000_000; d > 0; d /= 10 {
			b.WriteByte('0' + byte(i/d%10))
		}
		all = append(all, b.String()[b.Len()-size:])
	}
	return all
}
