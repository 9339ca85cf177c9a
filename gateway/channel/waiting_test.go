package channel

import (
	"errors"
	"fmt"
	"testing"
)

// Five messages wait for a rate of two a second: two of them are called in each second, by
// the first Trim of it, and nobody passes those that were called. A join passes them all.
func TestRateIsSharedInTurn(t *testing.T) {
	const start = 1_000_000
	s := NewSpace(ringBytesMin, 20, NewBudget(1<<20))
	s.LimitRate(2, 0)
	now := int64(start)
	publish := func(c *Channel, kind Kind, w *counting) error {
		w.told = 0
		_, err := c.Publish(&Publication{Kind: kind, Payload: []byte("x"), At: now}, new(Scratch), w)
		return err
	}
	waiters := make(map[*Channel][]*counting)
	for i := range 20 { // a Trim does not look at all of them, whatever their shards
		m := join(t, s, fmt.Sprint(i), padded(0))
		defer s.Leave(&m.Reader)
		c := m.Log().Channel()
		for n := range 7 {
			w := new(counting)
			if err := publish(c, KindMessage, w); n >= 2 && !errors.Is(err, ErrRate) || n < 2 && err != nil {
				t.Fatalf("publication %d: %v", n, err)
			} else if n >= 2 {
				waiters[c] = append(waiters[c], w)
			}
		}
		if err := publish(c, KindJoin, new(counting)); err != nil {
			t.Errorf("a join behind those that wait for the rate: %v", err)
		}
	}
	for second, want := range []int{2, 2, 1} {
		now += 1000
		s.Trim(now)
		for c, all := range waiters {
			if len(c.Name()) == 1 { // to the others nobody comes, who would be noted beside those that wait
				newcomer := new(counting)
				if err := publish(c, KindMessage, newcomer); !errors.Is(err, ErrFull) {
					t.Fatalf("second %d: one that has just come: %v", second, err)
				}
				c.Forget(newcomer)
			}
			for i, w := range all {
				if called := w.told == 1; called != (i < want) {
					t.Fatalf("second %d: of %d, number %d was called: %v", second, len(all), i, called)
				}
			}
			for _, w := range all[:want] {
				if err := publish(c, KindMessage, w); err != nil {
					t.Fatalf("second %d: one that was called: %v", second, err)
				}
			}
			waiters[c] = all[want:]
		}
	}
}

func TestPublishersAreCalledAFewAtATime(t *testing.T) {
	s := NewSpace(64<<10, 1, NewBudget(1<<20))
	m := join(t, s, "x", padded(0))
	defer s.Leave(&m.Reader)
	c := m.Log().Channel()
	for publishSize(c, 1000, nil) == nil {
	}
	all := make([]*counting, 3*calledMost)
	for i := range all {
		all[i] = new(counting)
		if err := publishSize(c, 1000, all[i]); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	m.serve()
	for i, w := range all {
		if want := i < calledMost; (w.told == 1) != want {
			t.Errorf("number %d was called: %v, want %v", i, w.told == 1, want)
		}
	}
	for _, w := range all {
		c.Forget(w)
	}
}

// A publisher that was called, and finds that it would encode too much, has no place any
// more: nothing is kept for it.
func TestPublisherThatGoesElsewhereLeavesItsPlace(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	m := join(t, s, "x", padded(0))
	defer s.Leave(&m.Reader)
	c := m.Log().Channel()
	for publishSize(c, most, nil) == nil {
	}
	w, behind := new(counting), new(counting)
	for _, w := range []*counting{w, behind} {
		if err := publishSize(c, most, w); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	m.serve()
	other := join(t, s, "x", padded(1))
	defer s.Leave(&other.Reader)
	if _, err := c.Publish(&Publication{Payload: make([]byte, most)}, &Scratch{Limit: most * growthMost}, w); err != ErrLarge {
		t.Fatalf("%v, want ErrLarge", err)
	}
	if n := c.Waiting(); n != 1 || behind.told != 1 {
		t.Errorf("%d wait, and the one behind was called %d times", n, behind.told)
	}
	c.Forget(behind)
}
