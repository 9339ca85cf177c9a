package top

import (
	"testing"
	"time"
)

func TestLagIsThatOfTheLoopThatWasLatest(t *testing.T) {
	begun := time.Now()
	at := func(after time.Duration, loops ...ticks) view {
		v := view{at: begun.Add(after), figures: figures{ticks: map[string]ticks{}}}
		for i, l := range loops {
			v.figures.ticks[string(rune('0'+i))] = l
		}
		return v
	}
	for name, test := range map[string]struct {
		earlier, now view
		want         time.Duration
	}{
		"since the start":     {view{}, at(0, ticks{10, 0.001}, ticks{10, 0.5}), 50 * time.Millisecond},
		"since the last look": {at(0, ticks{10, 1}, ticks{10, 1}), at(2*time.Second, ticks{12, 1.002}, ticks{12, 1.004}), 2 * time.Millisecond},
		"one is stuck":        {at(0, ticks{10, 1}, ticks{10, 1}), at(5*time.Second, ticks{15, 1.002}, ticks{10, 1}), 4 * time.Second},
		"looks come quickly":  {at(0, ticks{10, 0.01}), at(time.Second/2, ticks{10, 0.01}), time.Millisecond},
		"it has restarted":    {at(0, ticks{10, 1}), at(time.Second, ticks{1, 0.003}), 3 * time.Millisecond},
		"no tick yet":         {view{}, at(0, ticks{}), 0},
		"none at all":         {view{}, view{}, 0},
	} {
		if got := test.now.lag(test.earlier).Round(time.Microsecond); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
