package main

import (
	"hash/maphash"
	"math"
	"slices"
	"time"
)

// Ledger is everything that a row is judged by.
type Ledger struct {
	Orders   []*Order           `json:"orders"`
	Clients  []Account          `json:"clients"`
	Counters map[string]float64 `json:"counters"` // of the gateway; see counters

	// Of several authors.
	Unseen  uint64                `json:"unseen,omitempty"`  // publications with a receipt that no client has seen
	Numbers map[string][]*Numbers `json:"numbers,omitempty"` // by channel whose order is each node's own
	Written map[string][]*written `json:"-"`                 // likewise
}

// Order is what was published to a channel's epoch: by one publisher, from its receipts, or by
// several (witness.merged). Its offsets grow, and may have holes.
type Order struct {
	Channel string   `json:"channel"`
	Epoch   string   `json:"epoch"`
	Offsets []uint64 `json:"offsets"`
	Hashes  []uint64 `json:"hashes"` // of the publications with these offsets
	// Subscribers is the sum of those that the receipts name.
	Subscribers uint64 `json:"subscribers"`

	begun   time.Time // of an order of several publishers
	unknown bool      // there may have been publications that nobody has seen and that have no receipt
	running []uint64  // by number of hashes
}

// Last returns the newest offset; 0 where there is none.
func (o *Order) Last() uint64 {
	if n := len(o.Offsets); n > 0 {
		return o.Offsets[n-1]
	}
	return 0
}

// between counts the publications after an offset and up to another.
func (o *Order) between(after, upTo uint64) uint64 {
	if o == nil || upTo <= after {
		return 0
	}
	return uint64(o.above(upTo) - o.above(after))
}

// above returns the index of the first offset above one.
func (o *Order) above(offset uint64) int {
	i, found := slices.BinarySearch(o.Offsets, offset)
	if found {
		i++
	}
	return i
}

// prev returns the offset before one, 0 for the first.
func (o *Order) prev(offset uint64) uint64 {
	if i, _ := slices.BinarySearch(o.Offsets, offset); i > 0 {
		return o.Offsets[i-1]
	}
	return 0
}

// sum returns the running hash of the publications from one offset to another, and how many they
// are; false where one of the two was not published.
func (o *Order) sum(first, last uint64) (hash, count uint64, ok bool) {
	from, found := slices.BinarySearch(o.Offsets, first)
	to, alsoFound := slices.BinarySearch(o.Offsets, last)
	if !found || !alsoFound || from > to {
		return 0, 0, false
	}
	if len(o.running) != len(o.Hashes)+1 {
		o.running = make([]uint64, 1, len(o.Hashes)+1)
		for i, h := range o.Hashes {
			o.running = append(o.running, chain(o.running[i], h))
		}
	}
	count = uint64(to - from + 1)
	return o.running[to+1] - o.running[from]*power(count), count, true
}

// A running hash is a polynomial in chainBase modulo 2^64, so that the hash of any
// range can be had from those of two prefixes.
const chainBase = 0x9e3779b97f4a7c15

func chain(sum, hash uint64) uint64 { return sum*chainBase + hash }

func power(n uint64) uint64 {
	result, base := uint64(1), uint64(chainBase)
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			result *= base
		}
		base *= base
	}
	return result
}

// hashSeed makes hashes comparable within one process, which is where ledgers
// are judged.
var hashSeed = maphash.MakeSeed()

// hashOf returns the hash of a payload. maphash costs 20 ns for 512 bytes; a
// tester that shares the cores with the gateway cannot afford a slower one.
func hashOf(payload []byte) uint64 { return maphash.Bytes(hashSeed, payload) }

// Account is what one client wrote down of one channel, over all its connections.
type Account struct {
	Name    string `json:"name"`
	Channel string `json:"channel"`
	// Whole: this client does nothing that could cost it a publication; it must have
	// all of them, on one connection, without a gap record.
	Whole  bool    `json:"whole,omitempty"`
	Events []Event `json:"events"`
}

// Event is a line of an account. Run-length encoding is all that a client does by
// itself; what the lines mean is decided by Judge.
type Event struct {
	Kind  Kind   `json:"kind"`
	Epoch string `json:"epoch,omitempty"`
	Prev  uint64 `json:"prev,omitempty"`  // of a run: of its first publication
	First uint64 `json:"first,omitempty"` // of a run
	Last  uint64 `json:"last,omitempty"`  // of a run; the offset of a position or gap
	Count uint64 `json:"count,omitempty"` // of a run
	Hash  uint64 `json:"hash,omitempty"`  // of a run: chain over its payloads
	Code  int    `json:"code,omitempty"`  // of a Close frame
	Text  string `json:"text,omitempty"`  // the reason of an end
}

// Kind says what an Event is.
type Kind string

const (
	Joined   Kind = "joined"   // asks for what comes from now on
	Resumed  Kind = "resumed"  // came back with the position it had
	Position Kind = "position" // record with gap=false: where live begins
	Got      Kind = "got"      // publications of which each follows the one before, as its prev says
	Gap      Kind = "gap"      // record with gap=true
	Closed   Kind = "closed"   // a Close frame
	Broken   Kind = "broken"   // an end without one
	Garbled  Kind = "garbled"  // what came is no frame or record: the client gave up
	Stayed   Kind = "stayed"   // it was there when all was published and delivered
)

// got adds one publication to the account.
func (a *Account) got(epoch string, offset, prev, hash uint64) {
	if n := len(a.Events); n > 0 {
		e := &a.Events[n-1]
		if e.Kind == Got && e.Last == prev && offset > prev && e.Epoch == epoch {
			e.Last, e.Count, e.Hash = offset, e.Count+1, chain(e.Hash, hash)
			return
		}
	}
	a.Events = append(a.Events, Event{Kind: Got, Epoch: epoch, Prev: prev, First: offset, Last: offset, Count: 1, Hash: hash})
}

func (a *Account) add(e Event) { a.Events = append(a.Events, e) }

// received counts the publications of all its runs.
func (a *Account) received() (n uint64) {
	for _, e := range a.Events {
		n += e.Count
	}
	return n
}

// ends counts the events of a kind, with a close code where it is not negative.
func (a *Account) ends(k Kind, code int) (n int) {
	for _, e := range a.Events {
		if e.Kind == k && (code < 0 || e.Code == code) {
			n++
		}
	}
	return n
}

// gaps reports whether the account has a gap record.
func (a *Account) gaps() bool {
	return slices.ContainsFunc(a.Events, func(e Event) bool { return e.Kind == Gap })
}

// order finds what was published to a channel's epoch; nil where nothing was.
func (l *Ledger) order(channel, epoch string) *Order {
	for _, o := range l.Orders {
		if o.Channel == channel && o.Epoch == epoch {
			return o
		}
	}
	return nil
}

// counter returns a counter of the gateway, and false where it has none of that name.
func (l *Ledger) counter(name string) (uint64, bool) {
	v, ok := l.Counters[name]
	return uint64(math.Round(v)), ok
}
