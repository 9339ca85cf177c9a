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

// newChaosCommand gives `sluice bench chaos`, the fault programs.
func newChaosCommand() *cobra.Command {
	var (
		o      chaos.Options
		rows   []string
		list   bool
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Faults: gateways of its own, hurt, and judged by ledgers",
		Example: `  sluice bench chaos --row 8,9 --short
  sluice bench chaos --row 13 --seed 42 --json --dir results`,
		Long: `Each row starts gateways on free ports of loopback and ends them. What was
published and what every client received is compared offset by offset and with
the gateway's counters. A failure leaves logs, ledger and goroutines behind. A
row that this machine cannot carry out is SKIP, which is no failure.`,
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
	f.StringSliceVar(&rows, "row", nil, "`N` of a row; repeatable, or with commas; all is every row")
	f.BoolVar(&list, "list", false, "only print the rows")
	f.BoolVar(&o.Short, "short", false, "seconds and hundreds of clients instead of minutes and thousands")
	f.Uint64Var(&o.Seed, "seed", 0, "`N` that a run has printed, to draw the same again; else one is drawn")
	f.StringVar(&o.Bin, "bin", "", "`PATH` of the gateway's binary; this program when nothing is said")
	f.StringVar(&o.Dir, "dir", "", "`DIR` for logs and ledgers, kept; else a temporary one, kept after a failure")
	f.StringVar(&o.Policy, "policy", "close", "`WORD`: the gateway's --slow-policy in rows with slow clients, close or skip")
	f.DurationVar(&o.Deadline, "deadline", 0, "`TIME` after which a row has failed; 45s in short form (5m where it compiles), else 15m, when nothing is said")
	f.BoolVar(&asJSON, "json", false, "print JSON ("+chaos.Schema+"), a line for each row, instead of a table")
	f.Lookup("seed").DefValue, f.Lookup("deadline").DefValue = "", "" // their zeros are not what holds
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
			return nil, usagef("--row %s: no such row: give one of %s, or all", word, strings.Join(known, ", "))
		default:
			chosen = append(chosen, all[i])
		}
	}
	if len(chosen) == 0 {
		return nil, usagef("no row is named: give --row with one of %s, or all; --list tells what they are", strings.Join(known, ", "))
	}
	return chosen, nil
}

// runRows runs rows one after another, whatever became of those before.
func runRows(ctx context.Context, rows []chaos.Row, o chaos.Options, w io.Writer, asJSON bool) error {
	if o.Policy != "close" && o.Policy != "skip" {
		return usagef("--policy %s: give close or skip", o.Policy)
	}
	if o.Deadline < 0 || o.Deadline > 24*time.Hour {
		return usagef("--deadline %v is out of range: give up to 24h, or leave it out", o.Deadline)
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
