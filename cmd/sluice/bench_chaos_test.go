package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// chaosRun executes one command line of `sluice bench chaos`.
func chaosRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newChaosCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestChaosListsItsRows(t *testing.T) {
	out, err := chaosRun(t, "--list")
	if err != nil || !strings.Contains(out, "  8  stalled readers: ") || !strings.Contains(out, " 13  stopped gateway: ") {
		t.Errorf("got %v and\n%s", err, out)
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
	} {
		_, err := chaosRun(t, tc.args...)
		if err == nil || !strings.Contains(err.Error(), tc.why) || !errors.As(err, new(usageError)) {
			t.Errorf("%v: got %v, want a usage error with %q", tc.args, err, tc.why)
		}
	}
}

func TestChaosFailsWhereNoGatewayStarts(t *testing.T) {
	out, err := chaosRun(t, "--row", "8", "--short", "--json", "--bin", "/bin/false", "--dir", t.TempDir())
	if err == nil || errors.As(err, new(usageError)) || !strings.Contains(out, `"verdict":"FAIL"`) || !strings.Contains(out, "the gateway did not start") {
		t.Errorf("got %v and %s", err, out)
	}
}
