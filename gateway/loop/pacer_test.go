package loop

import (
	"slices"
	"testing"
	"time"
)

// Whatever the number of clients, a few have a turn at once, no second has more than the pace allows beside
// those few, and all have had one when the time is over.
func TestPacerSpreadsTurns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		clients int
		over    time.Duration
		most    int           // turns in a second, beside paceLeast at once
		within  time.Duration // all have had a turn
	}{
		{1, 30 * time.Second, 1, 0},
		{100, 30 * time.Second, 100, 0},
		{250, 30 * time.Second, 100, 1600 * time.Millisecond},
		{3000, 30 * time.Second, 100, 30 * time.Second},
		{90_000, 30 * time.Second, 3000, 31 * time.Second},
		{90_000, time.Second, 90_000, 1100 * time.Millisecond},
	} {
		p, now := pacer{over: tt.over, burst: paceLeast}, time.Unix(1000, 0)
		begin, waiting := now, tt.clients
		var turns []time.Time
		for waiting > 0 {
			for ; waiting > 0 && p.take(now, tt.clients); waiting-- {
				turns = append(turns, now)
			}
			if waiting > 0 {
				wait := p.wait(tt.clients)
				if wait < paceStep || wait > time.Second {
					t.Fatalf("%d clients in %v: look again after %v", tt.clients, tt.over, wait)
				}
				now = now.Add(wait)
			}
		}
		if took := now.Sub(begin); took > tt.within {
			t.Errorf("%d clients in %v: the last one had its turn after %v", tt.clients, tt.over, took)
		}
		for first, i := 0, 0; i < len(turns); i++ {
			for turns[i].Sub(turns[first]) >= time.Second {
				first++
			}
			if n := i - first + 1; n > paceLeast+tt.most {
				t.Fatalf("%d clients in %v: %d turns in a second", tt.clients, tt.over, n)
			}
		}
	}
}

// Turns that nobody has taken are not saved for later.
func TestPacerSavesFewTurns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ clients, want int }{{1000, paceLeast}, {300_000, 2000}} {
		p, now := pacer{over: 30 * time.Second, burst: paceLeast}, time.Unix(1000, 0)
		p.take(now, tt.clients)
		now = now.Add(time.Hour)
		got := 0
		for p.take(now, tt.clients) {
			got++
		}
		if got != tt.want {
			t.Errorf("%d clients, after an hour: %d turns at once, want %d", tt.clients, got, tt.want)
		}
	}
}

// Without a burst, the turns are even from the first to the last.
func TestPacerIsEven(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond} { // the looks at it
		const clients, over = 10_000, 30 * time.Second
		p, begin := pacer{over: over}, time.Unix(1000, 0)
		p.begin(begin, clients)
		var bySecond [32]int
		now := begin
		for left := clients; left > 0; now = now.Add(p.wait(clients) + late) {
			for ; left > 0 && p.take(now, clients); left-- {
				bySecond[now.Sub(begin)/time.Second]++
			}
		}
		if took := now.Sub(begin); took < over-time.Second || took > over+time.Second {
			t.Errorf("looks %v late: it took %v, want %v", late, took, over)
		}
		if most := slices.Max(bySecond[:]); most > clients/30*12/10 {
			t.Errorf("looks %v late: %d turns in one second, want about %d: %v", late, most, clients/30, bySecond)
		}
	}
}

func TestPacerThatIsOffLetsNobodyWait(t *testing.T) {
	t.Parallel()
	var p pacer
	for range 10_000 {
		if !p.take(time.Unix(1000, 0), 10_000) {
			t.Fatal("somebody waits")
		}
	}
}

func TestPacerAllocatesNothing(t *testing.T) {
	p, now := pacer{over: time.Second}, time.Unix(1000, 0)
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Millisecond)
		for p.take(now, 100_000) {
		}
		p.wait(100_000)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
