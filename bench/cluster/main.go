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
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench/child"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1) // `go run` has no other
	}
}

func newCommand() *cobra.Command {
	var (
		o      Options
		asJSON bool
		list   bool
	)
	cmd := &cobra.Command{
		Use:   "cluster FIGURE",
		Short: "Measure gateways that store, and gateways that share channels",
		Example: `  go run ./bench/cluster durable-kill --short
  go run ./bench/cluster rate hop-latency --json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			if list {
				for _, f := range figures {
					fmt.Fprintf(cmd.OutOrStdout(), "%-15s  %s\n", f.Name, f.What)
				}
				return nil
			}
			if len(names) == 0 {
				return errors.New("no figure given: name some, or all; --list describes them")
			}
			chosen, err := choose(names)
			if err != nil {
				return err
			}
			o.Progress = cmd.ErrOrStderr()
			return runAll(cmd.Context(), chosen, o, cmd.OutOrStdout(), asJSON)
		},
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	cmd.Long = `Measure gateways that store, and gateways that share channels.

Each figure starts its own gateways and NATS servers on free loopback ports, and
stops them at the end. Several can be named; all stands for every one.`
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&list, "list", false, "print the list of figures and exit")
	f.BoolVar(&o.Short, "short", false, "run for seconds with hundreds of clients, and do not judge speed")
	f.IntVar(&o.Rounds, "rounds", 0, "measure `N` rounds and report medians; by default 5, with --short 1")
	f.StringVar(&o.Bin, "bin", "", "measure the gateway binary at this `PATH`; by default it is built from ./cmd/sluice")
	f.StringVar(&o.NATSBin, "nats-bin", "", "start the NATS server binary at this `PATH`; by default the server of this module's version")
	f.StringVar(&o.Dir, "dir", "", "keep logs, and data while it runs, in `DIR`; by default a temporary directory, kept only after a failure")
	f.StringVar(&o.Profile, "profile", "", "write CPU profiles of the gateways under load to `DIR`")
	f.DurationVar(&o.Deadline, "deadline", 0, "fail a figure after this `TIME`; by default 15m, with --short 2m")
	f.BoolVar(&asJSON, "json", false, "print JSON ("+Schema+"), one line per figure, instead of a table")
	cmd.AddCommand(newServerCommand(), newBareCommand())
	return cmd
}

// choose finds figures by their names, in the order given.
func choose(names []string) (chosen []Figure, err error) {
	for _, name := range names {
		found := false
		for _, f := range figures {
			if name == f.Name || name == "all" {
				chosen, found = append(chosen, f), true
			}
		}
		if !found {
			return nil, fmt.Errorf("%s: no such figure; --list describes them", name)
		}
	}
	return chosen, nil
}

// runAll measures figures one after another, whether or not earlier ones failed.
func runAll(ctx context.Context, chosen []Figure, o Options, w io.Writer, asJSON bool) error {
	if o.Rounds < 0 || o.Deadline < 0 || o.Deadline > 24*time.Hour {
		return errors.New("--rounds and --deadline must be above zero, and --deadline at most 24h")
	}
	if o.Bin == "" {
		dir, err := os.MkdirTemp("", "sluice-cluster-bin-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.Bin = filepath.Join(dir, "sluice")
		if err = child.Build(ctx, o.Bin); err != nil {
			return fmt.Errorf("%w; run this in a clone of the repository, or specify --bin", err)
		}
	}
	var failed []string
	for _, f := range chosen {
		result, err := Measure(ctx, f, o)
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
			failed = append(failed, f.Name)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", context.Cause(ctx))
		}
	}
	if len(failed) > 0 {
		return errors.New("failed: " + strings.Join(failed, ", "))
	}
	return nil
}
