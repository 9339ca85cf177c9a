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

func TestConnectionsOfAGatewayThatDrains(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		f    figures
		want string
	}{
		{figures{connections: 1234}, "1,234"},
		{figures{connections: 1234, draining: 1}, "1,234 (draining)"},
		{figures{connections: 1234, draining: 1, total: 10_000, closing: 56}, "1,234 of 10,000 (draining, 56 closing)"},
	} {
		if got := tt.f.open(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.f, got, tt.want)
		}
	}
	f, err := readFigures([]byte("# TYPE sluice_draining gauge\nsluice_draining 1\n# TYPE sluice_drain_connections gauge\nsluice_drain_connections 7\n# TYPE sluice_closing_connections gauge\nsluice_closing_connections{loop=\"0\"} 2\nsluice_closing_connections{loop=\"1\"} 3\n"))
	if err != nil || f.draining != 1 || f.total != 7 || f.closing != 5 {
		t.Errorf("read %+v, %v", f, err)
	}
}
