package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// patience is how long anything that must happen may take on a machine that is busy.
const patience = time.Minute

// peer is one open connection of some client. Its methods are called by one
// goroutine at a time.
type peer interface {
	send(m message) error
	// sendParts sends a message in fragments of partBytes.
	sendParts(m message) error
	ping(payload string) error
	// close begins the closing handshake; code noCode sends an empty Close frame.
	close(code int, reason string) error
}

// partBytes is the size of fragments. gorilla/websocket sends whatever is longer in
// such fragments by itself, so the others do too.
const partBytes = 4096

// Codes that never stand in a Close frame (RFC 6455 section 7.4.1).
const (
	noCode   = 1005
	abnormal = 1006
)

type message struct {
	binary  bool
	payload string
}

// heard is what a connection tells: a message, a pong, or its end, once and last.
type heard struct {
	what string // "message", "pong", "closed"
	message
	code   int
	reason string
}

func (h heard) String() string {
	switch h.what {
	case "closed":
		return fmt.Sprintf("closed %d %q", h.code, h.reason)
	case "pong":
		return fmt.Sprintf("pong %q", h.payload)
	}
	kind := "text"
	if h.binary {
		kind = "binary"
	}
	return fmt.Sprintf("%s of %d bytes %.40q", kind, len(h.payload), h.payload)
}

// client is a WebSocket library, or a browser.
type client struct {
	name string
	// lacks names what the library gives its caller no way to do.
	lacks map[ability]string
	dial  func(ctx context.Context, url string, trust *tls.Config, hear func(heard)) (peer, error)
}

type ability string

const (
	fragments   ability = "send fragments"
	pings       ability = "send a ping"
	badText     ability = "send text that is not UTF-8"
	emptyClose  ability = "close without a code"
	closeAnswer ability = "receive the reply to its Close frame"
)

// conn is a connection and what it has heard and nobody has taken yet.
type conn struct {
	peer
	*client
	heard chan heard
}

// heardMax is more than any connection hears before it is looked at: ten times what
// the exchange publishes.
const heardMax = 1 << 12

// open dials and gives up after a while.
func (c *client) open(ctx context.Context, url string, trust *tls.Config) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o := &conn{client: c, heard: make(chan heard, heardMax)}
	p, err := c.dial(ctx, url, trust, func(h heard) { o.heard <- h })
	if err != nil {
		return nil, fmt.Errorf("%s: dial %s: %w", c.name, url, err)
	}
	o.peer = p
	return o, nil
}

// next gives what was heard next. What is there already is given even when it is late.
func (o *conn) next(ctx context.Context) (heard, error) {
	select {
	case h := <-o.heard:
		return h, nil
	default:
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case h := <-o.heard:
		return h, nil
	case <-late.C:
		return heard{}, fmt.Errorf("nothing arrived for %v", patience)
	case <-ctx.Done():
		return heard{}, ctx.Err()
	}
}

// expect fails if anything else comes next.
func (o *conn) expect(ctx context.Context, want heard) error {
	got, err := o.next(ctx)
	if err != nil {
		return fmt.Errorf("%w: want %v", err, want)
	}
	if got != want {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return nil
}

// eachClient runs f for all clients at once.
func eachClient(clients []*client, f func(*client)) {
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() { f(c) })
	}
	all.Wait()
}
