package ops

import (
	"math"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/gateway/saved"
)

// counted returns a snapshot in which something was counted, n times: with a number of loops.
func counted(n uint64, loops int) *Snapshot {
	s := &Snapshot{Published: n, Handshakes: map[string]uint64{"upgraded": n}, Closed: map[string]uint64{"left": n}, Channels: 7, Engine: &Engine{AwayTotal: 0.5 * float64(n)}}
	for range loops {
		s.Loops = append(s.Loops, Loop{Connections: 3, Deliveries: n, Lag: Histogram{Bounds: []float64{0.25, 1}, Counts: []uint64{n, 0, 1}, Sum: 1.5}})
	}
	return s
}

// all returns the values of all metrics.
func all(s *Snapshot) map[string]float64 {
	values := make(map[string]float64)
	for i := range Metrics {
		m := &Metrics[i]
		m.each(s, func(t total) {
			key := m.Name + " " + textOf(t.labels)
			if t.histogram != nil {
				values[key+" sum"] = t.histogram.Sum
				for _, n := range t.histogram.Counts {
					values[key+" count"] += float64(n)
				}
				return
			}
			values[key] = t.value
		})
	}
	return values
}

// A counter that fell would be a restart for Prometheus, and a rate of nothing.
func TestCountersGoOnInTheProcessThatTakesOver(t *testing.T) {
	var second, third Totals
	if err := second.Load(AppendTotals(nil, counted(5, 3))); err != nil {
		t.Fatal(err)
	}
	now := counted(2, 1) // with fewer loops, and of other labels
	now.Before, now.Closed = &second, map[string]uint64{"slow": 1}
	if err := third.Load(AppendTotals(nil, now)); err != nil {
		t.Fatal(err)
	}
	again := counted(1, 1)
	again.Before = &third
	got := all(again)
	for key, want := range map[string]float64{
		"sluice_deliveries_total 0": 8, "sluice_publications_total api": 8, "sluice_connections_closed_total left": 6,
		"sluice_connections_closed_total slow": 1, "sluice_handshakes_total upgraded": 8, "sluice_engine_away_seconds_total ": 4,
		"sluice_loop_lag_seconds 0 sum": 4.5, "sluice_loop_lag_seconds 0 count": 11,
		"sluice_channels ": 7, "sluice_connections 0": 3, // as they are
	} {
		if got[key] != want {
			t.Errorf("%s: %v, want %v", key, got[key], want)
		}
	}
	for _, key := range []string{"sluice_connections 2", "sluice_deliveries_total 2", "sluice_loop_lag_seconds 2 sum"} { // alerts watch that they grow
		if n, ok := got[key]; ok {
			t.Errorf("a loop that there is no more has %s: %v", key, n)
		}
	}
}

// What comes from another version may be anything. Two histograms of other bounds are not added up.
func TestTotalsOfAnotherVersion(t *testing.T) {
	b := AppendTotals(nil, counted(5, 2))
	for n := range b {
		var got Totals
		if err := got.Load(b[:n]); err == nil || got.values != nil {
			t.Fatalf("%d of %d bytes were taken", n, len(b))
		}
	}
	later := append([]byte(nil), b...)
	later[0]++
	var got Totals
	if err := got.Load(later); err == nil || got.values != nil {
		t.Errorf("a later version was taken: %v", err)
	}
	foreign := total{labels: []string{"a"}, value: math.Pi}
	if err := got.Load(saved.AppendPart([]byte{totalsVersion}, func(dst []byte) []byte { return foreign.append(saved.AppendBytes(dst, "sluice_other")) })); err != nil || len(got.values) != 0 {
		t.Errorf("a metric that is not known: %v, %v", got.values, err)
	}
	h := Histogram{Bounds: []float64{1}, Counts: []uint64{1, 2}, Sum: 3}
	other := Histogram{Bounds: []float64{2}, Counts: []uint64{4, 5}, Sum: 6}
	if sum := (total{histogram: &h}).plus(total{histogram: &other}); !reflect.DeepEqual(sum.histogram, &h) {
		t.Error(cmp.Diff(sum.histogram, &h))
	}
}

func FuzzTotals(f *testing.F) {
	f.Add(AppendTotals(nil, counted(3, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Totals
		if got.Load(b) == nil {
			s := counted(1, 1)
			s.Before = &got
			AppendTotals(nil, s)
		}
	})
}

func BenchmarkTotals(b *testing.B) {
	s := counted(1000, 8)
	first := AppendTotals(nil, s)
	var got Totals
	for b.Loop() {
		first = AppendTotals(first[:0], s)
		if err := got.Load(first); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(first)), "B")
}
