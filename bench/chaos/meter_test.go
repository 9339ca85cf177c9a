package chaos

import (
	"testing"
	"time"
)

func TestQuantilesAreWithinABucket(t *testing.T) {
	r := &Run{began: time.Now()}
	r.measuring.Store(new([]*Meter))
	m := r.Meter()
	from := time.Duration(m.from.Load())
	for ms := range 1000 {
		r.observe(from, from+time.Duration(ms+1)*time.Millisecond)
	}
	m.Stop(r)
	r.observe(time.Since(r.began), time.Hour) // of no phase
	for _, q := range []float64{0.01, 0.5, 0.99, 1} {
		want := time.Duration(q * float64(time.Second))
		if got := m.Quantile(q); got < want || got > want+want/30 {
			t.Errorf("quantile %v: got %v, want %v to 3 %% more", q, got, want)
		}
	}
}
