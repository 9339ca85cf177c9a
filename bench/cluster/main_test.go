package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sluice/bench/child"
)

// The figures start this program as NATS servers and bare publishers; in a test, that is the test's
// binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "nats-server" || os.Args[1] == "bare-publisher") {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// log takes a figure's progress into the test's log.
type log struct{ *testing.T }

func (l log) Write(p []byte) (int, error) {
	l.Helper()
	l.Logf("%s", p)
	return len(p), nil
}

// underRace are the figures in which the most happens at once.
var underRace = []string{"durable-kill", "resume"}

// The short form of every figure, in which only what holds on any machine is judged.
func TestFigures(t *testing.T) {
	if testing.Short() {
		t.Skip("starts gateways and takes seconds for each figure")
	}
	bin := filepath.Join(t.TempDir(), "sluice")
	var flags []string
	if race {
		flags = []string{"-race"}
	}
	if err := child.Build(t.Context(), bin, flags...); err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		if race && !slices.Contains(underRace, f.Name) {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel() // half of their time is clients' delays
			r, err := Measure(t.Context(), f, Options{Short: true, Bin: bin, Progress: log{t}})
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != Pass {
				t.Errorf("%s %s %+v; see %s", r.Verdict, r.Error, r.Measured, r.Dir)
			}
		})
	}
}

// clusterRun executes one command line.
func clusterRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestUsageErrorsComeBeforeAnythingRuns(t *testing.T) {
	for _, tc := range []struct {
		args []string
		why  string
	}{
		{nil, "no figure given"},
		{[]string{"rate", "speed"}, "speed: no such figure; --list describes them"},
		{[]string{"rate", "--rounds", "-1"}, "--rounds and --deadline must be above zero"},
		{[]string{"rate", "--deadline", "25h"}, "at most 24h"},
	} {
		if _, err := clusterRun(t, tc.args...); err == nil || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%v: got %v, want %q", tc.args, err, tc.why)
		}
	}
}

func TestPageListsTheFigures(t *testing.T) {
	out, err := clusterRun(t, "--list")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../README.md")
	if err != nil || !strings.Contains(string(page), "```text\n"+out+"```\n") {
		t.Errorf("bench/README.md does not have the list, %v:\n%s", err, out)
	}
}

func TestFigureFailsWhereNoGatewayStarts(t *testing.T) {
	out, err := clusterRun(t, "durable-latency", "--short", "--json", "--bin", "/bin/false", "--dir", t.TempDir())
	if err == nil || !strings.Contains(out, `"verdict":"FAIL"`) || !strings.Contains(out, "the gateway did not start") {
		t.Errorf("got %v and %s", err, out)
	}
}

func TestBoundsAreJudged(t *testing.T) {
	for _, tc := range []struct {
		short bool
		b     bound
		v     float64
		want  string
	}{
		{false, atMost(3), 2, "PASS"},
		{false, atMost(3), 4, "FAIL"},
		{false, atLeast(3), 2, "FAIL"},
		{true, atLeast(3), 2, "PASS"}, // speed is not judged in the short form
		{true, atLeast(3).always(), 2, "FAIL"},
		{false, reported, 2, "PASS"},
	} {
		var o Options
		o.Short = tc.short
		r := &Run{Options: o, ctx: context.Background(), result: newResult(Figure{}, o)}
		r.Figure("x", "s", tc.b, 0, tc.v, 100)
		r.result.settle(nil)
		if got := fmt.Sprint(r.result.Verdict); got != tc.want {
			t.Errorf("%v in %+v: got %s, want %s", tc.v, tc.b.text, got, tc.want)
		}
	}
	r := newResult(Figure{}, Options{})
	if r.settle(nil); r.Verdict != Fail {
		t.Error("nothing was measured, and it passes")
	}
}

func TestMedian(t *testing.T) {
	got := []float64{median([]float64{3, 1, 2}), median([]float64{4, 1, 2, 3}), median([]float64{7})}
	if diff := cmp.Diff([]float64{2, 2.5, 7}, got); diff != "" {
		t.Error(diff)
	}
}
