// Package clienttest has clients for tests, which speak to a gateway over sockets, byte by byte,
// and what tests of several packages need: tokens, readers of a channel's log, a log, bounded
// waiting, a search for goroutines and descriptors that are left over.
//
// Only tests import it. It does not know servers or loops.
package clienttest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// A client speaks to the gateway over a socket, by bytes, so that it can do what
// no library lets it do. A test with it reads like a transcript: what is sent,
// and what is wanted and why. Every wait is bounded by patience.
type Client struct {
	T    testing.TB
	Conn Link
	In   *bufio.Reader

	deflates bool          // permessage-deflate was negotiated
	gzipped  *bufio.Reader // what In decodes; nil for nothing
}

func NewClient(t testing.TB, conn Link) *Client {
	return &Client{T: t, Conn: conn, In: bufio.NewReader(conn)}
}

// An endpoint is where clients connect to.
type Endpoint struct {
	Addr    string
	Secured bool   // it speaks TLS
	Quiet   func() // waits until the loops behind it have nothing to do
}

// listening is a gateway, or part of one, with an endpoint.
type listening interface{ Endpoint() Endpoint }

// Connect makes a TCP connection.
func Connect(t testing.TB, s listening) *Client {
	t.Helper()
	return ConnectWith(t, s, 0)
}

// ConnectWith bounds the client's receive buffer, so that it soon takes no more
// when it does not read. 0: the kernel's default. The segments of loopback would
// be larger than such a buffer, and TCP would wait for time to pass.
func ConnectWith(t testing.TB, s listening, receiveBuffer int) *Client {
	t.Helper()
	d := net.Dialer{Timeout: Patience}
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
	at := s.Endpoint()
	nc, err := d.Dial("tcp", at.Addr)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	l := Link(nc.(*net.TCPConn))
	if at.Secured {
		l = SecureLink(nc.(*net.TCPConn), nil)
	}
	return NewClient(t, l)
}

// Dial makes a WebSocket connection to a request target.
func Dial(t testing.TB, s listening, target string, fields ...string) *Client {
	t.Helper()
	c := Connect(t, s)
	c.Upgrade(target, fields...)
	return c
}

// Ask asks for a WebSocket connection, which it may have to wait for.
func Ask(t testing.TB, s listening, target string) *Client {
	t.Helper()
	c := Connect(t, s)
	c.Write(UpgradeTo(target))
	return c
}

// DialSmall is dial with the smallest receive buffer.
func DialSmall(t testing.TB, s listening, target string) *Client {
	t.Helper()
	c := ConnectWith(t, s, 4<<10)
	c.Upgrade(target)
	return c
}

// UpgradeTo returns the head of a good upgrade, with further fields.
func UpgradeTo(target string, fields ...string) string {
	head := "GET " + target + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	offered := false
	for _, f := range fields {
		head += f + "\r\n"
		offered = offered || strings.HasPrefix(f, "Sec-WebSocket-Extensions:")
	}
	if *Deflated && !offered {
		head += Deflate + "\r\n"
	}
	return head + "\r\n"
}

func (c *Client) Upgrade(target string, fields ...string) http.Header {
	c.T.Helper()
	c.Write(UpgradeTo(target, fields...))
	return c.WantUpgrade("the upgrade to " + target)
}

func (c *Client) WantUpgrade(why string) http.Header {
	c.T.Helper()
	header := c.WantStatus(why, http.StatusSwitchingProtocols).Header
	if got := header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		c.T.Fatalf("%s: got accept key %q", why, got)
	}
	c.deflates = header.Get("Sec-WebSocket-Extensions") != ""
	return header
}

// Answer is an HTTP answer with its body.
type Answer struct {
	*http.Response
	Body string
}

// WantStatus reads an HTTP answer.
func (c *Client) WantStatus(why string, status int) Answer {
	c.T.Helper()
	c.Patience()
	resp, err := http.ReadResponse(c.In, nil)
	if err != nil {
		c.T.Fatalf("%s: want status %d, got %v", why, status, err)
	}
	var body []byte
	if resp.StatusCode != http.StatusSwitchingProtocols {
		if body, err = io.ReadAll(resp.Body); err != nil {
			c.T.Fatalf("%s: body: %v", why, err)
		}
	}
	if resp.StatusCode != status {
		c.T.Fatalf("%s: got status %d %q, want %d", why, resp.StatusCode, body, status)
	}
	return Answer{resp, string(body)}
}

func (c *Client) Patience() {
	c.Conn.SetDeadline(time.Now().Add(Patience)) // ignored: then the next call fails
}

// Write sends bytes in one piece.
func (c *Client) Write(p string) {
	c.T.Helper()
	c.Patience()
	if _, err := io.WriteString(c.Conn, p); err != nil {
		c.T.Fatalf("write: %v", err)
	}
}

// Send sends frames in one piece.
func (c *Client) Send(frames ...string) {
	c.T.Helper()
	c.Write(strings.Join(frames, ""))
}

// Fin ends the client's side and goes on reading.
func (c *Client) Fin() {
	c.T.Helper()
	if err := c.Conn.CloseWrite(); err != nil {
		c.T.Fatalf("fin: %v", err)
	}
}

// Vanish resets the connection.
func (c *Client) Vanish() {
	c.Conn.SetLinger(0) // ignored: then it ends by a FIN, and the test fails
	c.Conn.Close()      // ignored: likewise
}

// Next reads a frame, and inflates a compressed one.
func (c *Client) Next() (op ws.OpCode, payload string, err error) {
	op, payload, compressed, err := c.NextFrame()
	if compressed && err == nil {
		payload, err = Inflated(payload)
	}
	return op, payload, err
}

// NextFrame reads a frame as it is, which may be compressed where that was negotiated.
func (c *Client) NextFrame() (op ws.OpCode, payload string, compressed bool, err error) {
	c.Patience()
	h, err := ws.ReadHeader(c.In)
	if err != nil {
		return 0, "", false, err
	}
	compressed = c.deflates && h.Rsv1() && h.OpCode.IsData()
	if compressed {
		h.Rsv = 0
	}
	if !h.Fin || h.Rsv != 0 || h.Masked {
		return 0, "", false, errors.New("not a whole and plain frame of a server")
	}
	p := make([]byte, h.Length)
	_, err = io.ReadFull(c.In, p)
	return h.OpCode, string(p), compressed, err
}

// want reads a frame and compares it.
func (c *Client) want(why string, op ws.OpCode, payload string) {
	c.T.Helper()
	gotOp, got, err := c.Next()
	if err != nil {
		c.T.Fatalf("%s: want a frame of opcode %#x with %s, got %v", why, op, Brief(payload), err)
	}
	if gotOp != op || got != payload {
		c.T.Fatalf("%s: got a frame of opcode %#x with %s, want %#x with %s", why, gotOp, Brief(got), op, Brief(payload))
	}
}

func (c *Client) WantText(why, payload string)   { c.T.Helper(); c.want(why, ws.OpText, payload) }
func (c *Client) WantBinary(why, payload string) { c.T.Helper(); c.want(why, ws.OpBinary, payload) }
func (c *Client) WantPing(why string)            { c.T.Helper(); c.want(why, ws.OpPing, "") }
func (c *Client) WantPong(why, payload string)   { c.T.Helper(); c.want(why, ws.OpPong, payload) }

// WantCloseFrame reads a Close frame; code 0 is one without a code.
func (c *Client) WantCloseFrame(why string, code ws.StatusCode) {
	c.T.Helper()
	op, p, err := c.Next()
	if err != nil {
		c.T.Fatalf("%s: want a Close frame with %d, got %v", why, code, err)
	}
	c.IsClose(why, op, p, code)
}

func (c *Client) IsClose(why string, op ws.OpCode, p string, code ws.StatusCode) {
	c.T.Helper()
	got := ws.StatusCode(0)
	if len(p) >= 2 {
		got = ws.StatusCode(binary.BigEndian.Uint16([]byte(p)))
	}
	if op != ws.OpClose || got != code {
		c.T.Fatalf("%s: got a frame of opcode %#x with %s, want Close with %d", why, op, Brief(p), code)
	}
}

// WantClose reads a Close frame, answers it, and sees the connection end in
// order: by a FIN, which a reset would not be.
func (c *Client) WantClose(why string, code ws.StatusCode) {
	c.T.Helper()
	c.WantCloseFrame(why, code)
	c.EndClose(why)
}

func (c *Client) EndClose(why string) {
	c.T.Helper()
	io.WriteString(c.Conn, Closing(1000, "")) // ignored: the server may have closed its side, and need not read any more
	c.Conn.CloseWrite()                       // ignored: likewise
	c.WantEOF(why)
}

// WantEOF sees the connection end by a FIN, over TLS by a close_notify, with nothing before it.
func (c *Client) WantEOF(why string) {
	c.T.Helper()
	c.Patience()
	rest, err := io.ReadAll(c.In)
	if err != nil || len(rest) > 0 {
		c.T.Fatalf("%s: want the end of the connection, got %q, %v", why, Brief(string(rest)), err)
	}
}

// WantGone sees the connection end, in whatever way, with nothing before it.
func (c *Client) WantGone(why string) {
	c.T.Helper()
	c.Patience()
	rest, err := io.ReadAll(c.In)
	if errors.Is(err, os.ErrDeadlineExceeded) || len(rest) > 0 {
		c.T.Fatalf("%s: want the end of the connection, got %q, %v", why, Brief(string(rest)), err)
	}
}

// WantIdle sees that nothing comes once the loops have done what they know of.
func (c *Client) WantIdle(s listening, why string) {
	c.T.Helper()
	s.Endpoint().Quiet()
	c.Conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // ignored: then the read fails otherwise
	in := c.In
	if c.gzipped != nil && in.Buffered() == 0 { // the decoder does not go on after an error
		in = c.gzipped
	}
	b, err := in.Peek(1)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.T.Fatalf("%s: want nothing, got %q, %v", why, b, err)
	}
}

// Settle sees that the server has processed what the client sent: the pong to
// a last ping comes when everything before it was taken.
func (c *Client) Settle(s listening) {
	c.T.Helper()
	c.Send(Ping("settle"))
	c.WantPong("everything before is processed", "settle")
	s.Endpoint().Quiet()
}

// Texts reads text frames until a Close or the end, whichever comes first.
func (c *Client) Texts() (got []string, code ws.StatusCode, err error) {
	for {
		op, p, err := c.Next()
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

// Fast makes a subscriber whose socket takes much before it refuses.
func Fast(t *testing.T, s listening, target string) *Client {
	c := ConnectWith(t, s, 4<<20)
	c.Upgrade(target)
	return c
}

// Arrived waits until everything that the client sent lies in the server's kernel:
// nothing is left that the client's own kernel could throw away.
func (c *Client) Arrived() {
	c.T.Helper()
	raw, err := c.Conn.SyscallConn()
	if err != nil {
		c.T.Fatal(err)
	}
	WaitFor(c.T, "the client's bytes to arrive", func() bool {
		left, optErr := 0, error(nil)
		err := raw.Control(func(fd uintptr) { left, optErr = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		if err := errors.Join(err, optErr); err != nil {
			c.T.Fatal(err)
		}
		return left == 0
	})
}

// ReadAll reads texts and answers pings.
func (c *Client) ReadAll(texts []string) error {
	for i := 0; i < len(texts); {
		op, p, err := c.Next()
		switch {
		case err != nil:
			return fmt.Errorf("message %d: %w", i, err)
		case op == ws.OpPing:
			io.WriteString(c.Conn, Pong("")) // ignored: then the next read fails
		case p != texts[i]:
			return fmt.Errorf("message %d is %q, want %q", i, Brief(p), Brief(texts[i]))
		default:
			i++
		}
	}
	return nil
}

// WantAny reads so many frames.
func (c *Client) WantAny(n int) (payloads []string, bytes int) {
	c.T.Helper()
	for i := range n {
		_, p, err := c.Next()
		if err != nil {
			c.T.Fatalf("frame %d of %d: %v", i+1, n, err)
		}
		payloads = append(payloads, p)
		bytes += len(p)
	}
	return payloads, bytes
}

// WantEach reads what a case wants.
func (c *Client) WantEach(why string, want []string) {
	c.T.Helper()
	for i, p := range want {
		op := ws.OpText
		if p != "" && (p[0] == 0x02 || p[0] == 0x0a) {
			op, p = ws.OpCode(p[0]), p[1:]
		}
		c.want(fmt.Sprintf("%s, frame %d", why, i+1), op, p)
	}
}

// Status reads an HTTP answer's status line.
func (c *Client) Status(t testing.TB) (status int) {
	t.Helper()
	c.Patience()
	line, err := c.In.ReadString('\n')
	if _, scanned := fmt.Sscanf(line, "HTTP/1.1 %d", &status); err != nil || scanned != nil {
		t.Fatalf("no status line: %q, %v", line, err)
	}
	return status
}
