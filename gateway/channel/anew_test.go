package channel

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// A channel whose history changes keeps its order, the newest of what it had, and what comes later.
func TestHistoriesOfChannelsThatExistChange(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		keep := Keep{Count: 5, TTL: 1000}
		budget := NewBudget(1 << 20)
		s := historySpace(History{Of: func(string) Keep { return keep }, Bytes: 1 << 20, Budget: budget})
		c := mustOpen(t, s, "room")
		kept, offset := 0, uint64(0)
		for range 60 {
			if random.IntN(3) > 0 {
				for range 1 + random.IntN(3*anewMost/40) {
					mustPublish(t, c, Publication{Payload: []byte("x"), At: 1})
					offset++
					kept = min(kept+1, keep.Count)
				}
			} else {
				keep.Count = []int{0, 0, 1, 3, 100, 5000}[random.IntN(6)]
				s.KeepAnew()
				kept = min(kept, keep.Count)
			}
			r := keptSince(c, offset-uint64(kept))
			if n := c.history.len(); n != kept || r.Gap || c.offset != offset {
				t.Fatalf("seed %d: %d are kept, want %d of %d; gap %t, newest %d", seed, n, kept, offset, r.Gap, c.offset)
			}
			if uint64(kept) < offset && !keptSince(c, offset-uint64(kept)-1).Gap {
				t.Fatalf("seed %d: a client that misses more than the %d that are kept does not learn of a gap", seed, kept)
			}
		}
		keep.Count = 0
		s.KeepAnew()
		if free := budget.free(); free != 1<<20 {
			t.Fatalf("seed %d: %d bytes are free after all, want %d", seed, free, 1<<20)
		}
	}
}

// More than goes at once goes all the same, also while there are publishers, subscribers and channels that end.
func TestHistoriesChangeWhileChannelsAreUsed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	keep := Keep{Count: 5 * anewMost, TTL: 1000}
	s := NewSpace(4<<10, 1000, NewBudget(1<<20))
	s.KeepHistory(History{Of: func(string) Keep {
		mu.Lock()
		defer mu.Unlock()
		return keep
	}, Bytes: 1 << 20, Budget: NewBudget(1 << 24)}, 0)
	var done sync.WaitGroup
	for i := range 4 {
		done.Go(func() {
			name := fmt.Sprint("room", i%2)
			var scratch Scratch
			for n := range 6 * anewMost {
				c, err := s.Open(name)
				if err != nil {
					t.Error(err)
					return
				}
				c.Publish(&Publication{Payload: []byte("x"), At: 1}, &scratch, nil) // ignored: another one may have the turn
				if n%500 == 0 {
					s.Trim(int64(10 * n)) // ends some
				}
			}
		})
	}
	for _, n := range []int{10, 5 * anewMost, 0, 100, 3} {
		mu.Lock()
		keep.Count = n
		mu.Unlock()
		s.KeepAnew()
	}
	done.Wait()
	s.KeepAnew()
	for i := range 2 {
		if c := s.Find(fmt.Sprint("room", i)); c != nil && c.history.len() > 3 {
			t.Errorf("%d are kept, want 3 at most", c.history.len())
		}
	}
}
