package trial

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"sluice/poller/leaktest"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// do runs a trial that starts nothing.
func do(t *testing.T, o Options, run func(*Run) error) *Result {
	t.Helper()
	o.Dir = t.TempDir()
	r, err := Program{Name: "test", Noun: "row"}.Do(t.Context(), Trial{Number: 1, Name: "a test", Run: run}, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerdictOfATrial(t *testing.T) {
	for _, tc := range []struct {
		name string
		run  func(*Run) error
		want Verdict
	}{
		{"what it saw holds", func(r *Run) error { r.Check("it", true, ""); return nil }, Pass},
		{"what it saw does not", func(r *Run) error { r.Check("it", false, ""); r.Check("more", true, ""); return nil }, Fail},
		{"it saw nothing", func(*Run) error { return nil }, Fail},
		{"it broke off", func(r *Run) error { r.Check("it", true, ""); return errors.New("broken") }, Fail},
		{"it cannot be done here", func(*Run) error { return Skipped("no tools") }, Skip},
		{"a step of it failed", func(r *Run) error { r.Check("it", true, ""); Must(0, errors.New("broken")); return nil }, Fail},
		{"a step of it cannot be done here", func(*Run) error { NoError(Skipped("no tools")); return nil }, Skip},
		{"it waited in vain", func(r *Run) error {
			r.Check("it", true, "")
			r.Until("never", 0, func() bool { return false })
			return nil
		}, Fail},
		{"it measured nothing", func(r *Run) error { r.Figure("share", "%", Reported, math.NaN()); return nil }, Fail},
		{"no rounds", func(r *Run) error { r.Figure("share", "%", Reported); return nil }, Fail},
		{"a parameter is no number", func(r *Run) error { Param(r, "clients", 1, 2); return nil }, Fail},
	} {
		r := do(t, Options{Short: true, Set: map[string]string{"clients": "many"}}, tc.run)
		if r.Verdict != tc.want {
			t.Errorf("%s: got %s (%s), want %s", tc.name, r.Verdict, r.Error, tc.want)
		}
	}
}

func TestATrialEndsAtItsDeadline(t *testing.T) {
	r := do(t, Options{Deadline: time.Millisecond}, func(r *Run) error {
		r.Check("it", true, "")
		r.Until("never", time.Minute, func() bool { return false })
		return nil
	})
	if r.Verdict != Fail || !strings.Contains(r.Error, "longer than 1ms") || !strings.Contains(r.Error, "never") {
		t.Errorf("got %s, %q", r.Verdict, r.Error)
	}
}

func TestBoundsAreJudged(t *testing.T) {
	for _, tc := range []struct {
		short bool
		b     Bound
		v     float64
		want  Verdict
	}{
		{false, AtMost(3), 2, Pass},
		{false, AtMost(3), 4, Fail},
		{false, AtLeast(3), 2, Fail},
		{true, AtLeast(3), 2, Pass}, // speed is not judged in the short form
		{true, AtLeast(3).Always(), 2, Fail},
		{false, Reported, 2, Pass},
	} {
		r := do(t, Options{Short: tc.short}, func(r *Run) error { r.Figure("x", "s", tc.b, 0, tc.v, 100); return nil })
		if r.Verdict != tc.want {
			t.Errorf("%v in %+v: got %s, want %s", tc.v, tc.b.text, r.Verdict, tc.want)
		}
	}
}

func TestSeveralResultsAreOneTable(t *testing.T) {
	all := []*Result{
		do(t, Options{}, func(r *Run) error {
			r.Figure("lost", "", AtMost(0), 0)
			r.Figure("took", "s", Reported, 3, 1, 2)
			return nil
		}),
		do(t, Options{}, func(r *Run) error { r.Figure("rate", "/s", AtLeast(5000), 4000); return nil }),
		do(t, Options{}, func(r *Run) error { r.Check("C1", true, ""); r.Check("C2", false, ""); return nil }),
		do(t, Options{}, func(*Run) error { return errors.New("no gateway") }),
		do(t, Options{}, func(*Run) error { return Skipped("none") }),
	}
	for _, r := range all {
		r.Elapsed = 1
	}
	var out bytes.Buffer
	if err := writeSummary(&out, all); err != nil {
		t.Fatal(err)
	}
	want := `
|               | figure | must          | measured       | verdict |
| ---           | ---    | ---           | ---            | ---     |
| row 1, a test | lost   | at most 0     | 0              | PASS    |
|               | took   |               | 2 s (1 to 3)   |         |
| row 1, a test | rate   | at least 5000 | 4000 /s        | FAIL    |
| row 1, a test | checks | all           | 1 of 2, not C2 | FAIL    |
| row 1, a test | checks | all           | no gateway     | FAIL    |
| row 1, a test | checks | all           | skipped: none  | SKIP    |

1 passed, 3 failed, 1 skipped in 5 s
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestTrialsAreChosenByTheirWords(t *testing.T) {
	p := Program{Noun: "row", Trials: []Trial{{Number: 8, Name: "stalled"}, {Name: "rate"}}}
	for words, want := range map[string]string{
		"rate 8":  "rate 8",
		"all":     "8 rate",
		"stalled": "error: stalled: no such row; use one of 8, rate, or all",
		"":        "error: no row given: use one of 8, rate, or all; --list describes them",
	} {
		var got []string
		chosen, err := p.choose(strings.Fields(words))
		for _, c := range chosen {
			got = append(got, c.word())
		}
		if err != nil {
			got = []string{"error:", err.Error()}
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%q: %s", words, diff)
		}
	}
}

func TestMedian(t *testing.T) {
	got := []float64{median([]float64{3, 1, 2}), median([]float64{4, 1, 2, 3}), median([]float64{7})}
	if diff := cmp.Diff([]float64{2, 2.5, 7}, got); diff != "" {
		t.Error(diff)
	}
}
