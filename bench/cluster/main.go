package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sluice/bench/trial"
)

func main() { trial.Main(newCommand()) }

func newCommand() *cobra.Command {
	var o Options
	cmd := program(&o).Command(trial.Options{}, o.check)
	f := cmd.Flags()
	f.IntVar(&o.Rounds, "rounds", 0, "measure `N` rounds and report medians; by default 3 or 5, with --short 1")
	f.StringVar(&o.Profile, "profile", "", "write CPU profiles of the gateways under load to `DIR`")
	cmd.AddCommand(newBareCommand())
	return cmd
}

// program returns the table of figures as a program.
func program(o *Options) trial.Program {
	p := trial.Program{
		Name: "cluster", Noun: "figure",
		Short: "Measure gateways that store, and gateways that share channels",
		Long: `Measure gateways that store, and gateways that share channels.

What is compared is measured side by side in rounds that alternate, and a figure
is the median of the rounds' differences or ratios.`,
		Example: `  go run ./bench/cluster durable-kill --short
  go run ./bench/cluster rate hop-latency --json`,
	}
	for _, f := range figures {
		p.Trials = append(p.Trials, f.trial(o))
	}
	return p
}

// check checks the flags.
func (o *Options) check() error {
	if o.Rounds < 0 {
		return fmt.Errorf("--rounds %d is out of range: use 1 or more, or omit it", o.Rounds)
	}
	if o.Profile != "" {
		return os.MkdirAll(o.Profile, 0o755)
	}
	return nil
}
