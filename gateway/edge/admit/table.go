package admit

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"sluice/gateway/rate"
)

// Limits are the limits of a Table. Zero and negative numbers mean no limit, except where a
// comment gives a default.
type Limits struct {
	// Open is the maximum number of open connections of an address.
	Open int
	// Rate is the number of connections per second that an address may open, Burst how
	// many at once after a pause. Burst defaults to five times Rate. Rates and bursts above
	// a million count as a million.
	Rate, Burst int
	// TotalRate is the number of connections per second that all addresses may open
	// together, and how many at once after a pause.
	TotalRate int
	// LoopbackOpen and LoopbackRate apply Open and Rate to loopback addresses too. By
	// default they are exempt: a trial, a test and a proxy on this machine all come from
	// one address.
	LoopbackOpen, LoopbackRate bool
	// Entries bounds the number of addresses tracked. Default: 65,536.
	Entries int
}

const (
	entriesDefault = 65_536
	burstSeconds   = 5

	// Refusals for each address where it has no rate of its own.
	refusalRate  = 20
	refusalBurst = 100

	// candidates is how many idle entries a new address looks at. Any number
	// above one lets the table shrink; a few more find a place sooner.
	candidates = 4

	// Steps of the clock, in milliseconds: a longer step back is a clock that was
	// set, a shorter one callers that overtook each other. A longer step
	// forward than stepMax fills no bucket more.
	backMax = 1_000
	stepMax = 1 << 32
)

// A Seat is a connection's share in the count of its address. 0 means none: there is
// nothing to give back.
type Seat uint32

// A Key is what one client's addresses have in common.
type Key struct {
	prefix uint64
	v4     bool
}

// KeyOf returns the Key of an address. One that is not valid has none.
func KeyOf(addr netip.Addr) (k Key, ok bool) {
	addr = addr.Unmap()
	switch {
	case !addr.IsValid():
		return Key{}, false
	case addr.Is4():
		a := addr.As4()
		return Key{prefix: uint64(binary.BigEndian.Uint32(a[:])), v4: true}, true
	}
	a := addr.As16()
	return Key{prefix: binary.BigEndian.Uint64(a[:8])}, true
}

// An entry is what is known of one address.
type entry struct {
	key        Key
	mark       rate.Mark // of limits.rate
	refusals   rate.Mark // of Table.refusal
	open       uint32
	prev, next Seat // in the ring of idle entries
}

// limits are what holds for one address.
type limits struct {
	open int
	rate rate.Limit
}

// A Table holds addresses to Limits. All methods are safe for concurrent use.
type Table struct {
	entries int // set at construction

	mu sync.Mutex
	// Guarded by mu.
	far     limits     // of the others
	refusal rate.Limit // of each address
	total   rate.Limit // of all, and of refusals because of it
	tracks  bool       // whether addresses have limits
	here    limits     // of loopback addresses
	seats   map[Key]Seat
	// Invariant: every entry from slab[1] on is in the free list (through next),
	// or in seats; then it is in the ring exactly if nothing of it is open.
	// slab[0] is where the ring begins and ends: next is the one that is idle for longest.
	slab          []entry
	free          Seat
	totalMark     rate.Mark
	totalRefusals rate.Mark
	untracked     uint64
	open          uint64 // of all seats
	blames        map[Key]*blame
	seen          int64 // the caller's time
	clock         int64 // ours: grows with seen, and never falls
}

// New returns an empty table.
func New(l Limits) *Table {
	if l.Entries <= 0 {
		l.Entries = entriesDefault
	}
	t := &Table{entries: l.Entries, seats: make(map[Key]Seat), slab: make([]entry, 1)}
	t.Limit(l)
	return t
}

// Limit replaces the limits, but for Entries. Connections that are open stay, and count.
func (t *Table) Limit(l Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.Burst <= 0 {
		l.Burst = burstSeconds * min(l.Rate, rate.Max)
	}
	l.Burst = min(l.Burst, rate.Max)
	t.far, t.here = limits{l.Open, rate.PerSecondInMillis(l.Rate, l.Burst)}, limits{}
	t.refusal = rate.PerSecondInMillis(l.Rate, l.Burst)
	t.total = rate.PerSecondInMillis(l.TotalRate, l.TotalRate)
	t.tracks = l.Open > 0 || l.Rate > 0
	if l.LoopbackOpen {
		t.here.open = l.Open
	}
	if l.LoopbackRate {
		t.here.rate = t.far.rate
	}
	if l.Rate <= 0 {
		t.refusal = rate.PerSecondInMillis(refusalRate, refusalBurst)
	}
}

// Enter asks to admit a connection from addr at now, in milliseconds. If it is Admitted with
// a Seat other than 0, the caller must call [Table.Leave] when the connection ends. For an
// invalid address (a Unix socket's peer has none) only the total rate applies. A now that
// goes back neither adds nor removes anything.
func (t *Table) Enter(addr netip.Addr, now int64) (Seat, Verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now)
	lim := &t.far
	if addr.Unmap().IsLoopback() {
		lim = &t.here
	}
	k, counted := KeyOf(addr)
	var s Seat
	if counted {
		s = t.seats[k]
	}
	if b := t.blamed(k, t.slab[s].open); b != nil && counted {
		return 0, t.refuse(AddressBlamed, t.refusal, &b.refusals)
	}
	if s != 0 {
		e := &t.slab[s]
		if lim.open > 0 && int64(e.open) >= int64(lim.open) {
			return 0, t.refuse(AddressOpen, t.refusal, &e.refusals)
		}
		if !e.mark.Has(lim.rate, t.clock) {
			return 0, t.refuse(AddressRate, t.refusal, &e.refusals)
		}
	}
	// Behind the address's own limits: what these refuse must not use up what
	// everybody shares.
	if !t.totalMark.Take(t.total, t.clock) {
		return 0, t.refuse(TotalRate, t.total, &t.totalRefusals)
	}
	if counted {
		if s = t.sit(k, s); s != 0 {
			t.slab[s].mark.Take(lim.rate, t.clock)
		}
	}
	return s, Admitted
}

// Take takes a seat for a connection that was admitted elsewhere, whatever the limits are.
func (t *Table) Take(addr netip.Addr) Seat {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, counted := KeyOf(addr)
	if !counted {
		return 0
	}
	return t.sit(k, t.seats[k])
}

// sit adds a connection to an address, whose entry is s, 0 for none. It returns 0 if there is no place for one.
func (t *Table) sit(k Key, s Seat) Seat {
	if s == 0 {
		if s = t.add(k); s == 0 {
			if t.tracks {
				t.untracked++
			}
			return 0
		}
	} else if t.slab[s].open == 0 {
		t.unlink(s)
	}
	t.slab[s].open++
	t.open++
	return s
}

// Majority reports whether a seat's address has more than half of all connections that
// have a seat: most probably it is not a client's, but a proxy's that does not pass on its
// clients' addresses.
func (t *Table) Majority(s Seat) bool {
	if s == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return 2*uint64(t.slab[s].open) > t.open
}

// Leave gives a seat back. It must be called exactly once for each Seat; 0 is
// no seat, and does nothing.
func (t *Table) Leave(s Seat) {
	if s == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &t.slab[s]
	if e.open == 0 {
		panic("admit: a seat was given back twice")
	}
	t.open--
	if e.open--; e.open == 0 {
		t.link(s)
	}
}

// Len returns the number of addresses tracked: those with open connections, and recent
// ones.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.seats)
}

// Untracked returns the number of connections that were admitted without a seat because
// the table was full.
func (t *Table) Untracked() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.untracked
}

func (t *Table) tick(now int64) {
	switch step := now - t.seen; {
	case step > 0:
		t.clock += min(step, stepMax)
	case step > -backMax:
		return
	}
	t.seen = now
}

func (t *Table) refuse(v Verdict, l rate.Limit, mark *rate.Mark) Verdict {
	if mark.Take(l, t.clock) {
		return v
	}
	return v + dropped
}

// add returns a new entry for k, or 0 if there is no place.
func (t *Table) add(k Key) Seat {
	for range candidates {
		s := t.slab[0].next
		if s == 0 {
			break
		}
		e := &t.slab[s]
		t.unlink(s)
		if !e.mark.Full(t.far.rate, t.clock) || !e.refusals.Full(t.refusal, t.clock) {
			t.link(s) // it still counts; ask the others first
			continue
		}
		delete(t.seats, e.key)
		*e = entry{next: t.free}
		t.free = s
	}
	s := t.free
	switch {
	case s != 0:
		t.free = t.slab[s].next
		t.slab[s] = entry{key: k}
	case len(t.seats) >= t.entries:
		return 0
	default:
		s = Seat(len(t.slab))
		t.slab = append(t.slab, entry{key: k})
	}
	t.seats[k] = s
	return s
}

// link puts an entry at the end of the ring of idle ones.
func (t *Table) link(s Seat) {
	last := t.slab[0].prev
	t.slab[s].prev, t.slab[s].next = last, 0
	t.slab[last].next, t.slab[0].prev = s, s
}

func (t *Table) unlink(s Seat) {
	prev, next := t.slab[s].prev, t.slab[s].next
	t.slab[prev].next, t.slab[next].prev = next, prev
}
