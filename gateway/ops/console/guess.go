package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"sync"
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
// its /64. When the table is full, the addresses that are not in it count as one.
type guesses struct {
	key [sha256.Size]byte // set at construction: the hash of the right one

	mu sync.Mutex
	// Guarded by mu. A comparison is made under it too, so that nobody guesses twice at once.
	wrong map[netip.Prefix]*tries
}

// tries are the times of the last wrong keys, of which the one at next is the oldest.
type tries struct {
	at   [guessesMost]time.Time
	next int
}

// compare compares a key. For keyUnread, wait is how long it takes until another is compared.
func (g *guesses) compare(key string, addr netip.Addr, now time.Time) (v verdict, wait time.Duration) {
	got := sha256.Sum256([]byte(key))
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
	if subtle.ConstantTimeCompare(got[:], g.key[:]) == 1 {
		return keyRight, 0
	}
	if t == nil {
		if g.wrong == nil {
			g.wrong = make(map[netip.Prefix]*tries)
		}
		t = new(tries)
		g.wrong[from] = t
	}
	t.at[t.next] = now
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
