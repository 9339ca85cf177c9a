package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/cmd/internal/clitest"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// fakeGateway is a gateway that does what a test says: its n-th connection is
// served by the n-th script, further ones by the last.
type fakeGateway struct {
	t       *testing.T
	l       net.Listener
	url     string
	scripts []func(c *fakeConn)
	served  sync.WaitGroup

	mu   sync.Mutex
	uris []string
}

// fakeConn is a connection from the gateway's side. Its methods fail the test.
type fakeConn struct {
	t    *testing.T
	conn net.Conn
	uri  *url.URL
	head http.Header
}

func newFakeGateway(t *testing.T, scripts ...func(c *fakeConn)) *fakeGateway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &fakeGateway{t: t, l: l, url: "ws://" + l.Addr().String(), scripts: scripts}
	g.served.Go(g.accept)
	t.Cleanup(func() {
		l.Close()
		g.served.Wait()
	})
	return g
}

func (g *fakeGateway) accept() {
	for n := 0; ; n++ {
		conn, err := g.l.Accept()
		if err != nil {
			return
		}
		conn.SetDeadline(time.Now().Add(clitest.Patience))
		g.served.Go(func() {
			defer conn.Close()
			c := &fakeConn{t: g.t, conn: conn, head: http.Header{}}
			u := ws.Upgrader{
				OnRequest: func(uri []byte) (err error) {
					c.uri, err = url.ParseRequestURI(string(uri))
					return err
				},
				OnHeader: func(k, v []byte) error {
					c.head.Add(string(k), string(v))
					return nil
				},
			}
			if _, err := u.Upgrade(conn); err != nil {
				return // the client reports it
			}
			g.mu.Lock()
			g.uris = append(g.uris, c.uri.String())
			g.mu.Unlock()
			g.scripts[min(n, len(g.scripts)-1)](c)
		})
	}
}

// wantQueries checks the requests' addresses, but for the mode.
func (g *fakeGateway) wantQueries(want ...string) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.uris) != len(want) {
		g.t.Errorf("requests %q, want %d", g.uris, len(want))
		return
	}
	for i, uri := range g.uris {
		if _, query, _ := strings.Cut(uri, "?"); query != want[i] {
			g.t.Errorf("request %d asks for %q, want %q", i, query, want[i])
		}
	}
}

// send sends one message or control frame.
func (c *fakeConn) send(op ws.OpCode, payload string) {
	if err := wsutil.WriteServerMessage(c.conn, op, []byte(payload)); err != nil {
		c.t.Errorf("fake gateway: send %v: %v", op, err)
	}
}

// publications sends records first to last of an epoch, the payload of each being
// "line OFFSET".
func (c *fakeConn) publications(epoch string, first, last int) {
	for i := first; i <= last; i++ {
		c.publication(epoch, i, i-1)
	}
}

// publication sends the record of a publication behind the one that has the offset prev.
func (c *fakeConn) publication(epoch string, offset, prev int) {
	c.send(ws.OpText, fmt.Sprintf(`{"channel":"news","epoch":%q,"offset":%d,"prev":%d,"at":1763712000123,"from":"17","data":"line %d"}`, epoch, offset, prev, offset))
}

// position sends a record about the position.
func (c *fakeConn) position(gap bool, epoch string, offset int) {
	c.send(ws.OpText, fmt.Sprintf(`{"gap":%v,"channel":"news","epoch":%q,"offset":%d,"conn":"17"}`, gap, epoch, offset))
}

// next reads one message or control frame; op is 0 when the client is gone.
func (c *fakeConn) next() (op ws.OpCode, payload string) {
	h, err := ws.ReadHeader(c.conn)
	p := make([]byte, h.Length)
	if err == nil {
		_, err = io.ReadFull(c.conn, p)
	}
	if err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) && !isReset(err) {
			c.t.Errorf("fake gateway: read: %v", err)
		}
		return 0, ""
	}
	if !h.Masked {
		c.t.Error("fake gateway: a frame is not masked")
	}
	ws.Cipher(p, h.Mask, 0)
	return h.OpCode, string(p)
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.ErrUnexpectedEOF)
}

// want reads and compares.
func (c *fakeConn) want(op ws.OpCode, payload string) {
	c.t.Helper()
	if gotOp, got := c.next(); gotOp != op || got != payload {
		c.t.Errorf("fake gateway: got %v %q, want %v %q", gotOp, got, op, payload)
	}
}

// confirm answers pings until the client closes, and returns what it has published.
func (c *fakeConn) confirm() (published []string) {
	for {
		switch op, payload := c.next(); op {
		case ws.OpPing:
			c.send(ws.OpPong, payload)
		case ws.OpClose:
			c.send(ws.OpClose, payload)
			return published
		case 0:
			return published
		default:
			published = append(published, payload)
		}
	}
}

// wantBye waits for the client's Close frame with 1000 and answers it.
func (c *fakeConn) wantBye() {
	c.t.Helper()
	for {
		op, payload := c.next()
		if op == ws.OpPing {
			continue
		}
		if op != ws.OpClose || payload != "\x03\xe8" {
			c.t.Errorf("fake gateway: got %v %q, want a Close frame with 1000", op, payload)
		}
		if op == ws.OpClose {
			c.send(ws.OpClose, payload)
		}
		return
	}
}

// close sends a Close frame and waits until the client has hung up.
func (c *fakeConn) close(code ws.StatusCode, reason string) {
	c.send(ws.OpClose, string(ws.NewCloseFrameBody(code, reason)))
	for op := ws.OpText; op != 0; {
		op, _ = c.next()
	}
}
