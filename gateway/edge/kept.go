package edge

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/edge/admit"
	"sluice/gateway/loop"
)

// The clients of streams send in requests of their own (route.Post), and their connections are kept for the next one: a
// handshake for each would cost more than the request. Between two requests a kept connection has no place among those of
// net/http. Each address may keep a few, for a short time. The next request is answered as the first one is, except that an
// upgrade is refused: it is always the first request of its connection.
//
// A connection of a proxy that names its clients by X-Forwarded-For is not kept: its next request is another client's.

const (
	keptIdle    = 30 * time.Second
	keptAddress = 16   // of one address
	keptMost    = 1024 // of all together
)

// kept are the connections that are kept.
type kept struct {
	server *Server      // set at construction
	count  atomic.Int64 // of conns

	mu        sync.Mutex
	conns     map[*webConn]struct{} // guarded by mu
	addresses map[admit.Key]int     // guarded by mu: how many each has
	over      bool                  // guarded by mu: none is kept any more
}

// keeping is the part of a webConn that is guarded by kept.mu.
type keeping struct {
	place *webPlace // among the requests; nil between two of them
	kept  bool
	key   admit.Key // of the address that keeps it
	idle  bool      // between two requests
	moves bool      // it is closed here for another process
}

// keep keeps a connection after the answer to its request, and reports whether it does.
func (k *kept) keep(c *webConn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || c.keeping.kept {
		return !k.over
	}
	s := k.server
	key, _ := admit.KeyOf(c.client.Addr()) // that of no address for a Unix socket
	if c.shared || len(k.conns) >= keptMost || k.addresses[key] >= keptAddress || s.cfg.MemoryFull() ||
		s.connections.Load()+int64(len(k.conns)) >= int64(s.live.Load().MaxConnections) {
		return false
	}
	c.keeping.kept, c.keeping.key = true, key
	k.conns[c] = struct{}{}
	k.count.Store(int64(len(k.conns)))
	k.addresses[key]++
	return true
}

// end notes that a connection is kept no more, and returns its place.
func (k *kept) end(c *webConn) *webPlace {
	k.mu.Lock()
	defer k.mu.Unlock()
	x := &c.keeping
	if x.kept {
		x.kept, x.idle = false, false
		delete(k.conns, c)
		k.count.Store(int64(len(k.conns)))
		if k.addresses[x.key]--; k.addresses[x.key] == 0 {
			delete(k.addresses, x.key)
		}
	}
	return x.place
}

// state is called when net/http has answered a request of a connection, and when the next one is there.
func (k *kept) state(c *webConn, st http.ConnState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	x := &c.keeping
	switch {
	case !x.kept:
	case st == http.StateIdle:
		k.server.web.places.leave(x.place)
		x.place, x.idle, x.moves = nil, true, k.over
		c.until = time.Time{}
	case st == http.StateActive:
		x.idle, c.until = false, time.Now().Add(webTimeout)
		c.coming()
		if x.moves {
			x.moves = false
			c.Conn.SetReadDeadline(c.until) // ignored: then reading fails
		}
	}
}

// longAgo ends a read.
var longAgo = time.Unix(1, 0)

// setReadDeadline sets the end of a read, unless the connection is to be closed.
func (k *kept) setReadDeadline(c *webConn, t time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.keeping.moves {
		t = longAgo
	}
	return c.Conn.SetReadDeadline(t)
}

// again takes a place for a request of a connection that was kept. It returns false if there is none: the request is answered.
func (k *kept) again(c *webConn, w http.ResponseWriter) bool {
	k.mu.Lock()
	if x := &c.keeping; !x.kept || x.place != nil {
		k.mu.Unlock()
		return true
	}
	place := &webPlace{seat: c.seat, client: c.client, conn: loop.Bare(c.Conn), ready: make(chan struct{})}
	place.key, place.known = c.keeping.key, c.client.IsValid()
	c.keeping.place = place
	k.mu.Unlock()
	s := k.server
	if !s.web.places.take(place) {
		s.refuseHTTP(w, c, rejectBusy)
		return false
	}
	select {
	case <-place.ready:
		return true
	default:
	}
	t := time.NewTimer(webWait)
	defer t.Stop()
	select {
	case <-place.ready:
	case <-t.C:
	case <-s.ending:
	}
	if s.web.places.giveUp(place) {
		s.refuseHTTP(w, c, rejectBusy)
		return false
	}
	return true
}

// place returns a connection's place.
func (k *kept) place(c *webConn) *webPlace {
	k.mu.Lock()
	defer k.mu.Unlock()
	return c.keeping.place
}

// leaves reports whether a connection is about to move to another process.
func (k *kept) leaves(c *webConn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return c.keeping.moves
}

// closes reports whether a connection that is closed moves to another process instead.
func (k *kept) closes(c *webConn) (moves bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	moves = c.keeping.moves
	c.keeping.moves = false
	return moves
}

// move keeps nothing any more: what is between two requests moves to another process, with what has come of the next one.
func (k *kept) move() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	for c := range k.conns {
		if c.keeping.idle {
			c.keeping.moves = true
			c.Conn.SetReadDeadline(longAgo) // ignored: it is closed already
		}
	}
}

// drop closes what is between two requests: others need the room.
func (k *kept) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		if c.keeping.idle {
			c.Conn.SetReadDeadline(longAgo) // ignored: it is closed already
		}
	}
}

// idle returns how many connections are between two requests.
func (k *kept) idle() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		if c.keeping.idle {
			n++
		}
	}
	return n
}

// state is http.Server.ConnState.
func (w *web) state(c net.Conn, st http.ConnState) {
	if st == http.StateIdle || st == http.StateActive {
		w.kept.state(c.(*webConn), st)
	}
}
