package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerdictOfARow(t *testing.T) {
	for _, tc := range []struct {
		name string
		run  func(*Run) error
		want Verdict
	}{
		{"what it saw holds", func(r *Run) error { r.Check("it", true, ""); return nil }, Pass},
		{"what it saw does not", func(r *Run) error { r.Check("it", false, ""); r.Check("more", true, ""); return nil }, Fail},
		{"it saw nothing", func(*Run) error { return nil }, Fail},
		{"it broke off", func(r *Run) error { r.Check("it", true, ""); return errors.New("broken") }, Fail},
		{"it cannot be done here", func(*Run) error { return skipped{"no tools"} }, Skip},
	} {
		r, err := Do(t.Context(), Row{Number: 1, Name: "test", Run: tc.run}, Options{Short: true, Bin: "none", Dir: t.TempDir()})
		if err != nil || r.Verdict != tc.want {
			t.Errorf("%s: got %s, %v, want %s", tc.name, r.Verdict, err, tc.want)
		}
	}
}

// Where a gateway's log holds a report of the race detector, the row must see it.
func TestRaceReportsAreFound(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"row-1/gateway-0.log": "ready\n==================\nWARNING: DATA RACE\nWrite at 0x01\n",
		"row-8/gateway-0.log": "ready\n",
		"row-8/island.log":    "WARNING: DATA RACE\n", // not a gateway's
	} {
		write(t, dir, name, text)
	}
	logs, reports, err := raceReports(dir)
	if err != nil || len(logs) != 2 || len(reports) != 1 || !strings.HasSuffix(reports[0], "row-1/gateway-0.log") {
		t.Errorf("got %q, %q, %v", logs, reports, err)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
