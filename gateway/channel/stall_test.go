package channel

import (
	"testing"
	"time"
)

// Times in these tests are seconds from a moment.
var moment = time.Unix(1_000_000, 0)

func after(seconds float64) time.Time {
	return moment.Add(time.Duration(seconds * float64(time.Second)))
}

// holder is a loop's reader with so many subscribers.
func holder(t *testing.T, s *Space, f Format, subscribers int) *member {
	t.Helper()
	m := join(t, s, "c", f)
	for range subscribers {
		m.Log().Channel().Joined()
	}
	return m
}

// The time of all loops and formats is one: it is the union of theirs.
func TestTimeThatAChannelIsHeldBackIsCountedOnce(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	a, b := holder(t, s, padded(0), 10), holder(t, s, padded(1), 10)
	c := s.Find("c")
	a.Holds(1, after(0))
	b.Holds(1, after(1))
	a.LetsGo(after(2))
	if h := b.Holds(1, after(3)); h.Few != 3*time.Second || h.Spent {
		t.Errorf("after 3 s: %+v", h)
	}
	b.LetsGo(after(3))
	if got := c.stall.spent; got != 3*time.Second {
		t.Errorf("3 s by two loops count %v", got)
	}
	a.Holds(1, after(7)) // 4 s between
	if got := c.stall.spent; got != 2*time.Second {
		t.Errorf("of 3 s %v are left after 4 s more", got)
	}
	if h := a.Holds(1, after(9.9)); h.Spent {
		t.Errorf("after 2 and 2.9 s: %+v", h)
	}
	if h := a.Holds(1, after(10)); !h.Spent || h.Few != 3*time.Second {
		t.Errorf("after 2 and 3 s: %+v", h)
	}
	a.LetsGo(after(10))
	for i := range 100 { // moments, as any reader may need
		a.Holds(1, after(11+float64(i)))
		a.LetsGo(after(11.09 + float64(i)))
	}
	if got := c.stall.spent; got != 0 {
		t.Errorf("%v are counted for moments", got)
	}
}

// What most need themselves is nobody's fault, and neither is a loop that is late.
func TestOnlyAFewHoldAChannelBack(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	a, b := holder(t, s, padded(0), 10), holder(t, s, padded(1), 10)
	c := s.Find("c")
	if h := a.Holds(10, after(0)); h != (Hold{}) {
		t.Errorf("at once: %+v", h)
	}
	if h := a.Holds(10, after(6)); h != (Hold{Few: 6 * time.Second, Spent: true, Over: true}) {
		t.Errorf("half of all, after 6 s: %+v", h)
	}
	if h := b.Holds(1, after(7)); h != (Hold{}) {
		t.Errorf("more than half, after 7 s: %+v", h)
	}
	a.LetsGo(after(8))
	b.LetsGo(after(8))
	c.stall = stall{}
	b.below = unknown
	if h := a.Holds(1, after(20)); h != (Hold{}) {
		t.Errorf("while a loop has not reported: %+v", h)
	}
	b.Holds(9, after(20))
	a.Holds(3, after(22))
	b.Holds(1, after(24)) // now most are through, after 4 s
	if h := b.Holds(1, after(28)); h != (Hold{}) {
		t.Errorf("a few need not twice as long as most: %+v", h)
	}
	if h := b.Holds(1, after(29)); h != (Hold{Few: 5 * time.Second, Spent: true, Over: true}) {
		t.Errorf("a few need more than twice as long as most: %+v", h)
	}
}

// Each loop reports with its own time, which may be a little older than another's.
func TestATimeThatGoesBackChargesNothing(t *testing.T) {
	s := stall{spent: time.Second, ended: after(1)}
	if s.note(after(0), true, false); s.spent != time.Second {
		t.Errorf("%v are charged, want %v", s.spent, time.Second)
	}
}

func TestChargedTimeIsBounded(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	a := holder(t, s, padded(0), 10)
	a.Holds(1, after(0))
	a.LetsGo(after(0))
	for range 100 {
		a.Charge(time.Second)
	}
	if h := a.Holds(1, after(20)); !h.Spent || h.Over {
		t.Errorf("twice the time, 20 s later: %+v", h)
	}
	if h := a.Holds(1, after(20.001)); !h.Over {
		t.Errorf("and a moment more: %+v", h)
	}
	a.LetsGo(after(20.001))
	if h := a.Holds(1, after(21)); h.Spent {
		t.Errorf("a second more: %+v", h)
	}
}
