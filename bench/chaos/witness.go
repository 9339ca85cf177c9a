package main

import (
	"slices"
	"sync"
	"time"
)

// A channel that several gateways publish into has publications of which nobody has a receipt: the
// gateway was killed, or its engine was away. Which of them were published, and where they stand in
// the channel's order, only subscribers know. A witness has what all clients of a channel have seen,
// so that the judge has the whole order.

// witness is what a channel's clients have seen. Its methods may be called from any goroutine.
type witness struct {
	mu     sync.Mutex
	orders map[string]*witnessed // guarded by mu; by epoch
}

// witnessed is what was seen of an epoch.
type witnessed struct {
	begun  time.Time
	hashes map[uint64]uint64 // of the payloads, by offset
}

// saw notes a publication, and returns false if another client has seen another one in its place.
func (w *witness) saw(epoch string, offset, hash uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.order(epoch)
	before, known := o.hashes[offset]
	o.hashes[offset] = hash
	return !known || before == hash
}

// order returns what is known of an epoch. w.mu is held.
func (w *witness) order(epoch string) *witnessed {
	o := w.orders[epoch]
	if o == nil {
		o = &witnessed{time.Now(), make(map[uint64]uint64)}
		w.orders[epoch] = o
	}
	return o
}

// witness returns a channel's.
func (r *Run) witness(channel string) *witness {
	r.measuring.Lock()
	defer r.measuring.Unlock()
	w := r.witnesses[channel]
	if w == nil {
		w = &witness{orders: make(map[string]*witnessed)}
		r.witnesses[channel] = w
	}
	return w
}

// merged returns the orders of a channel, in the order of their beginning: what has a receipt, and what
// a client has seen. fault is called for what is wrong with them.
func (w *witness) merged(channel string, authors []*author, fault func(check, format string, args ...any)) (orders []*Order, unseen uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	type attempt struct {
		*author
		number int // in its hashes
	}
	attempts := map[uint64]attempt{} // by hash
	receipts := map[string]map[uint64]bool{}
	for _, a := range authors {
		if a.channel != channel {
			continue
		}
		for i, h := range a.hashes {
			attempts[h] = attempt{a, i}
		}
		for _, got := range a.receipts {
			o := w.order(got.epoch)
			if at := a.began.Add(got.at); at.Before(o.begun) {
				o.begun = at
			}
			if receipts[got.epoch] == nil {
				receipts[got.epoch] = make(map[uint64]bool)
			}
			seen, known := o.hashes[got.offset]
			switch {
			case receipts[got.epoch][got.offset]:
				fault("C3", "two receipts have offset %d of %s", got.offset, channel)
			case known && seen != a.hashes[got.number]:
				fault("C1", "offset %d of %s is not what its receipt says", got.offset, channel)
			case !known:
				unseen++
			}
			receipts[got.epoch][got.offset] = true
			o.hashes[got.offset] = a.hashes[got.number]
		}
	}
	published := map[uint64]bool{} // by hash
	for epoch, o := range w.orders {
		merged := &Order{Channel: channel, Epoch: epoch, begun: o.begun, unknown: true}
		for offset := range o.hashes {
			merged.Offsets = append(merged.Offsets, offset)
		}
		slices.Sort(merged.Offsets)
		newest := map[*author]int{} // with a receipt
		for _, offset := range merged.Offsets {
			h := o.hashes[offset]
			merged.Hashes = append(merged.Hashes, h)
			a, known := attempts[h]
			switch {
			case !known:
				fault("C1", "offset %d of %s was published by nobody", offset, channel)
				continue
			case published[h]:
				fault("C3", "offset %d of %s was there before: number %d of %s", offset, channel, a.number+1, a.name)
			}
			published[h] = true
			if receipts[epoch][offset] {
				if a.number < newest[a.author] {
					fault("C2", "offset %d of %s is number %d of %s, which comes after number %d", offset, channel, a.number+1, a.name, newest[a.author]+1)
				}
				newest[a.author] = a.number
			}
		}
		orders = append(orders, merged)
	}
	slices.SortFunc(orders, func(a, b *Order) int { return a.begun.Compare(b.begun) })
	return orders, unseen
}
