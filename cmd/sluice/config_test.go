package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// reportOf runs `sluice config --json`.
func reportOf(t *testing.T, env []string, args ...string) map[string]option.SetOption {
	t.Helper()
	code, stdout, stderr := runOnce(env, append([]string{"config", "--json"}, args...)...)
	var list []option.SetOption
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr %q, JSON: %v", code, stderr, err)
	}
	report := map[string]option.SetOption{}
	for _, opt := range list {
		report[opt.Name] = opt
	}
	return report
}

func TestConfigTellsEverySource(t *testing.T) {
	file := clitest.WriteFile(t, "sluice.conf", "# ours\nping-interval = 1m\n")
	env := []string{"SLUICE_RAW=listen", "SLUICE_CONFIG=" + file}
	report := reportOf(t, env, "--listen", ":1,unix:/s")
	if got, want := len(report), len(option.New(new(serve.Settings)).List); got != want {
		t.Errorf("%d options, want %d", got, want)
	}
	text := func(s string) *string { return &s }
	for name, want := range map[string]option.SetOption{
		"listen":        {Group: "Listeners", Value: text(":1,unix:/s"), Source: "flag", Place: "--listen", Default: "127.0.0.1:8000", Variable: "SLUICE_LISTEN"},
		"raw":           {Group: "Clients", Value: text("listen"), Source: "environment", Place: "SLUICE_RAW", Default: "auto", Variable: "SLUICE_RAW"},
		"ping-interval": {Group: "Timeouts", Value: text("1m"), Source: "file", Place: file + ":2", Default: "25s", Variable: "SLUICE_PING_INTERVAL"},
		"loops":         {Group: "Delivery", Value: text("auto"), Source: "default", Default: "auto", Variable: "SLUICE_LOOPS"},
		"greeting":      {Group: "Clients", Source: "default", Variable: "SLUICE_GREETING"},
	} {
		want.Name = name
		if diff := cmp.Diff(want, report[name]); diff != "" {
			t.Error(diff)
		}
	}

	_, stdout, _ := runOnce(env, "config", "--listen", ":1,unix:/s")
	for _, line := range []string{
		"# Timeouts",
		"listen            = :1,unix:/s      # flag --listen",
		"raw               = listen          # environment SLUICE_RAW",
		"ping-interval     = 1m              # " + file + ":2",
		"loops             = auto            # default",
		"# greeting        =                 # not set",
	} {
		// The column of the comments depends on the longest value.
		if !strings.Contains(squeeze(stdout), "\n"+squeeze(line)+"\n") && !strings.HasPrefix(squeeze(stdout), squeeze(line)) {
			t.Errorf("no line %q in\n%s", line, stdout)
		}
	}
}

// squeeze makes one space of several.
func squeeze(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Join(strings.Fields(line), " "))
		if strings.HasSuffix(line, "\n") {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestConfigIsAlignedInColumns(t *testing.T) {
	_, stdout, _ := runOnce(nil, "config", "--greeting", "far longer than the column of values should ever be made")
	equals, sources := map[int]int{}, map[int]int{}
	for line := range strings.Lines(stdout) {
		if at := strings.Index(line, " = "); at > 0 {
			equals[at]++
			sources[strings.LastIndex(line, "  # ")]++
		}
	}
	options := len(option.New(new(serve.Settings)).List)
	if len(equals) != 1 {
		t.Errorf("'=' stands in columns %v:\n%s", equals, stdout)
	}
	most := 0
	for _, n := range sources {
		most = max(most, n)
	}
	if most != options-1 {
		t.Errorf("sources stand in columns %v, want all but one in one:\n%s", sources, stdout)
	}
}

func TestConfigIsAFileThatMakesTheSameSettings(t *testing.T) {
	for _, greeting := range []string{
		"hello", "hello, 世界", "#1", "number #1", "a#b", `"quoted"`, `half a "quote`, "two\nlines", "tab\there", "x = y", `back\slash`, "a  # b", "é",
	} {
		args := []string{"--greeting", greeting, "--listen", ":0", "--listen", "unix:/run/s", "--history", "off", "--batch-window", "10ms", "--log-format=json",
			"--tls-self-signed", "--slow-policy", "a=skip,*=close", "--max-per-address", "off", "--address-rate", "5"}
		before := reportOf(t, nil, args...)
		code, text, _ := runOnce(nil, append([]string{"config"}, args...)...)
		file := clitest.WriteFile(t, "sluice.conf", text)
		after := reportOf(t, nil, "--config", file)
		if code != 0 || len(after) != len(before) {
			t.Fatalf("exit code %d, %d options of %d", code, len(after), len(before))
		}
		for name, opt := range before {
			if name == "config" {
				continue
			}
			if diff := cmp.Diff(opt.Value, after[name].Value); diff != "" {
				t.Errorf("greeting %q: %s: %s\n%s", greeting, name, diff, text)
			}
			if opt.Value != nil && !strings.HasPrefix(after[name].Place, file+":") {
				t.Errorf("%s comes from %q, not from the file", name, after[name].Place)
			}
		}
	}
}

func TestConfigWithAFileCanBeAFileAgain(t *testing.T) {
	file := clitest.WriteFile(t, "sluice.conf", "raw = off\n")
	_, text, _ := runOnce(nil, "config", "--config", file)
	if !strings.Contains(squeeze(text), "\n# config = "+file+" # flag --config\n") {
		t.Errorf("the key config is no comment:\n%s", text)
	}
	if got := *reportOf(t, nil, "--config", clitest.WriteFile(t, "again.conf", text))["raw"].Value; got != "off" {
		t.Errorf("raw = %s, want off", got)
	}
}

func TestConfigDoesNotPrintAPassword(t *testing.T) {
	for _, format := range [][]string{nil, {"--json"}} {
		for setting, want := range map[string]string{
			"--jwks-url=https://u:secret@id.example.com/keys":     "https://u:xxxxx@id.example.com/keys",
			"--nats-url=tls://u:secret@n1,tls://u:secret@n2:4222": "tls://u:xxxxx@n1,tls://u:xxxxx@n2:4222",
			"--nats-url=u:secret@n1,n2":                           "u:xxxxx@n1,n2",
		} {
			args := append([]string{"config", setting}, format...)
			code, stdout, stderr := runOnce(nil, args...)
			if code != 0 || strings.Contains(stdout, "secret@") || !strings.Contains(stdout, want) {
				t.Errorf("%q: exit code %d, stdout\n%sstderr\n%s", args, code, stdout, stderr)
			}
		}
	}
}

func TestConfigRefusesWhatServeCannotRead(t *testing.T) {
	code, stdout, stderr := runOnce([]string{"SLUICE_RAW=yes"}, "config")
	if code != cli.ExitUsage || stdout != "" || stderr != "sluice: SLUICE_RAW=yes: must be one of auto, publish, listen, off\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}
