package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

// chaosRun executes one command line.
func chaosRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestPageListsTheRows(t *testing.T) {
	out, err := chaosRun(t, "--list")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../README.md")
	if err != nil || !strings.Contains(string(page), "```text\n"+out+"```\n") {
		t.Errorf("bench/README.md does not have the list, %v:\n%s", err, out)
	}
}

func TestChaosUsageErrorsAreToldBeforeAnythingRuns(t *testing.T) {
	for _, tc := range []struct {
		args []string
		why  string
	}{
		{nil, "no row given"},
		{[]string{"--row", "8,6"}, "--row 6: no such row; use one of 1, 2, "},
		{[]string{"--row", "8", "--policy", "drop"}, "--policy drop: use close or skip"},
		{[]string{"--row", "8", "--deadline", "-1s"}, "--deadline -1s is out of range"},
		{[]string{"hostile"}, "no attack given"},
		{[]string{"hostile", "frames", "--count", "-1"}, "--count is -1"},
		{[]string{"hostile", "resets", "--speak", "french"}, `--speak is "french"`},
		{[]string{"hostile", "frames", "--max-message", "8"}, "--max-message is 8"},
		{[]string{"hostile", "handshakes", "--concurrency", "-1"}, "--concurrency is -1"},
		{[]string{"hostile", "handshakes", "--fail-if", "lost>0"}, `handshakes has no metric "lost"`},
		{[]string{"rows"}, `unknown command "rows"`},
	} {
		_, err := chaosRun(t, tc.args...)
		if err == nil || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%v: got %v, want %q", tc.args, err, tc.why)
		}
	}
}

func TestChaosFailsWhereNoGatewayStarts(t *testing.T) {
	out, err := chaosRun(t, "--row", "8", "--short", "--json", "--bin", "/bin/false", "--dir", t.TempDir())
	if err == nil || !strings.Contains(out, `"verdict":"FAIL"`) || !strings.Contains(out, "the gateway did not start") {
		t.Errorf("got %v and %s", err, out)
	}
}
