package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"sluice/bench"
)

// newHostileCommand returns `sluice bench hostile`, whose scenarios are attacks.
func newHostileCommand(env []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hostile",
		Short: "Attack a server with malformed input, and check every response",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("no attack given: choose handshakes, frames or resets (see '%s --help')", cmd.CommandPath())
		},
		Example: `  sluice bench hostile handshakes --pid PID
  sluice bench hostile frames --count 100000 --json`,
	}
	setHelp(cmd)
	for _, attack := range []*cobra.Command{
		newAttack("handshakes", "Upgrade requests, almost all of which must be refused",
			`  sluice bench hostile handshakes --pid PID
  sluice bench hostile handshakes --seed 7 --first 4711 --count 1`,
			"/ws", bench.HostileHandshakes),
		newAttack("frames", "Sessions with one protocol violation each",
			`  sluice bench hostile frames --pid PID
  sluice bench hostile frames --seed 7 --first 4711 --count 1`,
			"/echo", bench.HostileFrames),
		newAttack("resets", "Sessions in every protocol, cut off at a random byte",
			`  sluice bench hostile resets --pid PID
  sluice bench hostile resets --url wss://example.org --speak centrifugo`,
			"/", bench.HostileResets),
	} {
		bindEnv(attack, env, "url", "cacert", "insecure-skip-verify")
		setHelp(attack, flagGroup{"Load", ownFlags(attack)}, flagGroup{"Server", serverFlags},
			flagGroup{"TLS", tlsFlags}, flagGroup{"Tester", testerFlags}, flagGroup{"Report", reportFlags})
		cmd.AddCommand(attack)
	}
	return cmd
}

func newAttack(name, short, examples, path string, run func(context.Context, bench.HostileOptions) (*bench.Result, error)) *cobra.Command {
	var o bench.HostileOptions
	cmd := scenario(name, short, examples, &o.Options, func(ctx context.Context) (*bench.Result, error) { return run(ctx, o) })
	f := cmd.Flags()
	for _, unused := range []string{"protocol", "hello", "loops", "dialing"} {
		f.MarkHidden(unused) // ignored: the flag exists
	}
	o.Path = path
	f.Lookup("path").DefValue, f.Lookup("path").Usage = path, "request the upgrade at this `PATH`"
	f.IntVar(&o.Count, "count", 1_000_000, "send `N` cases, each on its own connection")
	f.IntVar(&o.Concurrency, "concurrency", 64, "run `N` cases at a time")
	f.Uint64Var(&o.Seed, "seed", 0, "derive all cases from the seed `N`; 0: a new seed, which the report prints")
	f.IntVar(&o.First, "first", 0, "start at case `N`; with --count 1, send only that case")
	if name == "resets" {
		f.MarkHidden("path") // ignored: the flag exists
		f.StringVar(&o.Speak, "speak", "all", "speak this `PROTOCOL`: "+strings.Join(bench.Tongues(), ", ")+", or all in turn")
	}
	if name == "frames" {
		f.Var(&sizeFlag{n: &o.MessageMax, text: "64KiB"}, "max-message", "the server's --max-message in `BYTES`")
	}
	return cmd
}
