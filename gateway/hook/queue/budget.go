package queue

import (
	"hash/maphash"
	"net/netip"
	"sync"
)

// Key stands for a client address. The zero Key is that of calls without one. It has 32 bits,
// because there are two maps of them: that two addresses which wait at the same time have one is
// rare, and then they share a line.
type Key uint32

var keySeed = maphash.MakeSeed()

// KeyOf returns an address's Key. IPv6 addresses of one /64 network have one Key, because one
// client can have all of them.
func KeyOf(addr netip.Addr) Key {
	if !addr.IsValid() {
		return 0
	}
	addr = addr.Unmap()
	b := addr.As16()
	if addr.Is4() {
		return Key(maphash.Bytes(keySeed, b[:]))
	}
	return Key(maphash.Bytes(keySeed, b[:8]))
}

// queueMost is the number of calls that may wait by default.
const queueMost = 10_000

// Budget bounds what waits, in all and for each address. Several queues may share one. It is
// safe for concurrent use.
type Budget struct {
	// Set at construction.
	most, share int

	mu sync.Mutex
	// Guarded by mu.
	used int
	keys map[Key]int32 // of the addresses that have something waiting
}

// NewBudget returns a Budget for at most so many in all, 0 for 10,000, of which one address can
// have share, 0 for half of them.
func NewBudget(most, share int) *Budget {
	if most == 0 {
		most = queueMost
	}
	if share == 0 {
		share = (most + 1) / 2
	}
	return &Budget{most: most, share: share, keys: make(map[Key]int32)}
}

// Take takes a place for an address, and reports whether there was one.
func (b *Budget) Take(k Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.keys[k]
	if b.used >= b.most || int(n) >= b.share {
		return false
	}
	b.used++
	b.keys[k] = n + 1
	return true
}

// Release frees a place that Take has taken.
func (b *Budget) Release(k Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.keys[k]
	if n <= 0 {
		panic("queue: a place is released twice")
	}
	b.used--
	if n == 1 {
		delete(b.keys, k)
		return
	}
	b.keys[k] = n - 1
}

// Used returns how many places are taken.
func (b *Budget) Used() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
