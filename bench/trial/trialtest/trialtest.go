// Package trialtest has the tests that every program of trials has. It is a package of its own so
// that the programs do not contain package testing.
package trialtest

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"sluice/bench/trial"
)

// log takes progress into a test's log.
type log struct{ *testing.T }

func (l log) Write(p []byte) (int, error) {
	l.Helper()
	l.Logf("%s", p)
	return len(p), nil
}

// Short runs the short forms of trials, in which only what holds on any machine is judged; under the
// race detector those of some names, with a gateway that is built with it, too.
func Short(t *testing.T, p trial.Program, underRace ...string) {
	if testing.Short() {
		t.Skip("starts gateways and takes seconds for each trial")
	}
	var flags []string
	if Race {
		flags = []string{"-race"}
		t.Setenv("GORACE", "halt_on_error=1") // a gateway ends at its first race, which no trial passes
	}
	bin, err := trial.Build(t.Context(), t.TempDir(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range p.Trials {
		if Race && !slices.Contains(underRace, one.Name) {
			continue
		}
		t.Run(one.Name, func(t *testing.T) {
			t.Parallel() // half of them wait for time-outs and clients' delays
			r, err := p.Do(t.Context(), one, trial.Options{Short: true, Bin: bin, Progress: log{t}})
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict == trial.Skip {
				t.Skip(r.Error)
			}
			if r.Verdict != trial.Pass {
				t.Errorf("seed %d: %s %s %+v %+v; see %s", r.Seed, r.Verdict, r.Error, r.Checks, r.Measured, r.Dir)
			}
		})
	}
}

// run executes one command line.
func run(t *testing.T, cmd *cobra.Command, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// Usage runs command lines that are errors before anything starts; why is a part of the message.
func Usage(t *testing.T, command func() *cobra.Command, why map[string]string) {
	for args, why := range why {
		if _, err := run(t, command(), strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: got %v, want %q", args, err, why)
		}
	}
}

// Page reports an error if a page lacks the list of the trials.
func Page(t *testing.T, cmd *cobra.Command, path string) {
	out, err := run(t, cmd, "--list")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(page), "```text\n"+out+"```\n") {
		t.Errorf("%s does not have the list, %v:\n%s", path, err, out)
	}
}

// NoGateway runs a trial with a gateway that does not start, which is a failure with its reason.
func NoGateway(t *testing.T, cmd *cobra.Command, word string) {
	out, err := run(t, cmd, word, "--short", "--json", "--bin", "/bin/false", "--dir", t.TempDir())
	if err == nil || !strings.Contains(out, `"verdict":"FAIL"`) || !strings.Contains(out, "the gateway did not start") {
		t.Errorf("got %v and %s", err, out)
	}
}
