package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sluice/bench"
	"sluice/bench/hostile"
	"sluice/bench/trial"
)

func main() { trial.Main(newCommand()) }

func newCommand() *cobra.Command {
	o := Options{Policy: "close"}
	cmd := program(&o).Command(trial.Options{}, o.check)
	f := cmd.Flags()
	f.Uint64Var(&o.Seed, "seed", 0, "repeat the random choices of the run that printed the seed `N`; random by default")
	f.StringVar(&o.Policy, "policy", o.Policy, "set the gateway's --slow-policy to `POLICY` in rows with slow clients: close or skip")
	cmd.AddCommand(newHostileCommand())
	return cmd
}

// program returns the table of rows as a program.
func program(o *Options) trial.Program {
	p := trial.Program{
		Name: "chaos", Noun: "row", Flag: true,
		Short: "Start gateways, inject faults and check every message",
		Long: `Start gateways, inject faults and check every message.

Each row is one kind of fault. The published messages are compared, offset by
offset, with those that every client received, and with the gateway's counters.
After a failure, the logs, the ledgers and a goroutine dump of the gateway are
kept. A row that cannot run on this machine is reported as SKIP, which is not a
failure.`,
		Example: `  go run ./bench/chaos --row 8,9 --short
  go run ./bench/chaos --row 13 --seed 42 --json --dir results`,
	}
	for _, row := range rows {
		p.Trials = append(p.Trials, row.trial(o))
	}
	return p
}

// check checks the flags.
func (o *Options) check() error {
	if o.Policy != "close" && o.Policy != "skip" {
		return fmt.Errorf("--policy %s: use close or skip", o.Policy)
	}
	return nil
}

func newHostileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hostile",
		Short: "Attack a server with malformed input, and check every response",
		Example: `  go run ./bench/chaos hostile handshakes --pid PID
  go run ./bench/chaos hostile frames --seed 7 --first 4711 --count 1`,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("no attack given: choose handshakes, frames or resets")
		},
	}
	cmd.AddCommand(
		newAttack("handshakes", "Upgrade requests, almost all of which must be refused", "/ws", hostile.Handshakes),
		newAttack("frames", "Sessions with one protocol violation each", "/echo", hostile.Frames),
		newAttack("resets", "Sessions in every protocol, cut off at a random byte", "/", hostile.Resets))
	return cmd
}

func newAttack(name, short, path string, run func(context.Context, hostile.Options) (*bench.Result, error)) *cobra.Command {
	var (
		o        hostile.Options
		reporter bench.Reporter
	)
	cmd := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return reporter.Run(cmd.Context(), cmd.OutOrStdout(), cmd.Flags(), name, func(ctx context.Context) (*bench.Result, error) { return run(ctx, o) })
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&o.Count, "count", 1_000_000, "send `N` cases, each on its own connection")
	f.IntVar(&o.Concurrency, "concurrency", 64, "run `N` cases at a time")
	f.Uint64Var(&o.Seed, "seed", 0, "derive all cases from the seed `N`; 0: a new seed, which the report prints")
	f.IntVar(&o.First, "first", 0, "start at case `N`; with --count 1, send only that case")
	switch name {
	case "frames":
		f.Var(bench.SizeFlag(&o.MessageMax, "64KiB"), "max-message", "the server's --max-message in `BYTES`")
	case "resets":
		f.StringVar(&o.Speak, "speak", "all", "speak this `PROTOCOL`: "+strings.Join(hostile.Tongues(), ", ")+", or all in turn")
	}
	o.AddFlags(f)
	if term.IsTerminal(int(os.Stderr.Fd())) {
		o.Progress = os.Stderr
	}
	for _, unused := range []string{"protocol", "hello", "loops", "dialing", "channel", "channels", "token", "token-hmac-secret-file"} {
		f.MarkHidden(unused) // ignored: the flag exists
	}
	o.Path = path
	f.Lookup("path").DefValue, f.Lookup("path").Usage = path, "request the upgrade at this `PATH`"
	reporter.AddFlags(f)
	return cmd
}
