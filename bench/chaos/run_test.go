package main

import (
	"errors"
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
		{"a step of it failed", func(r *Run) error { r.Check("it", true, ""); must(0, errors.New("broken")); return nil }, Fail},
		{"a step of it cannot be done here", func(*Run) error { noError(skipped{"no tools"}); return nil }, Skip},
	} {
		r, err := Do(t.Context(), Row{Number: 1, Name: "test", Run: tc.run}, Options{Short: true, Bin: "none", Dir: t.TempDir()})
		if err != nil || r.Verdict != tc.want {
			t.Errorf("%s: got %s, %v, want %s", tc.name, r.Verdict, err, tc.want)
		}
	}
}
