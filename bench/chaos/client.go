package chaos

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
)

// Client is a subscriber that records what it receives. It takes one goroutine and 16 KiB
// while it is connected.
type Client struct {
	// Set at construction.
	run     *Run
	gateway *Gateway
	options ClientOptions
	pace    pace

	// Owned by the client's goroutine; read when it has ended.
	account Account
	reader  recordReader
	large   []byte // a frame that is longer than the reader's buffer

	// Atomic: any goroutine looks.
	connected atomic.Bool
	last      atomic.Uint64 // offset
	places    atomic.Int64  // connections that came to their first record

	ending chan struct{} // closed when it is to end its connection itself

	mu    sync.Mutex // guards conn, and what is written to it
	conn  net.Conn
	final Kind // Stayed or Left when it ends its connection itself; "" before
}

// ClientOptions are the settings of clients.
type ClientOptions struct {
	Name          string
	Channel       string
	Whole         bool          // must receive everything
	Measured      bool          // its latency counts
	ComeBack      bool          // reconnects with its position when it was cut off
	ReceiveBuffer int           // SO_RCVBUF; 0: the kernel's own way
	PongDelay     time.Duration // before it answers a ping
	Through       string        // HOST:PORT to connect to in place of the gateway
	TLS           bool          // full handshakes, certificates not verified
	Gate          *Gate         // reconnects only while this is open
}

// Gate holds clients back, to let all of them come at once.
type Gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while it is open; guarded by mu
}

// NewGate returns a closed gate.
func NewGate() *Gate { return &Gate{open: make(chan struct{})} }

// Open lets clients pass, until Shut.
func (g *Gate) Open() { g.mu.Lock(); defer g.mu.Unlock(); close(g.open) }

// Shut ends what Open began.
func (g *Gate) Shut() { g.mu.Lock(); defer g.mu.Unlock(); g.open = make(chan struct{}) }

// pass waits for the gate, where there is one.
func (c *Client) pass() {
	g := c.options.Gate
	if g == nil {
		return
	}
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
	case <-c.ending:
	case <-c.run.ctx.Done():
	}
}

// dialers is how many connects of a row are under way.
const dialers = 64

// Join connects n clients, each with a number behind its name, and returns when all have
// their place in the channel.
func (r *Run) Join(g *Gateway, n int, o ClientOptions) ([]*Client, error) {
	clients := make([]*Client, n)
	places := make(chan struct{}, dialers)
	failed := make(chan error, n)
	for i := range clients {
		c := &Client{run: r, gateway: g, options: o, ending: make(chan struct{}), account: Account{Name: o.Name + "-" + strconv.Itoa(i), Channel: o.Channel, Whole: o.Whole}}
		c.pace.set(0)
		clients[i] = c
		places <- struct{}{}
		r.working.Go(func() { c.live(func(err error) { failed <- err; <-places }) })
	}
	r.clients = append(r.clients, clients...)
	for range clients {
		if err := <-failed; err != nil {
			return nil, fmt.Errorf("connect %s: %w", o.Name, err)
		}
	}
	return clients, nil
}

// Stall makes the client stop reading, or read so many bytes a second; 0: as they come.
func (c *Client) Stall()        { c.pace.set(-1) }
func (c *Client) Pace(rate int) { c.pace.set(rate) }

// Connected reports whether the client is connected.
func (c *Client) Connected() bool { return c.connected.Load() }

// comeBackAfter is how long a client that was cut waits.
const comeBackAfter = 50 * time.Millisecond

// live is the client's life: connection after connection while it comes back.
// joined is told once how the first one began: when its place came.
func (c *Client) live(joined func(error)) {
	told := false
	tell := func(err error) {
		if !told {
			told = true
			joined(err)
		}
	}
	begin, since := Joined, "now"
	for {
		br, err := c.connect(since)
		switch {
		case err == nil:
			c.account.add(Event{Kind: begin})
			fresh := true
			c.read(br, func() {
				if fresh {
					fresh = false
					c.places.Add(1)
				}
				tell(nil)
			})
			tell(errors.New("the connection ended before its position arrived"))
		case begin == Joined:
			tell(err)
			return
		}
		if epoch, last := c.account.place(); epoch != "" {
			begin, since = Resumed, epoch+":"+strconv.FormatUint(last, 10)
		}
		if !c.options.ComeBack || c.over() || c.run.Pause(comeBackAfter) != nil {
			return
		}
		c.pass()
	}
}

// place returns the newest place in the account.
func (a *Account) place() (epoch string, last uint64) {
	for i := len(a.Events) - 1; i >= 0; i-- {
		if e := a.Events[i]; e.Epoch != "" {
			return e.Epoch, e.Last
		}
	}
	return "", 0
}

// over reports whether the row has no more use for the client.
func (c *Client) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.final != ""
}

var errOver = errors.New("the row has ended")

// url is where the client connects for what follows a place.
func (c *Client) url(since string) string {
	scheme, addr := "ws", c.gateway.Addr
	if c.options.TLS {
		scheme, addr = "wss", c.gateway.Secure
	}
	return fmt.Sprintf("%s://%s/ws/%s?format=json&since=%s", scheme, cmp.Or(c.options.Through, addr), url.PathEscape(c.options.Channel), url.QueryEscape(since))
}

func (c *Client) connect(since string) (*bufio.Reader, error) {
	if c.over() {
		return nil, errOver
	}
	conn, br, err := dial(c.run.ctx, c.url(since), c.options.ReceiveBuffer, &c.pace)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final != "" {
		conn.Close() // ignored: nothing was read from it, or will be
		return nil, errOver
	}
	c.conn = conn
	c.connected.Store(true)
	return br, nil
}

// read takes down what comes, to the connection's end. placed is called when the first
// record has come.
func (c *Client) read(br *bufio.Reader, placed func()) {
	end, err := c.records(br, placed)
	if err != nil {
		end = Event{Kind: Broken, Text: err.Error()}
		if errors.As(err, new(garbled)) {
			end.Kind = Garbled
		}
	}
	c.mu.Lock()
	if c.final != "" && (err == nil || errors.Is(err, io.EOF)) {
		end = Event{Kind: c.final} // it is we who have closed it
	}
	c.conn.Close() // ignored: it has ended
	c.conn = nil
	c.mu.Unlock()
	c.account.add(end)
	c.connected.Store(false)
}

// frameMax is more than any row's message is long.
const frameMax = 16 << 20

// garbled is the error of bytes that the gateway must not have sent.
type garbled struct{ text string }

func (g garbled) Error() string { return g.text }

// records takes down records and returns the event of a Close frame.
func (c *Client) records(br *bufio.Reader, placed func()) (Event, error) {
	now := time.Duration(0)
	for {
		if br.Buffered() == 0 {
			if _, err := br.Peek(1); err != nil {
				return Event{}, err
			}
			now = time.Since(c.run.began)
		}
		h, err := ws.ReadHeader(br)
		if errors.Is(err, ws.ErrHeaderLengthMSB) || errors.Is(err, ws.ErrHeaderLengthUnexpected) || h.Length > frameMax {
			return Event{}, garbled{fmt.Sprintf("a frame of %d bytes: %v", h.Length, err)}
		}
		if err != nil {
			return Event{}, err
		}
		p, err := c.payload(br, int(h.Length))
		if err != nil {
			return Event{}, err
		}
		switch {
		case h.OpCode == ws.OpPing:
			pong := ws.NewPongFrame(bytes.Clone(p))
			if c.options.PongDelay > 0 {
				time.AfterFunc(c.options.PongDelay, func() { c.write(pong) })
				continue
			}
			c.write(pong)
		case h.OpCode == ws.OpClose:
			e := Event{Kind: Closed, Code: int(ws.StatusNoStatusRcvd)}
			if len(p) >= 2 {
				e.Code, e.Text = int(binary.BigEndian.Uint16(p)), string(p[2:])
			}
			c.write(ws.NewCloseFrame(p[:min(len(p), 2)]))
			return e, nil
		case h.OpCode == ws.OpPong:
		case h.OpCode != ws.OpText || !h.Fin || h.Masked:
			return Event{}, garbled{fmt.Sprintf("a frame that cannot contain a record: %+v", h)}
		default:
			if err := c.take(p, now); err != nil {
				return Event{}, err
			}
			placed()
		}
	}
}

// payload returns a frame's payload, valid until the next read.
func (c *Client) payload(br *bufio.Reader, n int) ([]byte, error) {
	if n <= br.Size() {
		p, err := br.Peek(n)
		br.Discard(len(p)) // ignored: as much is there
		return p, err
	}
	if cap(c.large) < n {
		c.large = make([]byte, n)
	}
	_, err := io.ReadFull(br, c.large[:n])
	return c.large[:n], err
}

// take takes down one record.
func (c *Client) take(p []byte, now time.Duration) error {
	r, err := c.reader.read(p)
	switch {
	case err != nil:
		return err
	case r.gap:
		c.account.add(Event{Kind: Gap, Epoch: r.epoch, Last: r.offset})
	case r.place:
		c.account.add(Event{Kind: Place, Epoch: r.epoch, Last: r.offset})
	default:
		c.account.got(r.epoch, r.offset, hashOf(r.payload))
		if c.options.Measured {
			if at, ok := stampOf(r.payload); ok {
				c.run.observe(at, now)
			}
		}
	}
	c.last.Store(r.offset)
	return nil
}

// write sends a frame. It does not matter whether it arrives: what the gateway
// makes of a missing answer is seen where the client reads.
func (c *Client) write(f ws.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.SetWriteDeadline(time.Now().Add(time.Second)) // ignored: the connection has ended
		ws.WriteFrame(c.conn, ws.MaskFrame(f))               // ignored: as above
	}
}

// finishWithin is how long a client waits for the answer to its Close frame.
const finishWithin = 15 * time.Second

// Leave makes the client go before the end of the row; finish, at its end. Either
// is orderly: it sends a Close frame and reads to the gateway's, for which it is
// not waited here.
func (c *Client) Leave()  { c.end(Left) }
func (c *Client) finish() { c.end(Stayed) }

// Cut ends the connection with a reset, as a network does that forgets it.
func (c *Client) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	raw := c.conn
	if secure, ok := raw.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	if raw != nil {
		raw.(*net.TCPConn).SetLinger(0) // ignored: it has ended
		raw.Close()                     // ignored: as above
	}
}

func (c *Client) end(final Kind) {
	c.mu.Lock()
	if c.final != "" {
		c.mu.Unlock()
		return
	}
	c.final = final
	close(c.ending)
	if c.conn != nil {
		c.conn.SetReadDeadline(time.Now().Add(finishWithin)) // ignored: the connection has ended
	}
	c.mu.Unlock()
	c.pace.set(0)
	c.write(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
}
