package api

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

// window remembers the results of publications by channel and idempotency key. A publication that
// failed is not remembered, even if the engine may still do it: the engine recognizes it by its ID.
//
// A key is kept as its SHA-256, so that what a caller sends does not count for the memory: a key
// costs 200 to 350 bytes (measured), however long it is. Results leave in the order in which they
// came, which is also that of their expiry, because all are kept equally long. So no timer is
// needed: each call drops what has expired.
type window struct {
	// Set at construction.
	keep time.Duration
	max  int

	mu sync.Mutex
	// Guarded by mu.
	//
	// Invariant: order[head:] has the keys of results, each once, as they came. Callers
	// overtake each other between the clock and the lock: then one is kept longer, by as much.
	results map[digest]remembered
	order   []digest
	head    int
	flights map[digest]*flight
	added   uint64 // results there have been
	copied  uint64 // of those, by copy
}

// digest names a channel and a key.
type digest [sha256.Size]byte

// id returns the digest as the ID of a message.
func (d digest) id() string { return hex.EncodeToString(d[:]) }

type remembered struct {
	result PublishResult
	until  time.Time
}

// flight is a publication that is being done.
type flight struct {
	done chan struct{} // closed when it is
	// Set before done is closed.
	result PublishResult
	ok     bool
}

func newWindow(keep time.Duration, max int) *window {
	return &window{keep: keep, max: max, results: make(map[digest]remembered), flights: make(map[digest]*flight)}
}

func digestOf(channel, key string) digest {
	b := make([]byte, 0, 128)
	b = binary.BigEndian.AppendUint64(b, uint64(len(channel))) // so that "a"+"bc" is not "ab"+"c"
	b = append(b, channel...)
	return sha256.Sum256(append(b, key...))
}

// do returns the result remembered for d, or that of publish, which it remembers unless it
// failed. While another caller is publishing for d, it waits for that call.
func (w *window) do(ctx context.Context, d digest, now func() time.Time, publish func() (PublishResult, error)) (PublishResult, error) {
	for {
		result, other, known := w.begin(d, now())
		if known {
			return result, nil
		}
		if other == nil {
			break
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return PublishResult{}, ctx.Err()
		}
		if other.ok {
			return other.result, nil
		}
	}
	var result PublishResult
	ok := false
	defer func() { w.finish(d, now(), result, ok) }() // also where publish panics: others wait
	result, err := publish()
	ok = err == nil
	return result, err
}

// begin returns the result for d if it is known, or the flight to wait for. If it returns neither, the
// caller publishes and must call finish.
func (w *window) begin(d digest, now time.Time) (result PublishResult, other *flight, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expire(now)
	if r, ok := w.results[d]; ok {
		return r.result, nil, true
	}
	if f := w.flights[d]; f != nil {
		return PublishResult{}, f, false
	}
	w.flights[d] = &flight{done: make(chan struct{})}
	return PublishResult{}, nil, false
}

// finish ends what begin started.
func (w *window) finish(d digest, now time.Time, result PublishResult, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.flights[d]
	delete(w.flights, d)
	f.result, f.ok = result, ok
	close(f.done)
	w.expire(now)
	if !ok {
		return
	}
	w.addLocked(d, remembered{result, now.Add(w.keep)})
}

// addLocked adds the newest result.
func (w *window) addLocked(d digest, r remembered) {
	if len(w.results) == w.max {
		w.pop()
	}
	w.results[d] = r
	w.order = append(w.order, d)
	w.added++
}

// expire drops the results that have expired.
func (w *window) expire(now time.Time) {
	for w.head < len(w.order) && !now.Before(w.results[w.order[w.head]].until) {
		w.pop()
	}
}

// pop drops the oldest.
func (w *window) pop() {
	delete(w.results, w.order[w.head])
	w.head++
	switch {
	case w.head == len(w.order):
		w.order, w.head = nil, 0
		w.results = make(map[digest]remembered) // a map does not shrink
	case w.head > len(w.order)/2:
		w.order = w.order[:copy(w.order, w.order[w.head:])]
		w.head = 0
	}
}
