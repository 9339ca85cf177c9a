package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > helpColumns {
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
				line := flagLine(rest, f.Name)
				want := !f.Hidden && (!isRoot(cmd) || slices.Contains(firstFlags.flags, f.Name))
				if listed := line != ""; listed != want {
					t.Errorf("--%s: listed %v, want %v", f.Name, listed, want)
				}
				if !want {
					return
				}
				if strings.ContainsAny(f.Usage, "`\n") {
					t.Errorf("--%s: a shell would show %q", f.Name, f.Usage)
				}
				if env := flagEnv(f); !strings.Contains(line, env) {
					t.Errorf("--%s: %s is not shown: %q", f.Name, env, line)
				}
				if value, ours := f.Value.(flagValue); ours && value.opt.fallback != "" && !strings.HasSuffix(line, "  default "+value.opt.fallback) {
					t.Errorf("--%s: the default %s is not shown: %q", f.Name, value.opt.fallback, line)
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
			fmt.Sprintf("All %d flags: sluice serve --help. A command's help: sluice COMMAND --help.", len(new(settings).options().list)),
		},
		"serve": {
			"WebSocket and SSE together; auto:", "bytes of history kept per channel; a message larger than this is not kept",
			"configuration file with lines 'key = value'", "A # at the start of a line or after a space begins a comment.",
			"in double quotes (Go string syntax)", "A list may be repeated or separated by commas; any other key may be set only once",
		},
		"pub":             {"pub publishes as a WebSocket client, so the gateway must allow clients to publish", "a CR before the newline is kept"},
		"sub":             {"default now"},
		"completion":      {"sluice completion SHELL [flags]"},
		"completion bash": {"needs the bash-completion package"},
		"bench":           {"sluice bench COMMAND [flags]"},
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

// flagLine returns the line that begins with a flag.
func flagLine(help, name string) string {
	for line := range strings.Lines(help) {
		if strings.HasPrefix(line, "      ") { // the text of a flag may name another
			continue
		}
		for _, word := range strings.Fields(line) {
			if word == "--"+name {
				return strings.TrimRight(line, "\n")
			}
			if !strings.HasPrefix(word, "-") {
				break
			}
		}
	}
	return ""
}

// helpSample is a command with a flag of every kind that help treats differently.
func helpSample(env []string) (cmd *cobra.Command, url *string, ran *bool) {
	ran = new(bool)
	cmd = &cobra.Command{
		Use: "sample", Short: "Try help", Example: "  sluice sample",
		RunE: func(*cobra.Command, []string) error { *ran = true; return nil },
	}
	f := cmd.Flags()
	url = f.String("url", "ws://127.0.0.1:8000", "the `URL` of the gateway, described in so many words that the line must be broken somewhere")
	f.BoolP("quiet", "q", false, "print nothing")
	f.Int("count", 3, "`N` messages")
	f.Bool("secret", false, "for us")
	f.Lookup("secret").Hidden = true
	bindEnv(cmd, env, "url", "count")
	setHelp(cmd, flagGroup{"Server", []string{"url"}}, flagGroup{"Empty", nil})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return cmd, url, ran
}

func TestHelpPutsFlagsInTheirGroups(t *testing.T) {
	cmd, _, _ := helpSample(nil)
	var out strings.Builder
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--help"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	const want = `Try help.

Examples:
  sluice sample

Usage:
  sample [flags]

Server:
  --url URL                    SLUICE_URL            default ws://127.0.0.1:8000
      the URL of the gateway, described in so many words that the line must be
      broken somewhere

Other flags:
  --count N                    SLUICE_COUNT              default 3
      N messages
  -q, --quiet
      print nothing
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestFlagsCanBeBoundToTheEnvironment(t *testing.T) {
	env := []string{"SLUICE_URL=ws://env", "SLUICE_COUNT="}
	for _, tt := range []struct {
		name, want string
		args, env  []string
	}{
		{"environment", "ws://env", nil, env},
		{"flag comes first", "ws://flag", []string{"--url", "ws://flag"}, env},
		{"neither", "ws://127.0.0.1:8000", nil, nil},
	} {
		cmd, url, ran := helpSample(tt.env)
		cmd.SetArgs(tt.args)
		if err := cmd.Execute(); err != nil || !*ran || *url != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.name, *url, err, tt.want)
		}
	}
	cmd, _, ran := helpSample([]string{"SLUICE_COUNT=few"})
	cmd.SetArgs([]string{})
	err := cmd.Execute()
	if *ran || !errors.As(err, new(usageError)) || !strings.HasPrefix(err.Error(), "SLUICE_COUNT=few: ") {
		t.Errorf("a wrong value: %v", err)
	}
}

func TestVariablesOfOtherCommandsAreNoMistakesOfServe(t *testing.T) {
	cmd, _, _ := helpSample(nil)
	opts := new(settings).options()
	if err := opts.resolve([]string{"SLUICE_COUNT=1"}); err == nil {
		t.Error("a variable of no command is not refused")
	}
	opts.leaveTo(cmd)
	if err := opts.resolve([]string{"SLUICE_COUNT=1"}); err != nil {
		t.Error(err)
	}
}
