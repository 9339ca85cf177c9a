package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

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
	BindEnv(cmd, env, "url", "count")
	SetHelp(cmd, Flags("Server", "url"), Flags("Empty"))
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
      --url URL   the URL of the gateway, described in so many words that
                  the line must be broken somewhere [$SLUICE_URL] (default
                  "ws://127.0.0.1:8000")

Other flags:
      --count N   N messages [$SLUICE_COUNT] (default 3)
  -q, --quiet     print nothing
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
	if *ran || !errors.As(err, new(UsageError)) || !strings.HasPrefix(err.Error(), "SLUICE_COUNT=few: ") {
		t.Errorf("a wrong value: %v", err)
	}
}
