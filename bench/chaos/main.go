package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sluice/bench"
	"sluice/bench/hostile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	if err != nil && !errors.Is(err, bench.ErrReported) {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil {
		os.Exit(1) // `go run` has no other
	}
}

func newCommand() *cobra.Command {
	var (
		o      Options
		words  []string
		list   bool
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Start gateways, inject faults and check every message",
		Example: `  go run ./bench/chaos --row 8,9 --short
  go run ./bench/chaos --row 13 --seed 42 --json --dir results`,
		Long: `Start gateways, inject faults and check every message.

Each row is one kind of fault. It starts its own gateways on free loopback ports
and stops them at the end. The published messages are compared, offset by
offset, with those that every client received, and with the gateway's counters.
After a failure, the logs, the ledgers and a goroutine dump of the gateway are
kept. A row that cannot run on this machine is reported as SKIP, which is not a
failure.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				for _, row := range rows {
					fmt.Fprintf(cmd.OutOrStdout(), "%3d  %s: %s\n", row.Number, row.Name, row.What)
				}
				return nil
			}
			chosen, err := chooseRows(words)
			if err != nil {
				return err
			}
			o.Progress = cmd.ErrOrStderr()
			return runRows(cmd.Context(), chosen, o, cmd.OutOrStdout(), asJSON)
		},
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&words, "row", nil, "run the row with this number `N`; repeatable, or a comma-separated list, or all")
	f.BoolVar(&list, "list", false, "print the list of rows and exit")
	f.BoolVar(&o.Short, "short", false, "run for seconds with hundreds of clients, instead of minutes with thousands")
	f.StringToStringVar(&o.Set, "set", nil, "set parameters of a row, such as `clients=500,lasts=5m`; the report lists them")
	f.Uint64Var(&o.Seed, "seed", 0, "repeat the random choices of the run that printed the seed `N`; random by default")
	f.StringVar(&o.Bin, "bin", "", "test the gateway binary at this `PATH`; by default it is built from ./cmd/sluice")
	f.StringVar(&o.Dir, "dir", "", "keep logs and ledgers in `DIR`; by default a temporary directory, kept only after a failure")
	f.StringVar(&o.Policy, "policy", "close", "set the gateway's --slow-policy to `POLICY` in rows with slow clients: close or skip")
	f.DurationVar(&o.Deadline, "deadline", 0, "fail a row after this `TIME`; by default 40m, with --short 90s")
	f.BoolVar(&asJSON, "json", false, "print JSON ("+Schema+"), one line per row, instead of a table")
	cmd.AddCommand(newHostileCommand())
	return cmd
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

// chooseRows finds the rows that --row names, in the order given.
func chooseRows(words []string) (chosen []Row, err error) {
	var known []string
	for _, row := range rows {
		known = append(known, strconv.Itoa(row.Number))
	}
	for _, word := range words {
		i := slices.Index(known, strings.TrimSpace(word))
		switch {
		case word == "all":
			chosen = append(chosen, rows...)
		case i < 0:
			return nil, fmt.Errorf("--row %s: no such row; use one of %s, or all", word, strings.Join(known, ", "))
		default:
			chosen = append(chosen, rows[i])
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no row given: use --row with one of %s, or all; --list describes them", strings.Join(known, ", "))
	}
	return chosen, nil
}

// runRows runs rows one after another, whether or not earlier ones failed.
func runRows(ctx context.Context, rows []Row, o Options, w io.Writer, asJSON bool) error {
	if o.Policy != "close" && o.Policy != "skip" {
		return fmt.Errorf("--policy %s: use close or skip", o.Policy)
	}
	if o.Deadline < 0 || o.Deadline > 24*time.Hour {
		return fmt.Errorf("--deadline %v is out of range: use up to 24h, or omit it", o.Deadline)
	}
	if o.Bin == "" {
		dir, err := os.MkdirTemp("", "sluice-chaos-bin-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.Bin = filepath.Join(dir, "sluice")
		if err = buildAll(ctx, o.Bin); err != nil {
			return fmt.Errorf("%w; run this in a clone of the repository, or specify --bin", err)
		}
	}
	var failed []string
	for _, row := range rows {
		result, err := Do(ctx, row, o)
		if err != nil {
			return err
		}
		if asJSON {
			err = json.NewEncoder(w).Encode(result)
		} else {
			err = result.WriteTable(w)
		}
		if err != nil {
			return fmt.Errorf("print the result: %w", err)
		}
		if result.Verdict == Fail {
			failed = append(failed, strconv.Itoa(row.Number))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", context.Cause(ctx))
		}
	}
	if len(failed) > 0 {
		return errors.New("rows failed: " + strings.Join(failed, ", "))
	}
	return nil
}
