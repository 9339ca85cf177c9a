package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMostWithinAWindow(t *testing.T) {
	t.Parallel()
	ms := func(all ...int) (d []time.Duration) {
		for _, n := range all {
			d = append(d, time.Duration(n)*time.Millisecond)
		}
		return d
	}
	for _, tt := range []struct {
		all  []time.Duration
		want int
	}{
		{nil, 0},
		{ms(5), 1},
		{ms(0, 999, 1000, 1001), 3},
		{ms(0, 1000, 2000, 2001, 2002, 2999, 4500), 4},
		{ms(0, 400, 800, 1200, 1600, 2000), 3},
	} {
		if got := mostWithin(tt.all, time.Second); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.all, got, tt.want)
		}
	}
}

// The node to be stopped closes all connections at once, and is also the one to which clients return.
func TestDrainCountsClosesAndReturns(t *testing.T) {
	t.Parallel()
	s := newClientServer(t)
	o := DrainOptions{Options: s.options(Centrifugo), Connections: 20, Rate: 100, Baseline: 50 * time.Millisecond}
	o.Nodes, o.PID = []string{o.URL}, 1
	o.stop = func() error {
		s.cut()
		return nil
	}
	r, err := Drain(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"connections": 20, "closed": 20, "returned": 20, "closes_most": 20, "closes_mean": 20, "lost": 0, "told": 0, "recovered": 20, "unrecovered": 0}
	if diff := cmp.Diff(want, figures(r, "connections", "closed", "returned", "closes_most", "closes_mean", "closes_ratio", "lost", "told", "recovered", "unrecovered")); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if _, measured := r.Metrics["closes_ratio"]; measured || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "closed within") {
		t.Errorf("it does not say that the closes were not spread: %q", r.Notes)
	}
	for _, name := range []string{"first_close", "last_close", "back_p99", "baseline_p99", "p99", "published"} {
		if r.Metrics[name] <= 0 {
			t.Errorf("%s is %v", name, r.Metrics[name])
		}
	}
}

func TestDrainFailsWhereTheNodeDoesNotStop(t *testing.T) {
	t.Parallel()
	s := newClientServer(t)
	o := DrainOptions{Options: s.options(Centrifugo), Connections: 2, Rate: 100, Baseline: time.Millisecond, Within: 50 * time.Millisecond}
	o.Nodes, o.PID, o.Timeout = []string{o.URL}, 1, 3*time.Second
	o.stop = func() error { return nil } // it does not stop
	if r, err := Drain(t.Context(), o); err == nil || r.Verdict != VerdictFailed {
		t.Errorf("got %v, want that the connections are still open", err)
	}
}
