package edge

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sluice/gateway/edge/admit"
	"sluice/gateway/loop"
)

// places are the requests that net/http may have at a time. An address has its share of
// them (turns.go), and of those who wait for one. When all are taken and somebody comes
// whose address has few, the address with most loses its oldest, if that has had its
// time: a body that does not come, or a large file that is read slowly, may have its
// place for minutes as long as nobody else needs it.
type places struct {
	// Set at construction.
	server      *Server
	most, waits int

	mu      sync.Mutex
	taken   []*webPlace       // guarded by mu: in the order in which they were
	held    map[admit.Key]int // guarded by mu: of each address that is known
	waiting []*webPlace       // guarded by mu: in the order in which they came
}

// webPlace is one request's, or waits to be. It is the caller's, who gives it back.
type webPlace struct {
	// Set at construction.
	key    admit.Key
	known  bool // key is its client's
	seat   admit.Seat
	client netip.AddrPort
	conn   net.Conn      // of package net: closed when another needs the place
	ready  chan struct{} // closed when the wait is over

	since  time.Time // guarded by places.mu
	closed bool      // guarded by places.mu: it was needed
}

func newPlaces(s *Server, most int) *places {
	return &places{server: s, most: most, waits: max(most/2, 1), held: make(map[admit.Key]int)}
}

func newWebPlace(g *greeting) *webPlace {
	x := &webPlace{seat: g.seat, client: g.client, conn: loop.Bare(g.conn), ready: make(chan struct{})}
	if x.key, x.known = admit.KeyOf(g.client.Addr()); !g.known() {
		x.known = false
	}
	return x
}

// take takes a place, at once or, when x.ready is closed, later. ok is false when there
// is none, and too many wait.
func (p *places) take(x *webPlace) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.freeLocked(x) {
		p.giveLocked(x)
		return true
	}
	share, mine := p.server.share(x.seat, p.waits), 0
	for _, w := range p.waiting {
		if w.known && w.key == x.key {
			mine++
		}
	}
	if len(p.waiting) >= p.waits || x.known && mine >= share {
		return false
	}
	p.waiting = append(p.waiting, x)
	p.needLocked(x)
	return true
}

// freeLocked reports whether there is a place that x may have.
func (p *places) freeLocked(x *webPlace) bool {
	return len(p.taken) < p.most && !(x.known && p.held[x.key] >= p.server.share(x.seat, p.most))
}

func (p *places) giveLocked(x *webPlace) {
	x.since = time.Now()
	p.taken = append(p.taken, x)
	if x.known {
		p.held[x.key]++
	}
	close(x.ready)
}

// needLocked makes room for x where another address has more than it would have.
func (p *places) needLocked(x *webPlace) {
	if len(p.taken) < p.most {
		return // its own address has them
	}
	now := time.Now()
	var victim *webPlace
	for _, y := range p.taken { // the oldest first
		if y.known && !y.closed && p.held[y.key] > p.held[x.key]+1 && now.Sub(y.since) > secureTurn &&
			(victim == nil || p.held[y.key] > p.held[victim.key]) {
			victim = y
		}
	}
	if victim != nil {
		victim.closed = true
		victim.conn.Close() // ignored: net/http finds out, and leaves
		p.server.refused(outcomeEvicted, victim.client)
	}
}

// leave gives a place back. Later calls do nothing.
func (p *places) leave(x *webPlace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.taken, x)
	if i < 0 {
		return
	}
	p.taken = slices.Delete(p.taken, i, i+1)
	if x.known {
		if p.held[x.key]--; p.held[x.key] == 0 {
			delete(p.held, x.key)
		}
	}
	for i := 0; i < len(p.waiting) && len(p.taken) < p.most; {
		if next := p.waiting[i]; p.freeLocked(next) {
			p.waiting = slices.Delete(p.waiting, i, i+1)
			p.giveLocked(next)
			continue
		}
		i++
	}
}

// giveUp ends x's wait; false when it has its place already.
func (p *places) giveUp(x *webPlace) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waiting, x)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	return i >= 0
}

// count returns how many have a place, and how many wait for one.
func (p *places) count() (taken, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.taken), len(p.waiting)
}
