package trial

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

	"sluice/bench"
	"sluice/bench/child"
)

// Trial is one program with a verdict.
type Trial struct {
	Number int    // which selects it, if it has one
	Name   string // which selects it otherwise
	What   string // one line
	Run    func(*Run) error
}

// word is what selects the trial.
func (t Trial) word() string {
	if t.Number > 0 {
		return strconv.Itoa(t.Number)
	}
	return t.Name
}

// Program is a command with a table of trials.
type Program struct {
	Name    string // of the command
	Noun    string // for a trial: "row"
	Flag    bool   // trials can be selected with a flag of that name, too
	Short   string // help text
	Long    string // help text
	Example string
	Trials  []Trial
}

// schema is the version of a result's JSON. It changes when a change would break readers.
func (p Program) schema() string { return "sluice-" + p.Name + "/1" }

// title returns how a report calls a trial.
func (p Program) title(t Trial) string {
	if t.Number > 0 {
		return fmt.Sprintf("%s %d, %s", p.Noun, t.Number, t.Name)
	}
	return t.Name
}

// Main runs a command until it is interrupted, and exits with 1 if it fails.
func Main(cmd *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := cmd.ExecuteContext(ctx)
	stop()
	if err != nil && !errors.Is(err, bench.ErrReported) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.Name(), err)
	}
	if err != nil {
		os.Exit(1) // `go run` has no other
	}
}

// Command returns the program's command. o has the defaults of its flags; check, if not nil, checks
// flags that the caller has added.
func (p Program) Command(o Options, check func() error) *cobra.Command {
	var (
		words        []string
		list, asJSON bool
	)
	cmd := &cobra.Command{
		Use: p.Name + " " + strings.ToUpper(p.Noun) + "...", Short: p.Short, Example: p.Example,
		Long: p.Long + fmt.Sprintf(`

Each %s starts its own gateways and NATS servers on free loopback ports, and
stops them at the end. Several can be named; all stands for every one.`, p.Noun),
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				p.list(cmd.OutOrStdout())
				return nil
			}
			chosen, err := p.choose(append(words, args...))
			if err == nil && check != nil {
				err = check()
			}
			if err != nil {
				return err
			}
			o.Progress = cmd.ErrOrStderr()
			return p.runAll(cmd.Context(), chosen, o, cmd.OutOrStdout(), asJSON)
		},
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	f := cmd.Flags()
	f.SortFlags = false
	if p.Flag {
		f.StringSliceVar(&words, p.Noun, nil, "run the "+p.Noun+" with this number `N`; repeatable, or a comma-separated list, or all")
	}
	f.BoolVar(&list, "list", false, "print the list of "+p.Noun+"s and exit")
	f.BoolVar(&o.Short, "short", false, "run for seconds with hundreds of clients, and do not judge speed")
	f.StringToStringVar(&o.Set, "set", nil, "set parameters of a "+p.Noun+", such as `clients=500,lasts=5m`; the report lists them")
	f.StringVar(&o.Bin, "bin", "", "test the gateway binary at this `PATH`; by default it is built from ./cmd/sluice")
	f.StringVar(&o.NATSBin, "nats-bin", o.NATSBin, "start the NATS server binary at this `PATH`; by default the server of this module's version")
	f.StringVar(&o.Dir, "dir", "", "keep logs, and data while it runs, in `DIR`; by default a temporary directory, kept only after a failure")
	f.DurationVar(&o.Deadline, "deadline", 0, "fail a "+p.Noun+" after this `TIME`; by default 40m, with --short 2m")
	f.BoolVar(&asJSON, "json", false, "print JSON ("+p.schema()+"), one line per "+p.Noun+", instead of tables")
	return cmd
}

// list prints the table of trials.
func (p Program) list(w io.Writer) {
	width := 3
	for _, t := range p.Trials {
		width = max(width, len(t.word()))
	}
	for _, t := range p.Trials {
		if t.Number > 0 {
			fmt.Fprintf(w, "%*d  %s: %s\n", width, t.Number, t.Name, t.What)
		} else {
			fmt.Fprintf(w, "%-*s  %s\n", width, t.Name, t.What)
		}
	}
}

// choose finds trials by their words, in the order given.
func (p Program) choose(words []string) (chosen []Trial, err error) {
	var known []string
	for _, t := range p.Trials {
		known = append(known, t.word())
	}
	for _, word := range words {
		i := slices.Index(known, strings.TrimSpace(word))
		switch {
		case word == "all":
			chosen = append(chosen, p.Trials...)
		case i < 0:
			return nil, fmt.Errorf("%s: no such %s; use one of %s, or all", word, p.Noun, strings.Join(known, ", "))
		default:
			chosen = append(chosen, p.Trials[i])
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no %s given: use one of %s, or all; --list describes them", p.Noun, strings.Join(known, ", "))
	}
	return chosen, nil
}

// Build builds what trials start, the gateway with flags of go build, and beside it a nats-server.
func Build(ctx context.Context, dir string, flags ...string) (gateway string, err error) {
	gateway = filepath.Join(dir, "sluice")
	return gateway, errors.Join(child.Build(ctx, gateway, flags...), child.BuildNATS(ctx, filepath.Join(dir, natsServer)))
}

// runAll runs trials one after another, whether or not earlier ones failed. Several have a table of
// all at the end.
func (p Program) runAll(ctx context.Context, chosen []Trial, o Options, w io.Writer, asJSON bool) error {
	if o.Deadline < 0 || o.Deadline > 24*time.Hour {
		return fmt.Errorf("--deadline %v is out of range: use up to 24h, or omit it", o.Deadline)
	}
	if o.Bin == "" {
		dir, err := os.MkdirTemp("", "sluice-"+p.Name+"-bin-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if o.Bin, err = Build(ctx, dir); err != nil {
			return fmt.Errorf("%w; run this in a clone of the repository, or specify --bin", err)
		}
	}
	var all []*Result
	var failed []string
	for _, t := range chosen {
		result, err := p.Do(ctx, t, o)
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
		if all = append(all, result); result.Verdict == Fail {
			failed = append(failed, t.word())
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", context.Cause(ctx))
		}
	}
	if len(all) > 1 && !asJSON {
		if err := writeSummary(w, all); err != nil {
			return fmt.Errorf("print the table: %w", err)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%ss failed: %s", p.Noun, strings.Join(failed, ", "))
	}
	for name := range o.Set {
		if !slices.ContainsFunc(all, func(r *Result) bool { return r.Parameters[name] != "" }) {
			return fmt.Errorf("--set %s: no %s that ran has this parameter", name, p.Noun)
		}
	}
	return nil
}
