package main

import (
	"testing"
	"time"
)

func TestMeterCountsWhatWasPublishedInItsPhase(t *testing.T) {
	r := &Run{began: time.Now()}
	m := r.Meter()
	for ms := range 1000 {
		r.observe(m.from, m.from+time.Duration(ms+1)*time.Millisecond)
	}
	m.Stop(r)
	r.observe(time.Since(r.began), time.Hour) // of no phase
	for _, p := range []float64{1, 50, 99, 100} {
		want := time.Duration(p / 100 * float64(time.Second))
		if got := m.Percentile(p); got < want || got > want+want/100 {
			t.Errorf("percentile %v: got %v, want %v", p, got, want)
		}
	}
}
