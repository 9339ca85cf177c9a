package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	guessesMost  = 10 // wrong keys from one address in guessesTime
	guessesTime  = time.Minute
	guessersMost = 1024 // addresses that are counted one by one
)

// verdict is what a key turned out to be.
type verdict int

const (
	keyRight verdict = iota
	keyWrong
	keyUnread // too many were wrong: whether this one was is not said
)

// guesses compares keys, and counts the wrong ones by address. An IPv6 address counts with all of
// its /64. When the table is full, the addresses that are not in it count as one. The same wrong key again is
// no guess: a program that has an old key does not keep others at its address from being served.
type guesses struct {
	key    [sha256.Size]byte // set at construction: the hash of the right one
	newest atomic.Int64      // when a wrong key came last, in ns since 1970; 0 for never

	mu sync.Mutex
	// Guarded by mu. What a comparison says is decided under it too, so that nobody guesses twice at once.
	wrong map[netip.Prefix]*tries
}

// tries are the last wrong keys, of which the one at next is the oldest.
type tries struct {
	at   [guessesMost]time.Time
	hash [guessesMost]uint64
	next int
}

// has reports whether a wrong key is one of them.
func (t *tries) has(hash uint64) bool {
	for i, h := range t.hash {
		if h == hash && !t.at[i].IsZero() {
			return true
		}
	}
	return false
}

// compare compares a key. For keyUnread, wait is how long it takes until another is compared.
func (g *guesses) compare(key string, addr netip.Addr, now time.Time) (v verdict, wait time.Duration) {
	got := sha256.Sum256([]byte(key))
	right := subtle.ConstantTimeCompare(got[:], g.key[:]) == 1
	if right && now.UnixNano()-g.newest.Load() >= int64(guessesTime) { // requests of programs share no lock, while nobody guesses
		return keyRight, 0
	}
	from := g.place(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.wrong[from]
	if t == nil && len(g.wrong) >= guessersMost {
		g.forget(now)
		if len(g.wrong) >= guessersMost {
			from = netip.Prefix{}
			t = g.wrong[from]
		}
	}
	if t != nil {
		if wait = t.at[t.next].Add(guessesTime).Sub(now); wait > 0 && !t.at[t.next].IsZero() {
			return keyUnread, wait
		}
	}
	if right {
		return keyRight, 0
	}
	g.newest.Store(now.UnixNano())
	if t == nil {
		if g.wrong == nil {
			g.wrong = make(map[netip.Prefix]*tries)
		}
		t = new(tries)
		g.wrong[from] = t
	}
	hash := binary.LittleEndian.Uint64(got[:])
	if t.has(hash) {
		return keyWrong, 0
	}
	t.at[t.next], t.hash[t.next] = now, hash
	t.next = (t.next + 1) % guessesMost
	return keyWrong, 0
}

// place returns what an address is counted as.
func (*guesses) place(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // no address, as of a Unix socket: the zero Prefix
	return p
}

// forget drops the addresses whose last wrong key is long ago.
func (g *guesses) forget(now time.Time) {
	for from, t := range g.wrong {
		if newest := t.at[(t.next+guessesMost-1)%guessesMost]; now.Sub(newest) >= guessesTime {
			delete(g.wrong, from)
		}
	}
}
