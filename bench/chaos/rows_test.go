package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gateway builds the gateway as it ships.
func gateway(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-o", path, "sluice/cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// log takes a row's progress into the test's log.
type log struct{ *testing.T }

func (l log) Write(p []byte) (int, error) {
	l.Helper()
	l.Logf("%s", p)
	return len(p), nil
}

// The short form of every row, with fewer seconds and clients than the long one but
// the same judge. The long forms are `sluice bench chaos --row all`.
func TestFaultsLoseNothingSilently(t *testing.T) {
	if testing.Short() {
		t.Skip("starts gateways and takes seconds for each row")
	}
	bin := os.Getenv("SLUICE_CHAOS_BIN") // another binary, to compare
	if bin == "" {
		bin = gateway(t)
	}
	for _, row := range Rows() {
		for _, policy := range policies(row) {
			t.Run(fmt.Sprintf("%02d %s %s", row.Number, row.Name, policy), func(t *testing.T) {
				t.Parallel() // half of the rows wait for time-outs of the gateway's
				r, err := Do(t.Context(), row, Options{Short: true, Bin: bin, Policy: policy, Progress: log{t}})
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
