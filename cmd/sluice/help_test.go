package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// everyCommand calls f for each command that users see.
func everyCommand(cmd *cobra.Command, f func(cmd *cobra.Command, path []string)) {
	f(cmd, strings.Fields(cmd.CommandPath())[1:])
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			everyCommand(sub, f)
		}
	}
}

func TestHelpOfEveryCommand(t *testing.T) {
	everyCommand(newRootCommand(nil), func(cmd *cobra.Command, path []string) {
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			code, help, stderr := runOnce(nil, append(path, "--help")...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d, stderr %q", code, stderr)
			}
			head, rest, ok := strings.Cut(help, "\nUsage:\n")
			_, examples, found := strings.Cut(head, "\nExamples:\n")
			if !ok || !found {
				t.Fatalf("the examples do not come first:\n%s", help)
			}
			if n := strings.Count(examples, "sluice"); n < 2 {
				t.Errorf("%d examples, want two", n)
			}
			for line := range strings.Lines(help) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
					t.Errorf("%d columns: %q", n, line)
				}
				if strings.TrimRight(line, " \n") != strings.TrimRight(line, "\n") {
					t.Errorf("space at the end: %q", line)
				}
			}
			for _, sub := range cmd.Commands() {
				if listed := strings.Contains(rest, "\n  "+sub.Name()+" "); listed == sub.Hidden {
					t.Errorf("command %s: listed %v, hidden %v", sub.Name(), listed, sub.Hidden)
				}
			}
			cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if f.Name == "help" || f.Name == "version" {
					return
				}
				text := flagText(rest, f.Name)
				want := !f.Hidden && (cmd.HasParent() || slices.Contains(firstFlags.Flags, f.Name))
				if listed := text != ""; listed != want {
					t.Errorf("--%s: listed %v, want %v", f.Name, listed, want)
				}
				if !want {
					return
				}
				if strings.ContainsAny(f.Usage, "`\n") {
					t.Errorf("--%s: a shell would show %q", f.Name, f.Usage)
				}
				if words := strings.Fields(f.Usage); len(words) < 2 || slices.Contains([]string{"of", "these", "those", "that", "it"}, words[0]) {
					t.Errorf("--%s: cannot be read alone: %q", f.Name, f.Usage)
				}
				if env := cli.FlagEnv(f); env != "" && cmd.HasParent() && !strings.Contains(text, " [$"+env+"]") {
					t.Errorf("--%s: %s is not shown: %q", f.Name, env, text)
				}
				if n := strings.Count(help, "\n"); !cmd.HasParent() && n > 40 {
					t.Errorf("%d lines, which do not fit a screen", n)
				}
			})
		})
	})
}

// What users need to know before the first try is in the help.
func TestHelpSaysWhatOthersHadToFindOut(t *testing.T) {
	for command, says := range map[string][]string{
		"": {
			"Broadcast server for WebSocket and SSE.", "Run the gateway (the default command)\n",
			fmt.Sprintf("All %d flags: sluice serve --help. A command's help: sluice COMMAND --help.", len(option.New(new(serve.Settings)).List)),
		},
		"serve": {
			"WebSocket and SSE together; auto:", "bytes of history kept per channel; a message larger than this is not kept",
			"configuration file with lines 'key = value'", "A # at the start of a line or after a space begins a comment.",
			"in double quotes (Go string syntax)", "A list may be repeated or separated by commas; any other key may be set only once",
		},
		"pub":        {"pub publishes as a WebSocket client, so the gateway must allow clients to publish", "a CR before the newline is kept"},
		"sub":        {`(default "now")`},
		"completion": {"sluice completion SHELL [flags]", "bash needs the bash-completion package"},
		"bench":      {"sluice bench COMMAND [flags]"},
	} {
		_, help, _ := runOnce(nil, append(strings.Fields(command), "--help")...)
		text := strings.Join(strings.Fields(help), " ") + "\n"
		for _, s := range says {
			if !strings.Contains(text, s) && !strings.Contains(help, s) {
				t.Errorf("%q: the help does not say %q:\n%s", command, s, help)
			}
		}
	}
}

// flagText returns what a help says about a flag, on one line.
func flagText(help, name string) string {
	entry := regexp.MustCompile(`(?m)^ {2,6}(-\w, )?--` + name + `[ =\[\n].*\n?( {10,}.*\n)*`)
	return strings.Join(strings.Fields(entry.FindString(help)), " ")
}

func TestVariablesOfOtherCommandsAreNoMistakesOfServe(t *testing.T) {
	if code, _, stderr := runOnce([]string{"SLUICE_TOKEN=t", "SLUICE_CACERT=c"}, "config"); code != 0 {
		t.Errorf("variables of sub and bench: exit code %d, %s", code, stderr)
	}
	if code, _, _ := runOnce([]string{"SLUICE_COUNT=1"}, "config"); code != cli.ExitUsage {
		t.Errorf("a variable of no command: exit code %d, want %d", code, cli.ExitUsage)
	}
}
