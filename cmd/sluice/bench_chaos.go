package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench/chaos"
)

// newChaosCommand returns `sluice bench chaos`, the fault programs.
func newChaosCommand() *cobra.Command {
	var (
		o      chaos.Options
		rows   []string
		list   bool
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Start gateways, inject faults and check every message",
		Example: `  sluice bench chaos --row 8,9 --short
  sluice bench chaos --row 13 --seed 42 --json --dir results`,
		Long: `Each row is one kind of fault. It starts its own gateways on free loopback ports
and stops them at the end. The published messages are compared, offset by
offset, with those that every client received, and with the gateway's counters.
After a failure, the logs, the ledgers and a goroutine dump of the gateway are
kept. A row that cannot run on this machine is reported as SKIP, which is not a
failure.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				return listRows(cmd.OutOrStdout())
			}
			chosen, err := chooseRows(rows)
			if err != nil {
				return err
			}
			o.Progress = cmd.ErrOrStderr()
			return runRows(cmd.Context(), chosen, o, cmd.OutOrStdout(), asJSON)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&rows, "row", nil, "run the row with this number `N`; repeatable, or a comma-separated list, or all")
	f.BoolVar(&list, "list", false, "print the list of rows and exit")
	f.BoolVar(&o.Short, "short", false, "run for seconds with hundreds of clients, instead of minutes with thousands")
	f.Uint64Var(&o.Seed, "seed", 0, "repeat the random choices of the run that printed the seed `N`; random by default")
	f.StringVar(&o.Bin, "bin", "", "test the gateway binary at this `PATH`; by default this program")
	f.StringVar(&o.Dir, "dir", "", "keep logs and ledgers in `DIR`; by default a temporary directory, kept only after a failure")
	f.StringVar(&o.Policy, "policy", "close", "set the gateway's --slow-policy to `POLICY` in rows with slow clients: close or skip")
	f.DurationVar(&o.Deadline, "deadline", 0, "fail a row after this `TIME`; by default 15m, with --short 45s (5m for rows that compile a gateway)")
	f.BoolVar(&asJSON, "json", false, "print JSON ("+chaos.Schema+"), one line per row, instead of a table")
	f.Lookup("seed").DefValue, f.Lookup("deadline").DefValue = "", "" // their zeros are not the defaults
	f.SortFlags = false
	setHelp(cmd)
	return cmd
}

func listRows(w io.Writer) error {
	for _, row := range chaos.Rows() {
		if _, err := fmt.Fprintf(w, "%3d  %s: %s\n", row.Number, row.Name, row.What); err != nil {
			return err
		}
	}
	return nil
}

// chooseRows finds the rows that --row names, in the order given.
func chooseRows(words []string) (chosen []chaos.Row, err error) {
	all := chaos.Rows()
	var known []string
	for _, row := range all {
		known = append(known, strconv.Itoa(row.Number))
	}
	for _, word := range words {
		i := slices.Index(known, strings.TrimSpace(word))
		switch {
		case word == "all":
			chosen = append(chosen, all...)
		case i < 0:
			return nil, usagef("--row %s: no such row; use one of %s, or all", word, strings.Join(known, ", "))
		default:
			chosen = append(chosen, all[i])
		}
	}
	if len(chosen) == 0 {
		return nil, usagef("no row given: use --row with one of %s, or all; --list describes them", strings.Join(known, ", "))
	}
	return chosen, nil
}

// runRows runs rows one after another, whether or not earlier ones failed.
func runRows(ctx context.Context, rows []chaos.Row, o chaos.Options, w io.Writer, asJSON bool) error {
	if o.Policy != "close" && o.Policy != "skip" {
		return usagef("--policy %s: use close or skip", o.Policy)
	}
	if o.Deadline < 0 || o.Deadline > 24*time.Hour {
		return usagef("--deadline %v is out of range: use up to 24h, or omit it", o.Deadline)
	}
	var failed []string
	for _, row := range rows {
		result, err := chaos.Do(ctx, row, o)
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
		if result.Verdict == chaos.Fail {
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
