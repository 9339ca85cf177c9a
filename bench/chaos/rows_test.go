package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"sluice/bench/hostile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gatewayBinary returns the gateway to test: as it ships, and with -race where this test has it.
func gatewayBinary(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("SLUICE_CHAOS_BIN"); bin != "" { // another one, to compare
		return bin
	}
	bin := filepath.Join(t.TempDir(), "sluice")
	var flags []string
	if raceRows != nil {
		flags = []string{"-race"}
	}
	if err := buildAll(t.Context(), bin, flags...); err != nil {
		t.Fatal(err)
	}
	return bin
}

// log takes a row's progress into the test's log.
type log struct{ *testing.T }

func (l log) Write(p []byte) (int, error) {
	l.Helper()
	l.Logf("%s", p)
	return len(p), nil
}

// The short form of every row, with fewer seconds and clients than the long one but
// the same judge. The long forms are `go run ./bench/chaos --row all`.
func TestFaultsLoseNothingSilently(t *testing.T) {
	if testing.Short() {
		t.Skip("starts gateways and takes seconds for each row")
	}
	bin := gatewayBinary(t)
	for _, row := range append(slices.Clone(rows), hostileResets) {
		if raceRows != nil && !slices.Contains(raceRows, row.Number) {
			continue
		}
		for _, policy := range policies(row) {
			t.Run(fmt.Sprintf("%02d %s %s", row.Number, row.Name, policy), func(t *testing.T) {
				t.Parallel() // half of the rows wait for time-outs of the gateway's
				r, err := Do(t.Context(), row, Options{Short: true, Bin: bin, Policy: policy, Progress: log{t}, slow: raceRows != nil})
				if err != nil {
					t.Fatal(err)
				}
				if r.Verdict == Skip {
					t.Skip(r.Error)
				}
				if r.Verdict != Pass {
					t.Errorf("seed %d: %s %s %+v; see %s", r.Seed, r.Verdict, r.Error, r.Checks, r.Dir)
				}
			})
		}
	}
}

// policies are the slow policies that a row is worth being run with.
func policies(r Row) []string {
	if r.Slow {
		return []string{"close", "skip"}
	}
	return []string{"close"}
}

// hostileResets is the attack that no row makes.
var hostileResets = Row{Name: "hostile resets", Run: func(r *Run) error {
	g, err := r.Start()
	if err != nil {
		return err
	}
	res, err := hostile.Resets(r.ctx, r.hostile(g, 5000))
	return r.attacked(res, err, 5000)
}}
