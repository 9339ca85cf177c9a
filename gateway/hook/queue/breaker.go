package queue

import (
	"math/rand/v2"
	"time"
)

// BreakerConfig is when the circuit breaker opens and closes. Zero means the default.
type BreakerConfig struct {
	Window  time.Duration // the time that is looked at; 10 s
	Calls   int           // that must have ended in it; 20. Negative: there is no breaker
	Ratio   float64       // of them for which the backend was away; 0.5
	Open    time.Duration // for how long it is open at first, randomly from half to one and a half of it; 1 s
	OpenMax time.Duration // to what it grows while probes fail; 30 s
	Probes  int           // that must succeed before it closes; 3
}

func (c BreakerConfig) orDefault() BreakerConfig {
	set(&c.Window, 10*time.Second)
	set(&c.Calls, 20)
	set(&c.Ratio, 0.5)
	set(&c.Open, time.Second)
	set(&c.OpenMax, 30*time.Second)
	set(&c.Probes, 3)
	return c
}

func set[T comparable](v *T, to T) {
	if *v == *new(T) {
		*v = to
	}
}

type state uint8

const (
	closed   state = iota // everything runs
	open                  // nothing does
	halfOpen              // probes do
)

// slots is into how many parts the window is divided.
const slots = 10

// breaker is a circuit breaker. The queue's lock guards it; now is the queue's time.
type breaker struct {
	BreakerConfig
	state state
	// generation is how often the state has changed. A task belongs to the one in which it
	// began, and what it comes to after a change is not counted.
	generation uint32

	// Of closed.
	ended, away [slots]int // by slot
	newest      int64      // slot, counted since the queue's beginning

	// Of open, and of halfOpen.
	until  time.Duration // when probes may begin
	delay  time.Duration // how long it is open the next time, without the random part
	probes int           // that run
	passed int           // that have succeeded
}

// admits reports whether a task may run or wait. In halfOpen it has to run now, as a probe.
func (b *breaker) admits(now time.Duration) bool {
	switch {
	case b.Calls < 0 || b.state == closed:
		return true
	case b.state == open && now < b.until:
		return false
	case b.state == open:
		b.become(halfOpen)
	}
	return b.probes+b.passed < b.Probes
}

// begin notes that a task runs, and returns what end must be called with.
func (b *breaker) begin() (generation uint32) {
	if b.state == halfOpen {
		b.probes++
	}
	return b.generation
}

// end notes what a task of a generation came to. counts is false if that says nothing about the
// backend. It reports whether the breaker has opened.
func (b *breaker) end(generation uint32, counts, away bool, now time.Duration) (opens bool) {
	if b.Calls < 0 || generation != b.generation {
		return false
	}
	if b.state == closed {
		return counts && b.count(away, now)
	}
	b.probes--
	switch {
	case !counts:
	case away:
		b.opens(now)
		return true
	default:
		if b.passed++; b.passed == b.Probes {
			b.become(closed)
			b.delay = 0
			b.ended, b.away = [slots]int{}, [slots]int{}
		}
	}
	return false
}

// count counts a task in the window, and opens the breaker if too many failed.
func (b *breaker) count(away bool, now time.Duration) (opens bool) {
	slot := int64(now / max(b.Window/slots, 1))
	for ; b.newest < slot; b.newest++ {
		if slot-b.newest > slots {
			b.newest = slot - slots
		}
		i := (b.newest + 1) % slots
		b.ended[i], b.away[i] = 0, 0
	}
	i := slot % slots
	b.ended[i]++
	if !away {
		return false
	}
	b.away[i]++
	ended, failed := 0, 0
	for i := range slots {
		ended, failed = ended+b.ended[i], failed+b.away[i]
	}
	if ended < b.Calls || float64(failed) < b.Ratio*float64(ended) {
		return false
	}
	b.opens(now)
	return true
}

// opens opens the breaker, for twice as long as the last time if no probe has succeeded since.
func (b *breaker) opens(now time.Duration) {
	b.delay = min(max(2*b.delay, b.Open), b.OpenMax)
	b.until = now + b.delay/2 + rand.N(b.delay+1)
	b.become(open)
}

func (b *breaker) become(s state) {
	b.state = s
	b.generation++
	b.probes, b.passed = 0, 0
}
