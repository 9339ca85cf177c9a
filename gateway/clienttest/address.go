package clienttest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// DialFrom makes a TCP connection from an address of this machine's.
func DialFrom(s listening, address string) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: Patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, err := d.Dial("tcp", s.Endpoint().Addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// ConnectFrom is Connect from an address of this machine's.
func ConnectFrom(t testing.TB, s listening, address string) *Client {
	t.Helper()
	c, err := DialFrom(s, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) // ignored: it may be closed already
	l := Link(c)
	if s.Endpoint().Secured {
		l = SecureLink(c, nil)
	}
	return NewClient(t, l)
}

// NumberedAddress returns one of so many loopback addresses of a group.
func NumberedAddress(group, i int) string {
	return "127.0." + strconv.Itoa(group) + "." + strconv.Itoa(1+i)
}

// SendBytes sends bytes, whatever the listener speaks, and leaves.
func SendBytes(t testing.TB, s listening, bytes string) {
	t.Helper()
	nc, err := net.Dial("tcp", s.Endpoint().Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, bytes); err != nil {
		t.Fatal(err)
	}
}

// Proxied connects as a proxy does that names its client: with a header before anything else, in
// one segment or byte by byte.
func Proxied(t testing.TB, s listening, header string, trickle bool) *Client {
	t.Helper()
	nc, err := net.DialTimeout("tcp", s.Endpoint().Addr, Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	p := &prefixed{nc.(*net.TCPConn), header, trickle}
	l := Link(p)
	if s.Endpoint().Secured {
		l = secureOver(p, p.TCPConn)
	}
	return NewClient(t, l)
}

// Try asks for an upgrade, and returns the answer's status, or 0 for a reset.
func Try(t testing.TB, s listening, fields ...string) (c *Client, status int, h http.Header) {
	t.Helper()
	c = Proxied(t, s, "", false)
	c.Patience()
	_, err := c.Conn.Write([]byte(UpgradeTo("/ws/x", fields...)))
	if err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(c.In, nil); err == nil {
			return c, resp.StatusCode, resp.Header
		}
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("neither an answer nor a reset: %v", err)
	}
	return c, 0, nil
}

// ScaledTime is a bound on time, longer where the race detector makes all slower.
func ScaledTime(d time.Duration) time.Duration {
	if RaceEnabled {
		return 5 * d
	}
	return d
}
