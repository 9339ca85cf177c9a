package main

import (
	"strings"
	"testing"

	"sluice/bench"
)

// The short forms of `sluice bench hostile`, against the real binary.
func TestHostileClientsGetTheAnswersThatTheyMust(t *testing.T) {
	s := start(t)
	defer s.stop()
	o := bench.HostileOptions{Count: 5000, Seed: 20}
	o.URL = "ws" + strings.TrimPrefix(s.url, "http")
	for _, attack := range []struct {
		name string
		run  func() (*bench.Result, error)
	}{
		{"handshakes", func() (*bench.Result, error) { return bench.HostileHandshakes(t.Context(), o) }},
		{"frames", func() (*bench.Result, error) { return bench.HostileFrames(t.Context(), o) }},
		{"resets", func() (*bench.Result, error) { return bench.HostileResets(t.Context(), o) }},
	} {
		t.Run(attack.name, func(t *testing.T) {
			r, err := attack.run()
			if err != nil || r.Verdict != bench.VerdictOK || r.Metrics["cases"] != 5000 {
				t.Errorf("verdict %s of %v cases, %v\n%s", r.Verdict, r.Metrics["cases"], err, strings.Join(r.Notes, "\n"))
			}
		})
	}
}

func TestHostileUsageErrorsAreTold(t *testing.T) {
	for _, tc := range []struct {
		args string
		why  string
	}{
		{"", "no attack given"},
		{"frames --count -1", "--count is -1"},
		{"resets --speak french", `--speak is "french"`},
		{"frames --max-message 8", "--max-message is 8"},
		{"handshakes --concurrency -1", "--concurrency is -1"},
		{"handshakes --fail-if lost>0", `handshakes has no metric "lost"`},
	} {
		cmd := newHostileCommand(nil)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(strings.Fields(tc.args))
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%q: got %v, want %q", tc.args, err, tc.why)
		}
	}
}
