package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"sluice/bench/record"
	"sluice/bench/wsclient"
)

// Client is a subscriber that records what it receives. It takes one goroutine and 16 KiB
// while it is connected.
type Client struct {
	// Set at construction.
	run     *Run
	gateway *Gateway
	options ClientOptions
	pace    pace

	witness *witness // nil: one publisher's receipts are the whole order

	// Owned by the client's goroutine; read when it has ended.
	account Account
	numbers *Numbers // in place of the account, where the order of the channel is each node's own
	reader  record.Reader
	arrived time.Duration // when the bytes came that were read last
	cutAt   time.Time     // when it lost its connection

	// Atomic: any goroutine looks.
	connected atomic.Bool
	last      atomic.Uint64 // offset
	newest    atomic.Int64  // when what it has got last was published, since the row began; with Many
	places    atomic.Int64  // connections that came to their first record

	finished sync.Once
	ending   chan struct{} // closed when it is to end its connection itself

	mu    sync.Mutex // guards conn, what is written to it, the closing of ending, and lasts
	conn  *wsclient.Conn
	lasts map[string]uint64 // by author: the number of its last publication
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
	Nodes         []*Gateway    // it comes back to any of them
	Many          bool          // several authors publish into the channel (Run.Write)
	Numbered      bool          // ... and its order is each node's own
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
// their position in the channel.
func (r *Run) Join(g *Gateway, n int, o ClientOptions) ([]*Client, error) {
	clients := make([]*Client, n)
	places := make(chan struct{}, dialers)
	failed := make(chan error, n)
	for i := range clients {
		c := &Client{run: r, gateway: g, options: o, ending: make(chan struct{}), account: Account{Name: o.Name + "-" + strconv.Itoa(i), Channel: o.Channel, Whole: o.Whole}}
		c.pace.set(0)
		if o.Many && !o.Numbered {
			c.witness = r.witness(o.Channel)
		}
		if o.Numbered {
			c.numbers = &Numbers{Name: c.account.Name, Runs: make(map[string][]Span)}
		}
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
// joined is called once: with nil when the first connection has its position, or with why it failed.
func (c *Client) live(joined func(error)) {
	var once sync.Once
	tell := func(err error) { once.Do(func() { joined(err) }) }
	begin, since := Joined, "now"
	for tries := 0; ; tries++ {
		if n := len(c.options.Nodes); tries > 0 && n > 0 {
			c.gateway = c.options.Nodes[(uint64(tries)+hashOf([]byte(c.account.Name)))%uint64(n)]
		}
		conn, err := c.connect(since)
		switch {
		case err == nil:
			c.account.add(Event{Kind: begin})
			var fresh sync.Once
			c.read(conn, func() {
				fresh.Do(func() {
					c.places.Add(1)
					if begin == Resumed {
						c.run.cameBack(time.Since(c.cutAt))
					}
				})
				tell(nil)
			})
			c.cutAt = time.Now()
			tell(errors.New("the connection ended before its position arrived"))
		case begin == Joined:
			tell(err)
			return
		}
		if epoch, last := c.position(); epoch != "" {
			begin, since = Resumed, epoch+":"+strconv.FormatUint(last, 10)
		}
		if !c.options.ComeBack || c.over() || c.run.Pause(comeBackAfter) != nil {
			return
		}
		c.pass()
	}
}

// position returns the newest position that the client has.
func (c *Client) position() (epoch string, last uint64) {
	if c.numbers != nil {
		return c.numbers.epoch, c.numbers.offset
	}
	return c.account.position()
}

// position returns the newest position in the account.
func (a *Account) position() (epoch string, last uint64) {
	for i := len(a.Events) - 1; i >= 0; i-- {
		if e := a.Events[i]; e.Epoch != "" {
			return e.Epoch, e.Last
		}
	}
	return "", 0
}

// over reports whether the row has no more use for the client.
func (c *Client) over() bool {
	select {
	case <-c.ending:
		return true
	default:
		return false
	}
}

var errOver = errors.New("the row has ended")

// url is where the client connects for what follows a position.
func (c *Client) url(since string) string {
	scheme, addr := "ws", c.gateway.Public
	if c.options.TLS {
		scheme, addr = "wss", c.gateway.Secure
	}
	return fmt.Sprintf("%s://%s/ws/%s?format=json&since=%s", scheme, cmp.Or(c.options.Through, addr), url.PathEscape(c.options.Channel), url.QueryEscape(since))
}

func (c *Client) connect(since string) (*wsclient.Conn, error) {
	if c.over() {
		return nil, errOver
	}
	d := wsclient.Dialer{Timeout: 30 * time.Second, TLS: &tls.Config{InsecureSkipVerify: true}, Buffer: 16 << 10}
	if n := c.options.ReceiveBuffer; n > 0 { // before connecting: the window is agreed on there
		d.Control = func(_, _ string, socket syscall.RawConn) (err error) {
			outer := socket.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, n) })
			return errors.Join(outer, err)
		}
	}
	conn, err := d.Dial(c.run.ctx, c.url(since))
	if err != nil {
		return nil, err
	}
	paced := &pacedReader{c.run.ctx, conn.Net, &c.pace}
	c.arrived = time.Since(c.run.began)
	conn.Read = func(p []byte) (int, error) {
		n, err := paced.Read(p)
		c.arrived = time.Since(c.run.began)
		return n, err
	}
	if delay := c.options.PongDelay; delay > 0 {
		conn.OnPing = func(payload []byte) {
			pong := ws.NewPongFrame(bytes.Clone(payload))
			time.AfterFunc(delay, func() { c.write(pong) })
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over() {
		conn.Close()
		return nil, errOver
	}
	c.conn = conn
	c.connected.Store(true)
	return conn, nil
}

// read takes down what comes, to the connection's end. placed is called when the first
// record has come.
func (c *Client) read(conn *wsclient.Conn, placed func()) {
	end, err := c.records(conn, placed)
	if err != nil {
		end = Event{Kind: Broken, Text: err.Error()}
		if errors.As(err, new(garbled)) {
			end.Kind = Garbled
		}
	}
	c.mu.Lock()
	if c.over() && (err == nil || errors.Is(err, io.EOF)) {
		end = Event{Kind: Stayed} // it is we who have closed it
	}
	conn.Close()
	c.conn = nil
	c.mu.Unlock()
	c.account.add(end)
	c.connected.Store(false)
}

// garbled is the error of bytes that the gateway must not have sent.
type garbled struct{ text string }

func (g garbled) Error() string { return g.text }

// records takes down records and returns the event of a Close frame.
func (c *Client) records(conn *wsclient.Conn, placed func()) (Event, error) {
	for {
		op, p, err := conn.Next()
		var closed wsutil.ClosedError
		switch {
		case errors.As(err, &closed):
			return Event{Kind: Closed, Code: int(closed.Code), Text: closed.Reason}, nil
		case wsclient.IsInvalid(err):
			return Event{}, garbled{err.Error()}
		case err != nil:
			return Event{}, err
		case op != ws.OpText:
			return Event{}, garbled{"a message that is no record, because it is binary"}
		}
		if err := c.take(p); err != nil {
			return Event{}, err
		}
		placed()
	}
}

// take takes down one record.
func (c *Client) take(p []byte) error {
	r, err := c.reader.Read(p)
	switch {
	case err != nil || r.Epoch == "":
		return garbled{fmt.Sprintf("not a record with a position: %.200q", p)}
	case r.Kind == record.Gap:
		if c.numbers != nil {
			c.numbers.begin(r.Epoch, r.Offset)
			r.Epoch, r.Offset = "", 0 // the account has no positions
		}
		c.account.add(Event{Kind: Gap, Epoch: r.Epoch, Last: r.Offset})
	case r.Kind == record.Position:
		if c.numbers != nil {
			c.numbers.stands(r.Epoch, r.Offset)
			r.Epoch, r.Offset = "", 0
		}
		c.account.add(Event{Kind: Position, Epoch: r.Epoch, Last: r.Offset})
	case r.Kind != record.Publication || r.Binary:
		return garbled{fmt.Sprintf("a message without text, which was not published: %.200q", p)}
	default:
		if c.options.Many {
			c.tookOfMany(r.Payload)
		}
		if c.numbers != nil {
			c.numbers.got(r.Epoch, r.Offset, r.Prev, r.Payload)
		} else {
			hash := hashOf(r.Payload)
			c.account.got(r.Epoch, r.Offset, r.Prev, hash)
			if c.witness != nil && !c.witness.saw(r.Epoch, r.Offset, hash) {
				c.account.add(Event{Kind: Garbled, Text: fmt.Sprintf("another client has something else at offset %d", r.Offset)})
			}
		}
		if c.options.Measured {
			if at, ok := stampOf(r.Payload); ok {
				c.run.observe(at, c.arrived)
			}
		}
	}
	c.last.Store(r.Offset)
	return nil
}

// tookOfMany notes how far the client has come in what several authors publish.
func (c *Client) tookOfMany(payload []byte) {
	if at, ok := stampOf(payload); ok {
		c.newest.Store(max(int64(at), c.newest.Load()))
	}
	if name, number, last, ok := authorOf(payload); ok && last {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.lasts == nil {
			c.lasts = make(map[string]uint64)
		}
		c.lasts[string(name)] = max(number, c.lasts[string(name)])
	}
}

// hasLasts reports whether the client has the last publications of authors.
func (c *Client) hasLasts(authors []*author) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(authors, func(a *author) bool { return c.lasts[a.name] < a.finished })
}

// write sends a frame. It does not matter whether it arrives: what the gateway
// makes of a missing answer is seen where the client reads.
func (c *Client) write(f ws.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Net.SetWriteDeadline(time.Now().Add(time.Second)) // ignored: the connection has ended
		c.conn.Send(f)                                           // ignored: as above
	}
}

// finishWithin is how long a client waits for the answer to its Close frame.
const finishWithin = 15 * time.Second

// finish makes the client go at the end of the row. It sends a Close frame and reads to the
// gateway's, for which finish does not wait.
func (c *Client) finish() {
	c.finished.Do(func() {
		c.mu.Lock()
		close(c.ending)
		if c.conn != nil {
			c.conn.Net.SetReadDeadline(time.Now().Add(finishWithin)) // ignored: the connection has ended
		}
		c.mu.Unlock()
		c.pace.set(0)
		c.write(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
	})
}

// Cut ends the connection with a reset, as a network does that forgets it.
func (c *Client) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return
	}
	raw := c.conn.Net
	if secure, ok := raw.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	raw.(*net.TCPConn).SetLinger(0) // ignored: it has ended
	raw.Close()                     // ignored: as above
}
