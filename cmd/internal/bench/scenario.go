package bench

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice/bench"
	"sluice/cmd/internal/cli"
)

const benchUnits = `Write times as 500ms, 10s or 2m, and sizes in bytes or as 64KiB or 1MiB.`

// The flags that scenarios share, as their help groups them.
var (
	serverFlags   = []string{"url", "path", "protocol", "hello", "pid"}
	audienceFlags = []string{"channel", "channels", "token", "token-hmac-secret-file"}
	tlsFlags      = []string{"cacert", "insecure-skip-verify", "cert", "key", "resume"}
	testerFlags   = []string{"loops", "dialing", "sources", "timeout"}
	reportFlags   = []string{"json", "fail-if"}
)

// ownFlags returns the other flags of a scenario, in the order of their definition.
func ownFlags(scenario *cobra.Command) (own []string) {
	shared := slices.Concat(serverFlags, audienceFlags, tlsFlags, testerFlags, reportFlags)
	scenario.Flags().SortFlags = false
	scenario.Flags().VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(shared, f.Name) {
			own = append(own, f.Name)
		}
	})
	return own
}

// unused names the shared flags that a scenario does not use.
var unused = map[string][]string{
	"storm":     {"dialing"}, // --outstanding takes its place
	"recover":   {"dialing", "loops", "hello", "channels"},
	"reconnect": {"hello", "channels"},
	"drain":     {"hello"},
	"churn":     {"dialing", "loops", "hello", "channel", "channels", "token", "token-hmac-secret-file"},
}

// protocolWords completes --protocol.
func protocolWords() (words []string) {
	for _, p := range bench.Protocols {
		words = append(words, string(p))
	}
	return words
}

// scenario returns a subcommand with the flags that all scenarios have: those of o, which
// is nil where there is no server, and those of the report.
func scenario(name, short, examples string, o *bench.Options, measure func(context.Context) (*bench.Result, error)) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Example: examples, Args: cli.NoArguments, Long: benchUnits}
	if o != nil {
		o.AddFlags(cmd.Flags())
		if cli.IsTerminal(os.Stderr) {
			o.Progress = os.Stderr
		}
		_ = cmd.RegisterFlagCompletionFunc("protocol", cobra.FixedCompletions(protocolWords(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there, and new
		for _, flag := range unused[name] {
			cmd.Flags().MarkHidden(flag) // ignored: the flag exists
		}
	}
	var reporter bench.Reporter
	reporter.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		err := reporter.Run(cmd.Context(), cmd.OutOrStdout(), cmd.Flags(), name, measure)
		switch {
		case errors.As(err, new(*bench.UsageError)):
			return cli.Usagef("%w", err)
		case errors.Is(err, bench.ErrReported):
			return cli.ExitCode(cli.ExitFailed)
		}
		return err
	}
	return cmd
}
