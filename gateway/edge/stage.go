package edge

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/edge/admit"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/loop"
	"sluice/gateway/route"
)

// The handshake stage is the only place where a connection may have a goroutine:
// it waits for the request's head, with one deadline for all of it, and hands
// the connection to a loop or to net/http. The stage has a fixed number of places. When
// they are taken and another client comes, one that waits for its client's bytes is
// closed, of the address that has most places the one that came first: a flood of
// clients that send nothing passes through without keeping anybody out, and at the
// price of those who flood. Over TLS a client is waited for a moment, see secureTurn.
// Somebody whose bytes have not been looked at yet is not waiting, so a burst of good
// clients is worked off in order. Whose token has to wait for a key set is waiting too.
//
// Of one address only a few TLS handshakes run at a time (turns.go). Others have their
// places, which are the first to go where another address has fewer.

// headBytes is the size of a head's buffer: the largest head and some bytes
// that came behind it.
const headBytes = handshake.HeadBytesMax + 1024

// room is what a handshake needs as long as it has its place, and nothing keeps for longer: the request's strings lie elsewhere,
// and a loop copies what it needs of an arrival. A storm of handshakes would leave most of its garbage here.
type room struct {
	buf      []byte        // the head and what came behind it
	request  route.Request // what the head says
	arrival  loop.Arrival  // what becomes of it
	response [256]byte     // of an ordinary upgrade
}

// rooms are those that are free, at most about as many as the stage has places.
var rooms = sync.Pool{New: func() any { return &room{buf: make([]byte, headBytes)} }}

// free gives the room back.
func (r *room) free() {
	r.request, r.arrival = route.Request{}, loop.Arrival{}
	rooms.Put(r)
}

type stage struct {
	places  int
	running sync.WaitGroup

	mu        sync.Mutex
	changed   sync.Cond             // a place is free, or somebody began to wait
	taken     int                   // guarded by mu
	waiting   *list.List            // guarded by mu: *greeting, the longest wait first
	addresses map[admit.Key]*holder // guarded by mu: of those who have a place and are known
	closed    bool                  // guarded by mu
	moved     bool                  // guarded by mu: handshakes go on in another process
}

func newStage(places int) *stage {
	st := &stage{places: places, waiting: list.New(), addresses: make(map[admit.Key]*holder)}
	st.changed.L = &st.mu
	return st
}

// greeting is one connection in its handshake.
type greeting struct {
	door    *door
	fd      int            // the descriptor, as long as conn is nil; -1 when it was given on
	conn    net.Conn       // a *secure where the door speaks TLS; nil while it is a bare descriptor
	client  netip.AddrPort // the client's address: the peer's, or what a proxy passed on; zero for a Unix socket
	proxied proxied        // how a proxy names its client
	told    bool           // a proxy has passed on the client's address
	// introduced: the header of the PROXY protocol was read.
	introduced bool
	sent       []byte        // what another process has read of it
	seat       admit.Seat    // among the client's connections, until it is given on
	entered    time.Time     // when its place was taken
	refusal    *route.Reject // it is over a limit, and shall be told so; nil when it is not
	until      time.Time     // for the whole handshake; zero until somebody waits
	*room                    // goes back when the place is left

	// What it holds beside its place and its seat, for the case of a panic.
	calculates bool          // the right to calculate
	arriving   *loop.Arrival // its arrival, on its way to a loop: a place among connections and, from detach on, its descriptor
	requesting *webPlace     // a place of net/http's, or its wait for one

	// Guarded by the stage's mu.
	place   *list.Element // in stage.waiting, nil while it does not wait
	holder  *holder       // of its place; nil while its address is not known, and once the place is left
	turn    chan struct{} // closed when its wait for a turn is over
	evict   func()        // ends its wait for a key set; nil while it does not wait for one
	queued  bool          // it waits for a turn
	begun   bool          // its TLS handshake counts among its address's
	evicted bool          // its place was given to another
	refused bool          // it is counted already, and only its answer is under way; set before it waits
	left    atomic.Bool
	heard   atomic.Bool // its ClientHello was answered
}

// enter takes a place for g and starts its handshake. When none is free it evicts
// somebody who waits; when nobody can be it lets the caller wait for those that are
// being worked on, unless that is hopeless: then g is the one that goes. false: it
// was not taken in.
func (st *stage) enter(g *greeting, now time.Time) bool {
	var victim *greeting
	st.mu.Lock()
	for st.taken >= st.places && !st.closed && !st.moved {
		var spared time.Duration
		if victim, spared = st.victimLocked(g, now); victim != nil {
			break
		}
		if st.hopelessLocked(g, now) {
			st.mu.Unlock()
			g.door.server.refused(outcomeEvicted, g.client)
			return false
		}
		t := time.AfterFunc(spared, st.wakeAll)
		st.changed.Wait()
		t.Stop()
		now = time.Now()
	}
	if st.closed {
		st.mu.Unlock()
		return false
	}
	if victim != nil {
		st.evictLocked(victim)
	}
	g.entered = now
	st.taken++
	st.knowLocked(g)
	st.running.Add(1)
	st.mu.Unlock()
	if victim != nil && !victim.refused {
		g.door.server.refused(outcomeEvicted, victim.client)
	}
	g.start()
	return true
}

func (st *stage) wakeAll() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.changed.Broadcast()
}

// evictLocked frees g's place at once; its goroutine ends by itself.
func (st *stage) evictLocked(g *greeting) {
	st.interruptLocked(g)
	g.evicted = true
	st.freeLocked(g)
}

// interruptLocked ends g's wait.
func (st *stage) interruptLocked(g *greeting) {
	st.waiting.Remove(g.place)
	g.place = nil
	switch {
	case g.queued:
		close(g.turn)
	case g.evict != nil:
		g.evict()
	default:
		g.conn.SetReadDeadline(time.Unix(1, 0)) // ignored: then it was closed already
	}
}

// freeLocked takes g's place off the counts.
func (st *stage) freeLocked(g *greeting) {
	st.taken--
	st.forgetLocked(g)
}

// secureTurn is how long a client that has said a whole ClientHello is waited for before
// its place can be had by another: the handshake has a turn of its own, and when all come
// at once a good client needs a while for it. One that has not, and one of an address that
// finishes nothing, is waited for only so long that a flood of them passes through at more
// than a thousand a second.
const (
	secureTurn  = time.Second
	secureShort = 100 * time.Millisecond
)

// victimLocked returns the one that waits of the address with most places, and has its place for
// longest, unless all who wait are spared: then nobody, and for how long that is so.
func (st *stage) victimLocked(newcomer *greeting, now time.Time) (victim *greeting, spared time.Duration) {
	spared = time.Hour // nobody waits: somebody has to begin to, or leave
	most, mine := 0, st.heldLocked(newcomer)
	for e := st.waiting.Front(); e != nil; e = e.Next() {
		g := e.Value.(*greeting)
		held := st.heldLocked(g)
		if left := g.spared(held > mine && st.holderLocked(g).fruitless(now), now); left > 0 {
			spared = min(spared, left)
		} else if victim == nil || held > most || held == most && g.entered.Before(victim.entered) {
			victim, most = g, held
		}
	}
	return victim, spared
}

// spared returns for how long g keeps its place in any case; short is for one of an address
// that has more places than that of who wants one, and finishes nothing. It counts from
// when the place was taken, so that nobody is spared forever by sending a byte now and
// then. Who waits for a turn waits for us.
func (g *greeting) spared(short bool, now time.Time) time.Duration {
	turn := secureTurn
	switch {
	case g.door.tls == nil:
		return 0
	case g.queued && !short:
		return g.until.Sub(now)
	case short, !g.heard.Load():
		turn = secureShort
	}
	return turn - now.Sub(g.entered)
}

// wait marks g as waiting for its client; false when it was evicted before.
func (g *greeting) wait() bool { return g.waitUntil(nil) }

// waitUntil is wait for what is not the client's bytes: evict ends it.
func (g *greeting) waitUntil(evict func()) bool {
	st := g.door.server.stage
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.moved || g.evicted {
		return false
	}
	g.evict = evict
	g.place = st.waiting.PushBack(g)
	st.changed.Signal()
	return true
}

// hurry takes g off the waiting; false when it was evicted.
func (g *greeting) hurry() bool {
	st := g.door.server.stage
	st.mu.Lock()
	defer st.mu.Unlock()
	if g.place != nil {
		st.waiting.Remove(g.place)
		g.place = nil
	}
	g.evict = nil
	return !g.evicted && !st.moved
}

// Leave gives the place back. Later calls do nothing.
func (g *greeting) Leave() {
	if g.left.Swap(true) {
		return
	}
	g.hurry()
	st := g.door.server.stage
	st.mu.Lock()
	if !g.evicted {
		st.freeLocked(g)
		st.changed.Signal()
	}
	st.mu.Unlock()
	g.door.server.admission.Leave(g.seat)
	g.free()
	st.running.Done()
}

// NotArrived implements origin.
func (g *greeting) NotArrived(err error) { g.door.server.refused(notArrivedOutcome(err), g.client) }

// close refuses new connections and closes those that wait.
func (st *stage) close() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.closed = true
	for st.waiting.Len() > 0 {
		st.evictLocked(st.waiting.Front().Value.(*greeting))
	}
	st.changed.Broadcast()
}

// wait waits until all places are left.
func (st *stage) wait() { st.running.Wait() }

// errEvicted ends a greeting whose place was needed.
var errEvicted = errors.New("gateway: handshake evicted")

// readHead waits until the buffer, of which n bytes are filled, holds a whole
// head: its length, and the number of bytes read, which may be more.
func (g *greeting) readHead(n int) (head, read int, err error) {
	head, reject := handshake.End(g.buf[:n], 0)
	switch {
	case reject != nil:
		return 0, n, reject
	case head > 0:
		return head, n, nil
	}
	if g.until.IsZero() {
		g.until = time.Now().Add(g.door.deadline(n))
	}
	g.conn.SetReadDeadline(g.until) // ignored: then the read fails
	if !g.wait() {
		return 0, n, errEvicted
	}
	for err == nil && head == 0 {
		var m int
		var reject *route.Reject
		m, err = g.conn.Read(g.buf[n:])
		if m > 0 {
			if head, reject = handshake.End(g.buf[:n+m], n); reject != nil {
				err = reject
			}
			n += m
		}
	}
	if !g.hurry() {
		return 0, n, errEvicted
	}
	if head > 0 {
		err = nil // whatever comes behind the head is seen by the next read
	}
	return head, n, err
}
