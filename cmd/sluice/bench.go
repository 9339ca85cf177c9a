package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench"
)

// newBenchCommand gives `sluice bench`, the load tester for any WebSocket
// broadcast server. Its scenarios are subcommands.
func newBenchCommand(env []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a WebSocket broadcast server, this one or another",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("no scenario is named: give fanout, idle, storm, recover, reconnect, churn, hostile, chaos or floor: see '%s --help'", cmd.CommandPath())
		},
		Example: `  sluice bench fanout --subscribers 10000 --rate 100 --duration 60s --pid PID
  sluice bench storm --url ws://10.0.0.7:8000 --fail-if 'failed>0,p99>1s'`,
	}
	setHelp(cmd)
	for _, scenario := range []*cobra.Command{
		newFanoutCommand(), newIdleCommand(), newStormCommand(), newRecoverCommand(), newReconnectCommand(), newChurnCommand(), newFloorCommand(),
	} {
		if scenario.Flags().Lookup("url") != nil {
			bindEnv(scenario, env, "url", "cacert", "insecure-skip-verify")
		}
		setHelp(scenario, flagGroup{"Load", ownFlags(scenario)}, flagGroup{"Server", serverFlags}, flagGroup{"Centrifugo's protocol", audienceFlags},
			flagGroup{"TLS", tlsFlags}, flagGroup{"Tester", testerFlags}, flagGroup{"Report", reportFlags})
		cmd.AddCommand(scenario)
	}
	cmd.AddCommand(newHostileCommand(env), newChaosCommand(), newFloorSenderCommand())
	return cmd
}

func newFanoutCommand() *cobra.Command {
	var o bench.FanoutOptions
	measure := func(ctx context.Context) (*bench.Result, error) {
		zeroIsNone(&o.Warmup)
		return bench.Fanout(ctx, o)
	}
	cmd := scenario("fanout", "One message to all subscribers: delivery, latency, CPU",
		`  sluice bench fanout --subscribers 10000 --rate 100 --duration 60s --pid PID
  sluice bench fanout --protocol sse --path /ws/news --fail-if 'lost>0,holes>0'`,
		&o.Options, measure)
	f := cmd.Flags()
	f.IntVar(&o.Subscribers, "subscribers", 1000, "`N` connections that listen")
	f.IntVar(&o.Publishers, "publishers", 1, "`N` connections that publish, in turn; order is checked for each")
	f.StringVar(&o.PublishURL, "publish-url", "", "POST messages to this `URL` instead, such as http://127.0.0.1:9000/publish/lobby; with --channels {channel} stands for the name")
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
  sluice bench idle --pid PID --protocol sse --fail-if 'rss_per_connection>1KB'`,
		&o.Options, measure)
	f := cmd.Flags()
	f.IntVar(&o.Connections, "connections", 10_000, "`N` connections")
	f.DurationVar(&o.Settle, "settle", bench.DefaultSettle, "`TIME` between connecting and measuring")
	f.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "`TIME` over which idle CPU is measured")
	f.Var(&sizeFlag{n: &o.Exchange}, "exchange", "first a message of so many `BYTES`, 32 to 16384, for each connection: its own back with --path /echo, else one that is published to all")
	f.IntVar(&o.Each, "channels-each", 0, "with Centrifugo's protocol: `N` channels that each connection has for itself; what they take is measured beyond the connections")
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

func newRecoverCommand() *cobra.Command {
	var o bench.RecoverOptions
	cmd := scenario("recover", "Clients come back for what they missed: holes, repeats, latency",
		`  sluice bench recover --pid PID --fail-if 'holes>0,repeats>0,wrong>0,gaps>0'
  sluice bench recover --joins 1000 --rate 100 --behind 50`,
		&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.Recover(ctx, o) })
	o.Protocol = bench.JSON // in raw nobody can ask for what was missed
	f := cmd.Flags()
	f.Lookup("protocol").DefValue = string(bench.JSON)
	f.IntVar(&o.Joins, "joins", 100_000, "`N` joins in all, each with a position of the past")
	f.IntVar(&o.Concurrency, "concurrency", 64, "`N` clients at a time")
	f.IntVar(&o.Behind, "behind", 200, "`N` publications that a client has missed at most; the server must keep a good many more (sluice serve --history)")
	f.IntVar(&o.Live, "live", 20, "`N` publications that a client stays for, once it has what it missed")
	f.Float64Var(&o.Rate, "rate", 2000, "`N` messages a second")
	f.StringVar(&o.PublishURL, "publish-url", "", "POST messages to this `URL` instead of sending them over a connection")
	f.Var(&sizeFlag{n: &o.Size, text: "64"}, "size", "payload `BYTES`, at least 32")
	return cmd
}

func newReconnectCommand() *cobra.Command {
	var o bench.ReconnectOptions
	measure := func(ctx context.Context) (*bench.Result, error) {
		zeroIsNone(&o.Settle)
		return bench.Reconnect(ctx, o)
	}
	cmd := scenario("reconnect", "All clients come back at once for what they missed",
		`  sluice bench reconnect --pid PID --fail-if 'lost>0,repeated>0'
  sluice bench reconnect --connections 1000 --missed 100`,
		&o.Options, measure)
	o.Protocol = bench.Centrifugo // in which a client says where it stands
	f := cmd.Flags()
	f.Lookup("protocol").DefValue = string(bench.Centrifugo)
	f.IntVar(&o.Connections, "connections", 10_000, "`N` clients")
	f.IntVar(&o.Outstanding, "outstanding", 512, "`N` of them coming back at a time")
	f.IntVar(&o.Missed, "missed", 20, "`N` publications that each has missed; the channel must keep as many")
	f.StringVar(&o.PublishURL, "publish-url", "", "POST messages to this `URL` instead of sending them over a connection")
	f.Var(&sizeFlag{n: &o.Size, text: "64"}, "size", "payload `BYTES`, at least 40")
	f.DurationVar(&o.Settle, "settle", bench.DefaultAway, "`TIME` after they left, and again after publishing; 0 for none")
	return cmd
}

func newChurnCommand() *cobra.Command {
	var o bench.ChurnOptions
	measure := func(ctx context.Context) (*bench.Result, error) {
		if o.Warmup == 0 {
			o.Warmup = -1 // as zeroIsNone
		}
		return bench.Churn(ctx, o)
	}
	cmd := scenario("churn", "Connections come and go: what fails, and what the server keeps",
		`  sluice bench churn --pid PID --metrics http://127.0.0.1:9000/metrics
  sluice bench churn --url wss://127.0.0.1:8443 --fail-if 'failed>0'`,
		&o.Options, measure)
	cmd.Long = `A cycle connects, sends a message, gets it back and closes: every other one with
a closing handshake, the rest with a reset. Before and after, the server's
descriptors, goroutines, epoll entries and memory are counted. The verdict is
PASS when no cycle failed, nothing is left and memory grew by 5 % at most; FAIL,
with exit code 1, when not; ok when --pid or --metrics is missing.

` + benchUnits
	f := cmd.Flags()
	path := f.Lookup("path")
	path.DefValue, path.Usage = "/echo", "`PATH` to upgrade at: /echo, or a channel, which brings the messages of all"
	o.Path = path.DefValue
	f.IntVar(&o.Cycles, "cycles", 1_000_000, "`N` cycles in all")
	f.IntVar(&o.Concurrency, "concurrency", 64, "`N` connections at a time")
	f.IntVar(&o.Warmup, "warmup", 10_000, "`N` cycles before the first census, excluded; 0 for none")
	f.Var(&sizeFlag{n: &o.Size, text: "64"}, "size", "payload `BYTES`, at least 32")
	f.StringVar(&o.Metrics, "metrics", "", "`URL` of the server's metrics in Prometheus's format, for its goroutines; with --pid")
	f.DurationVar(&o.Settle, "settle", bench.DefaultSettle, "`TIME` that the server may take to come to rest")
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
