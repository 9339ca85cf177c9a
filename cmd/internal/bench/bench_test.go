package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"sluice/bench"
	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
)

// benchRun executes one command line of `sluice bench`.
func benchRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := NewCommand(os.Environ())
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestBenchHelpBeginsWithExamplesWithin80Columns(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"fanout", "--help"}, {"idle", "--help"}, {"storm", "--help"}, {"hooks", "--help"}, {"recover", "--help"}, {"reconnect", "--help"}, {"drain", "--help"}, {"upgrade", "--help"}, {"reload", "--help"}, {"churn", "--help"}, {"floor", "--help"}} {
		out, err := benchRun(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		examples, flags := strings.Index(out, "Examples:\n  sluice bench"), strings.Index(out, "Usage:")
		if examples < 0 || flags < examples || strings.Count(out[:flags], "  sluice bench") != 2 {
			t.Errorf("%v: two examples do not come first:\n%s", args, out)
		}
		for line := range strings.Lines(out) {
			if len(strings.TrimRight(line, "\n")) > 80 {
				t.Errorf("%v: longer than 80 columns: %s", args, line)
			}
		}
		if strings.Contains(out, "floor-sender") {
			t.Errorf("%v: shows the sender, which is not for users", args)
		}
	}
}

func TestBenchUsageErrorsAreToldBeforeAnythingRuns(t *testing.T) {
	for _, tc := range []struct {
		args []string
		why  string
	}{
		{nil, "missing command: use fanout"},
		{[]string{"fanout", "--fail-if", "loss>0"}, "no metric \"loss\""},
		{[]string{"fanout", "--size", "8"}, "--size is 8: use 32 to 67108864"},
		{[]string{"floor", "--size", "10G"}, "--size is 10737418240: use 32 to 67108864"},
		{[]string{"fanout", "--publish-url", "127.0.0.1:9000/publish/news"}, `--publish-url is "127.0.0.1:9000/publish/news": use an http or https URL`},
		{[]string{"fanout", "--url", "ws://127.0.0.1:1", "--url", "tcp://127.0.0.1:2"}, `--url "tcp://127.0.0.1:2" is not a WebSocket URL`},
		{[]string{"fanout", "--url", "ws://127.0.0.1:1", "--url", "ws://127.0.0.1:2", "--url", "ws://127.0.0.1:3", "--subscribers", "2"}, "--url was given 3 times"},
		{[]string{"fanout", "--publish-url", "http://127.0.0.1:1", "--publish-url", "http://127.0.0.1:2"}, "--publish-url was given 2 times"},
		{[]string{"recover", "--publish-url", "lobby"}, `--publish-url is "lobby": use an http or https URL`},
		{[]string{"reconnect", "--publish-url", "ws://127.0.0.1:9000"}, `--publish-url is "ws://127.0.0.1:9000": use an http or https URL`},
		{[]string{"idle"}, "--pid is missing"},
		{[]string{"drain"}, "--pid is missing: it is the process that is stopped"},
		{[]string{"drain", "--pid", "1"}, "--node is missing"},
		{[]string{"drain", "--pid", "1", "--node", "http://127.0.0.1:1"}, "is not a WebSocket URL"},
		{[]string{"upgrade", "--protocols", "raw,xml"}, `--protocol is "xml"`},
		{[]string{"upgrade", "--upgrades", "2000"}, "--upgrades is 2000: use 1 to 1000"},
		{[]string{"upgrade", "--size", "32"}, "--size is 32: use 40"},
		{[]string{"upgrade", "--protocols", "raw,sse", "--connections", "1"}, "--connections is 1: use at least 2"},
		{[]string{"upgrade", "extra"}, "extra"},
		{[]string{"reload", "--reloads", "2000"}, "--reloads is 2000: use 1 to 1000"},
		{[]string{"reload", "--subscriptions", "200"}, "--subscriptions is 200: use 1 to 100"},
		{[]string{"storm", "--url", "tcp://127.0.0.1:1"}, "is not a WebSocket URL"},
		{[]string{"storm", "--url", "wss://127.0.0.1:1", "--cacert", "/nonexistent.pem"}, "no such file"},
		{[]string{"storm", "--url", "wss://127.0.0.1:1", "--cert", "/nonexistent.pem"}, "needs --key"},
		{[]string{"idle", "--pid", "1", "--exchange", "8"}, "--exchange is 8"},
		{[]string{"churn", "--protocol", "sse"}, "use raw or json"},
		{[]string{"churn", "--metrics", "http://127.0.0.1:1"}, "--metrics needs --pid"},
		{[]string{"churn", "--pid", "1", "--metrics", "127.0.0.1:9000"}, `--metrics is "127.0.0.1:9000": use an http or https URL`},
		{[]string{"floor", "--burst", "-1"}, "--burst is -1"},
		{[]string{"floor", "--loops", "-1"}, "--loops is -1"},
		{[]string{"fanout", "--protocol", "xml"}, `--protocol is "xml": use raw, json, sse, centrifugo or centrifugo-protobuf`},
		{[]string{"idle", "--pid", "1", "--protocol", "sse", "--path", "/events"}, "needs a --path of the form /ws/CHANNEL"},
		{[]string{"recover", "--joins", "-1"}, "--joins is -1"},
		{[]string{"recover", "--protocol", "raw"}, "use json, sse or centrifugo"},
		{[]string{"reconnect", "--protocol", "raw"}, "use centrifugo"},
		{[]string{"churn", "--protocol", "centrifugo"}, "use raw or json"},
		{[]string{"storm", "--token", "t"}, "use --protocol centrifugo"},
		{[]string{"idle", "--pid", "1", "--channels-each", "10"}, "--channels-each needs --protocol centrifugo"},
		{[]string{"recover", "--behind", "0"}, "--behind 0"},
		{[]string{"recover", "--fail-if", "reordered>0"}, `recover has no metric "reordered"`},
	} {
		_, err := benchRun(t, tc.args...)
		if err == nil || !strings.Contains(err.Error(), tc.why) || !errors.As(err, new(cli.UsageError)) {
			t.Errorf("%v: got %v, want a usage error with %q", tc.args, err, tc.why)
		}
	}
}

func TestBenchFailIfFailsTheCommand(t *testing.T) {
	// Nobody listens there, so that all upgrades fail, and the run as well.
	args := []string{"storm", "--url", "ws://127.0.0.1:1", "--connections", "3", "--json"}
	out, err := benchRun(t, append(args, "--fail-if", "failed>0,upgraded>0")...)
	if err == nil || !strings.HasPrefix(err.Error(), "--fail-if failed>0: failed is 3\n") || errors.As(err, new(cli.UsageError)) {
		t.Errorf("got %v", err)
	}
	var r bench.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Schema != bench.Schema || r.Metrics["failed"] != 3 || r.Flags["connections"] != "3" || r.Flags["fail-if"] == "" {
		t.Errorf("schema %q, metrics %v, flags %v", r.Schema, r.Metrics, r.Flags)
	}
	if _, err := benchRun(t, append(args, "--fail-if", "upgraded>0")...); err == nil || strings.Contains(err.Error(), "--fail-if") {
		t.Errorf("no condition holds, and nothing was upgraded: got %v", err)
	}
}

func TestBenchTakesTheServerFromTheEnvironment(t *testing.T) {
	t.Setenv("SLUICE_URL", "ws://127.0.0.1:1/from-the-environment")
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "/from-the-environment"},
		{[]string{"--url", "ws://127.0.0.1:1/from-a-flag"}, "/from-a-flag"},
	} {
		out, _ := benchRun(t, append([]string{"storm", "--connections", "1", "--json"}, tc.args...)...) // nobody listens there
		var r bench.Result
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(r.Flags["url"], tc.want) {
			t.Errorf("%v: the URL is %q, want %q", tc.args, r.Flags["url"], tc.want)
		}
	}
}

func TestBenchFanoutReportsAllNodes(t *testing.T) {
	out, err := benchRun(t, "fanout", "--json", "--url", "ws://127.0.0.1:1", "--url", "ws://127.0.0.1:2")
	if err == nil {
		t.Error("nobody listens there, and the run succeeded")
	}
	var r bench.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if got, want := r.Flags["url"], "ws://127.0.0.1:1,ws://127.0.0.1:2"; got != want {
		t.Errorf("the URLs are %s, want %s", got, want)
	}
}

func TestBenchRecoverSpeaksJSONUnasked(t *testing.T) {
	out, err := benchRun(t, "recover", "--url", "ws://127.0.0.1:1")
	if err == nil || errors.As(err, new(cli.UsageError)) || !strings.Contains(out, "is a server listening there?") {
		t.Errorf("got %v and the report\n%s\nwant that nobody listens", err, out)
	}
}

func TestBenchTellsOnceWhyARunFailed(t *testing.T) {
	const why = "is a server listening there?"
	for _, tc := range []struct {
		args           []string
		stdout, stderr int // how often it says why
		also           string
	}{
		{nil, 1, 0, ""},
		{[]string{"--fail-if", "delivered<1"}, 1, 0, "--fail-if"},
		{[]string{"--json"}, 1, 1, ""}, // the report is for a machine, and often in a file
	} {
		args := append([]string{"bench", "fanout", "--url", "ws://127.0.0.1:1"}, tc.args...)
		root := &cobra.Command{Use: "sluice"}
		root.AddCommand(NewCommand(nil))
		code, stdout, stderr := clitest.Run(root, "", args...)
		if code != cli.ExitFailed || strings.Count(stdout, why) != tc.stdout || strings.Count(stderr, why) != tc.stderr || !strings.Contains(stderr, tc.also) {
			t.Errorf("%v: exit code %d, stdout\n%s\nstderr\n%s", tc.args, code, stdout, stderr)
		}
	}
}
