package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice/bench"
)

// newBenchCommand gives `sluice bench`, the load tester for any WebSocket
// broadcast server. Its scenarios are subcommands.
func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a WebSocket broadcast server, this one or another",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("no scenario is named: give fanout, idle, storm or floor: see '%s --help'", cmd.CommandPath())
		},
		Example: `  sluice bench fanout --subscribers 10000 --rate 100 --duration 60s --pid PID
  sluice bench storm --url ws://10.0.0.7:8000 --fail-if 'failed>0,p99>1s'`,
	}
	cmd.AddCommand(newFanoutCommand(), newIdleCommand(), newStormCommand(), newFloorCommand(), newFloorSenderCommand())
	for _, sub := range append(cmd.Commands(), cmd) {
		sub.SetUsageTemplate(benchUsage)
		sub.SetHelpTemplate("{{.Short}}.\n\n{{.UsageString}}")
		sub.Flags().SortFlags = false
	}
	return cmd
}

// benchUsage puts the examples first and keeps within 80 columns.
const benchUsage = `Examples:
{{.Example}}

Usage:
  {{.UseLine}}{{if .HasAvailableSubCommands}} COMMAND

Scenarios:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}{{end}}
`

func newFanoutCommand() *cobra.Command {
	var o bench.FanoutOptions
	measure := func(ctx context.Context) (*bench.Result, error) {
		zeroIsNone(&o.Warmup)
		return bench.Fanout(ctx, o)
	}
	cmd := scenario("fanout", "One message to all subscribers: delivery, latency, CPU",
		`  sluice bench fanout --subscribers 10000 --rate 100 --duration 60s --pid PID
  sluice bench fanout --subscribers 10000 --find-max --fail-if 'lost>0'`,
		&o.Options, measure)
	f := cmd.Flags()
	f.IntVar(&o.Subscribers, "subscribers", 1000, "`N` connections that listen")
	f.IntVar(&o.Publishers, "publishers", 1, "`N` connections that publish, in turn; order is checked for each")
	f.StringVar(&o.PublishURL, "publish-url", "", "POST messages to this `URL` instead, such as http://127.0.0.1:9000/publish/lobby")
	f.Float64Var(&o.Rate, "rate", 10, "`N` messages a second in all; where --find-max begins")
	f.IntVar(&o.Burst, "burst", 0, "instead: `N` messages as fast as possible")
	f.BoolVar(&o.FindMax, "find-max", false, "instead: the highest rate that is held for --duration: nothing lost, nobody cut, all delivered within --catch-up after the last was due")
	f.Var(&sizeFlag{n: &o.Size, text: "64"}, "size", "payload `BYTES`, at least 32")
	f.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "`TIME` that is measured")
	f.DurationVar(&o.Warmup, "warmup", bench.DefaultWarmup, "`TIME` before that, excluded; 0 for none")
	f.DurationVar(&o.CatchUp, "catch-up", bench.DefaultCatchUp, "`TIME` without a delivery after which what is missing is lost")
	return cmd
}

func newIdleCommand() *cobra.Command {
	var o bench.IdleOptions
	measure := func(ctx context.Context) (*bench.Result, error) {
		zeroIsNone(&o.Settle)
		return bench.Idle(ctx, o)
	}
	cmd := scenario("idle", "Connections at rest: the server's memory and CPU",
		`  sluice bench idle --connections 10000 --pid PID
  sluice bench idle --pid PID --json --fail-if 'rss_per_connection>0.55KB'`,
		&o.Options, measure)
	f := cmd.Flags()
	f.IntVar(&o.Connections, "connections", 10_000, "`N` connections")
	f.DurationVar(&o.Settle, "settle", bench.DefaultSettle, "`TIME` between connecting and measuring")
	f.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "`TIME` over which idle CPU is measured")
	f.Var(&sizeFlag{n64: &o.FreshRSS}, "fresh-rss", "the server's VmRSS in `BYTES` when it was fresh; else read before connecting")
	return cmd
}

func newStormCommand() *cobra.Command {
	var o bench.StormOptions
	cmd := scenario("storm", "Many clients connect at once: rate, latency, CPU",
		`  sluice bench storm --connections 10000 --pid PID
  sluice bench storm --outstanding 128 --fail-if 'failed>0'`,
		&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.Storm(ctx, o) })
	f := cmd.Flags()
	f.IntVar(&o.Connections, "connections", 10_000, "`N` connections in all")
	f.IntVar(&o.Outstanding, "outstanding", 512, "`N` upgrades under way at a time")
	f.DurationVar(&o.Hold, "hold", 0, "`TIME` to keep the connections afterwards")
	return cmd
}

func newFloorCommand() *cobra.Command {
	var o bench.FloorOptions
	cmd := scenario("floor", "This machine's limit, without any server",
		`  sluice bench floor --connections 10000
  sluice bench floor --connections 10000 --rate 4 --duration 20s`,
		nil, func(ctx context.Context) (*bench.Result, error) { return bench.Floor(ctx, o) })
	f := cmd.Flags()
	f.IntVar(&o.Connections, "connections", 10_000, "`N` sockets, or upgrades")
	f.IntVar(&o.Burst, "burst", 200, "`N` rounds of one send to each, flat out")
	f.Float64Var(&o.Rate, "rate", 0, "instead: `N` rounds a second")
	f.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "`TIME` for --rate")
	f.Var(&sizeFlag{n: &o.Size, text: "64"}, "size", "payload `BYTES`, at least 32")
	f.BoolVar(&o.Upgrade, "upgrade", false, "instead: accept, read, write and close for each upgrade")
	f.IntVar(&o.Outstanding, "outstanding", 512, "`N` upgrades under way at a time")
	f.IntVar(&o.Loops, "loops", 0, "`N` receiving loops; 0: one on each core")
	return cmd
}

// zeroIsNone turns the zero that a user gives into package bench's "none": its own
// zero is the default.
func zeroIsNone(d *time.Duration) {
	if *d == 0 {
		*d = -1
	}
}

// newFloorSenderCommand gives the other process of `bench floor`.
func newFloorSenderCommand() *cobra.Command {
	return &cobra.Command{
		Use: "floor-sender", Hidden: true, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.FloorSender(cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// scenario gives a subcommand with the flags that all have: those of o, which is
// nil where there is no server, and those of the report.
func scenario(name, short, examples string, o *bench.Options, measure func(context.Context) (*bench.Result, error)) *cobra.Command {
	var (
		asJSON bool
		failIf string
	)
	cmd := &cobra.Command{Use: name, Short: short, Example: examples, Args: noArguments}
	f := cmd.Flags()
	if o != nil {
		f.StringVar(&o.URL, "url", "ws://127.0.0.1:8000", "`URL` of the server")
		f.StringVar(&o.Path, "path", "/ws", "`PATH` to upgrade at")
		f.StringVar(&o.Hello, "hello", "", "`TEXT` that each connection sends first, for servers that want a subscription")
		f.IntVar(&o.PID, "pid", 0, "`PID` of the server on this machine, for its CPU and memory")
		f.IntVar(&o.Sources, "sources", 0, "`N` local addresses from 127.0.0.2 on; 0: 32 for a server on loopback, none for others")
		f.IntVar(&o.Loops, "loops", 0, "`N` receiving loops; 0: one on each core")
		f.IntVar(&o.Dialing, "dialing", 64, "`N` connects under way at a time")
		f.DurationVar(&o.Timeout, "timeout", bench.DefaultTimeout, "`TIME` for a connect with its upgrade")
		if o.Progress = terminal(os.Stderr); name == "storm" {
			f.MarkHidden("dialing") // ignored: the flag exists. --outstanding takes its place
		}
	}
	f.BoolVar(&asJSON, "json", false, "print JSON ("+bench.Schema+") instead of a table")
	f.StringVar(&failIf, "fail-if", "", "exit 1 when one of these `CONDITIONS` holds, such as 'lost>0,p99>50ms', or the run is INVALID; a wrong name lists the names")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conditions, err := bench.ParseFailIf(name, failIf)
		if err != nil {
			return usageError{err}
		}
		if err := explicitZero(cmd.Flags()); err != nil {
			return err
		}
		result, err := measure(cmd.Context())
		if errors.As(err, new(*bench.UsageError)) {
			return usageError{err}
		}
		if result == nil {
			return err
		}
		result.Flags = flagValues(cmd.Flags())
		if ctx := cmd.Context(); ctx.Err() != nil {
			err = fmt.Errorf("interrupted: %w", context.Cause(ctx))
		}
		return errors.Join(report(cmd.OutOrStdout(), result, asJSON, conditions), err)
	}
	return cmd
}

// explicitZero refuses a 0 that was typed where 0 stands for the default.
func explicitZero(f *pflag.FlagSet) error {
	var err error
	f.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "subscribers", "publishers", "connections", "outstanding", "dialing", "rate", "burst", "size", "duration", "timeout", "catch-up":
			if v := f.Value.String(); err == nil && (v == "0" || v == "0s") {
				err = usagef("--%s 0: give more than nothing, or leave it out for the default", f.Name)
			}
		}
	})
	return err
}

// report prints a result and tells which conditions it fails.
func report(w io.Writer, r *bench.Result, asJSON bool, conditions bench.FailIf) error {
	write := r.WriteTable
	if asJSON {
		write = r.WriteJSON
	}
	if err := write(w); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	var failed []error
	if r.Verdict == bench.VerdictInvalid && len(conditions) > 0 {
		failed = append(failed, errors.New("--fail-if cannot be judged: the run is INVALID"))
	}
	for _, sentence := range conditions.Check(r) {
		failed = append(failed, fmt.Errorf("--fail-if %s", sentence))
	}
	return errors.Join(failed...)
}

// flagValues gives all flags as they hold, those that were left alone too.
func flagValues(f *pflag.FlagSet) map[string]string {
	values := map[string]string{}
	f.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			values[f.Name] = f.Value.String()
		}
	})
	return values
}

// terminal gives f when it is one, else nothing: a progress line in a file is
// of no use.
func terminal(f *os.File) io.Writer {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return f
}

// sizeFlag is a number of bytes such as 64, 64KiB or 1MiB.
type sizeFlag struct {
	n    *int
	n64  *int64
	text string
}

func (s *sizeFlag) String() string { return s.text }
func (s *sizeFlag) Type() string   { return "BYTES" }

func (s *sizeFlag) Set(text string) error {
	n, err := bench.ParseSize(strings.TrimSpace(text))
	if err != nil {
		return err
	}
	s.text = text
	if s.n64 != nil {
		*s.n64 = n
		return nil
	}
	*s.n = int(n)
	return nil
}
