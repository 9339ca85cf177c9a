package chaos

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func init() {
	register(Row{Number: 25, Name: "race detector", Builds: true, Run: raceDetector,
		What: "rows 1, 8, 19 and the failing system calls run at a smaller scale with a gateway built with -race; no race is reported"})
}

// raceReport is how the detector begins a report in the gateway's log.
const raceReport = "WARNING: DATA RACE"

func raceDetector(r *Run) error {
	again := Param(r, "rows", []int{1, 8, 19}, []int{1, 8, 19})
	part := Param(r, "part", 20, 20)
	dir, err := filepath.Abs(r.Dir)
	if err != nil {
		return err
	}
	bin := filepath.Join(dir, "sluice-race")
	if out, err := r.program(nil, "go", "build", "-race", "-o", bin, "./cmd/sluice"); err != nil {
		return err
	} else if _, err := os.Stat(bin); err != nil {
		return fmt.Errorf("build the gateway with -race, which needs cgo and a C compiler: %.300s", out)
	}
	for _, row := range Rows() {
		if !slices.Contains(again, row.Number) {
			continue
		}
		o := r.Options
		o.Bin, o.Dir, o.part, o.Deadline = bin, dir, part, 0
		res, err := Do(r.ctx, row, o)
		if err != nil {
			return err
		}
		r.Check(fmt.Sprintf("row %d", row.Number), res.Verdict == Pass, "%s: %s%s", row.Name, res.Verdict, res.complaints())
	}
	logs, reports, err := raceReports(dir)
	if err != nil {
		return err
	}
	r.Check("races", len(logs) >= len(again) && len(reports) == 0, "%d gateway logs, race reports in %q", len(logs), reports)
	if r.Short {
		return nil
	}
	return r.goTest("-race", "-tags", "faults", "-run", "TestFault$", "./gateway", "-fault.every", fmt.Sprint(part))
}

// complaints returns what failed in a row that another one has run.
func (r *Result) complaints() (text string) {
	for _, c := range r.Checks {
		if c.Verdict == Fail {
			text += "; " + c.Name + ": " + c.Detail
		}
	}
	if r.Error != "" {
		text += "; " + r.Error
	}
	return text
}

// raceReports finds the gateways' logs below dir, and those with a report.
func raceReports(dir string) (logs, reports []string, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasPrefix(filepath.Base(path), "gateway-") || filepath.Ext(path) != ".log" {
			return err
		}
		text, err := os.ReadFile(path)
		if logs = append(logs, path); strings.Contains(string(text), raceReport) {
			reports = append(reports, path)
		}
		return err
	})
	return logs, reports, err
}
