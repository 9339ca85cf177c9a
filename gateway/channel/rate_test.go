package channel

import (
	"errors"
	"testing"
)

// Whoever comes behind others that wait is told what they wait for.
func TestWaitersAreToldWhetherItIsTheRate(t *testing.T) {
	const now = 1_000_000
	publish := func(c *Channel, n int, at int64, w Waiter) error {
		_, err := c.Publish(&Publication{Payload: make([]byte, n), At: at}, new(Scratch), w)
		return err
	}
	s := NewSpace(ringBytesMin, 2, NewBudget(1<<20))
	s.LimitRate(2, 0)
	limited, full := join(t, s, "limited", padded(0)), join(t, s, "full", padded(0))
	defer s.Leave(&limited.Reader)
	defer s.Leave(&full.Reader)
	first, second := new(counting), new(counting)

	c := s.Find("limited")
	for range 2 {
		if err := publish(c, 1, now, first); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range []*counting{first, second} {
		if err := publish(c, 1, now, w); !errors.Is(err, ErrRate) {
			t.Errorf("more than the rate, one behind the other: %v, want ErrRate", err)
		}
	}
	s.Trim(now + 1000)
	if first.told != 1 || second.told != 1 {
		t.Errorf("told %d and %d times to try again, want once each", first.told, second.told)
	}
	if err := publish(c, 1, now+1000, second); err != nil {
		t.Errorf("a second later: %v", err)
	}

	c = s.Find("full")
	for i, want := range []error{nil, nil, ErrFull, ErrFull} {
		if err := publish(c, most, now+1000*int64(i), first); !errors.Is(err, want) || errors.Is(err, ErrRate) {
			t.Errorf("publication %d into a log of two: %v, want %v", i, err, want)
		}
	}
}
