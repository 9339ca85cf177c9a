package bench

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench"
	"sluice/bench/visitors"
	"sluice/cmd/internal/cli"
)

// NewCommand returns `sluice bench`, the load tester for any WebSocket
// broadcast server. Its scenarios are subcommands.
func NewCommand(env []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Load-test a WebSocket broadcast server, sluice or another",
		Args:  cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cli.Usagef("missing command: use fanout, idle, storm, hooks, recover, reconnect, drain, upgrade, reload, churn or floor; see '%s --help'", cmd.CommandPath())
		},
		Example: `  sluice bench fanout --subscribers 10000 --rate 100 --duration 60s --pid PID
  sluice bench storm --url ws://10.0.0.7:8000 --fail-if 'failed>0,p99>1s'`,
	}
	cli.SetHelp(cmd)
	for _, scenario := range []*cobra.Command{
		newFanoutCommand(), newIdleCommand(), newStormCommand(), newHooksCommand(), newRecoverCommand(), newReconnectCommand(), newDrainCommand(), newUpgradeCommand(), newReloadCommand(), newChurnCommand(), newFloorCommand(),
	} {
		if scenario.Flags().Lookup("url") != nil {
			cli.BindEnv(scenario, env, "url", "cacert", "insecure-skip-verify")
		}
		cli.SetHelp(scenario, cli.Flags("Load", ownFlags(scenario)...), cli.Flags("Server", serverFlags...), cli.Flags("Centrifugo protocol", audienceFlags...),
			cli.Flags("TLS", tlsFlags...), cli.Flags("Tester", testerFlags...), cli.Flags("Report", reportFlags...))
		cmd.AddCommand(scenario)
	}
	cmd.AddCommand(newFloorSenderCommand(), newVisitorsCommand())
	return cmd
}

func newFanoutCommand() *cobra.Command {
	var o bench.FanoutOptions
	cmd := scenario("fanout", "Broadcast to all subscribers: loss, latency, CPU per delivery",
		`  sluice bench fanout --subscribers 10000 --rate 100 --duration 60s --pid PID
  sluice bench fanout --protocol sse --path /ws/news --fail-if 'lost>0,p99>2s'`,
		&o.Options, measured(bench.Fanout, &o, &o.Warmup))
	f := cmd.Flags()
	f.IntVar(&o.Subscribers, "subscribers", 1000, "subscribe with `N` connections")
	f.IntVar(&o.Publishers, "publishers", 1, "publish from `N` connections in turn; the order of each is checked")
	o.AddNodeFlags(f)
	f.Float64Var(&o.Rate, "rate", 10, "publish `N` messages per second in total; with --find-max, the rate the search starts at")
	f.IntVar(&o.Burst, "burst", 0, "publish `N` messages as fast as possible, instead of at --rate")
	f.BoolVar(&o.FindMax, "find-max", false, "search for the highest rate that the server can sustain for --duration: nothing lost, no connection closed, everything delivered within --catch-up after the last message was due")
	f.Var(bench.SizeFlag(&o.Size, "64"), "size", "payload size in `BYTES`, at least 32")
	f.BoolVar(&o.Compression, "compression", false, "ask for compression: permessage-deflate, or gzip with --protocol sse; the server must agree")
	f.StringVar((*string)(&o.Content), "content", string(bench.Dots), "fill payloads with `KIND`: dots; json, as of many APIs; or json-ids, the same with random identifiers, which shrink less")
	_ = cmd.RegisterFlagCompletionFunc("content", cobra.FixedCompletions([]string{"dots", "json", "json-ids"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there, and new
	f.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "measure for this `TIME`")
	f.DurationVar(&o.Warmup, "warmup", bench.DefaultWarmup, "publish for this `TIME` before measuring; 0 skips the warm-up")
	f.DurationVar(&o.CatchUp, "catch-up", bench.DefaultCatchUp, "count missing messages as lost after this `TIME` without any delivery")
	return cmd
}

func newIdleCommand() *cobra.Command {
	var o bench.IdleOptions
	cmd := scenario("idle", "Idle connections: server memory and CPU",
		`  sluice bench idle --connections 10000 --pid PID
  sluice bench idle --pid PID --protocol sse --fail-if 'rss_per_connection>1KB'`,
		&o.Options, measured(bench.Idle, &o, &o.Settle))
	f := cmd.Flags()
	f.IntVar(&o.Connections, "connections", 10_000, "open `N` connections")
	f.DurationVar(&o.Settle, "settle", bench.DefaultSettle, "wait for this `TIME` between connecting and measuring")
	f.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "measure idle CPU for this `TIME`")
	f.Var(bench.SizeFlag(&o.Exchange, ""), "exchange", "before measuring, deliver a message of this many `BYTES` (32 to 16384) to each connection: its own message with --path /echo, otherwise one message that is published to all")
	f.IntVar(&o.Each, "channels-each", 0, "subscribe each connection to `N` channels of its own and measure their memory separately; needs the Centrifugo protocol")
	f.Var(bench.SizeFlag(&o.FreshRSS, ""), "fresh-rss", "VmRSS of the freshly started server in `BYTES`; by default it is read before connecting")
	return cmd
}

func newStormCommand() *cobra.Command {
	var o bench.StormOptions
	cmd := scenario("storm", "Connect many clients at once: rate, latency, CPU per upgrade",
		`  sluice bench storm --connections 10000 --pid PID
  sluice bench storm --outstanding 128 --fail-if 'failed>0'`,
		&o.Options, measured(bench.Storm, &o))
	f := cmd.Flags()
	f.IntVar(&o.Connections, "connections", 10_000, "open `N` connections in total")
	f.IntVar(&o.Outstanding, "outstanding", 512, "keep `N` upgrades in progress at a time")
	f.DurationVar(&o.Hold, "hold", 0, "keep the connections open for this `TIME` afterwards")
	return cmd
}

func newHooksCommand() *cobra.Command {
	var o bench.HooksOptions
	cmd := scenario("hooks", "A backend decides about clients: connects, hangs, failures",
		`  sluice bench hooks --measure connect,breaker --pid PID
  sluice bench hooks --backend 127.0.0.1:4000 --fail-if 'failed>0,elapsed>3s'`,
		&o.Options, measured(bench.Hooks, &o))
	f := cmd.Flags()
	f.StringSliceVar(&o.Measures, "measure", bench.HookMeasures[:1], "measure `WHAT`, in this order: connect (all clients at once), publish (through a publish hook), hang (other clients while the backend hangs), breaker (refusals while it is away)")
	_ = cmd.RegisterFlagCompletionFunc("measure", cobra.FixedCompletions(bench.HookMeasures, cobra.ShellCompDirectiveNoFileComp)) // the flag is there, and new
	f.StringVar(&o.Backend, "backend", "127.0.0.1:3000", "be the backend at this `ADDRESS`, which the hooks of the server name")
	f.DurationVar(&o.Takes, "takes", 20*time.Millisecond, "let the backend take this `TIME` for a call, of connect and publish")
	f.IntVar(&o.Connections, "connections", 5000, "connect: let `N` clients connect at once")
	f.IntVar(&o.Publishes, "publishes", 500, "publish: publish `N` messages, one after the other")
	f.IntVar(&o.Refusals, "refusals", 2000, "breaker: measure `N` refusals, after a quarter as many that are not")
	f.Float64Var(&o.Rate, "rate", 1000, "hang: let `N` clients per second connect")
	f.DurationVar(&o.Hang, "hang", 30*time.Second, "hang: let the backend hang for this `TIME`, after as much time without")
	f.IntVar(&o.Subscribers, "subscribers", 1000, "hang: send messages to `N` other clients, which connect before")
	f.Float64Var(&o.MessageRate, "message-rate", 20, "hang: publish `N` messages per second to them")
	f.StringVar(&o.PublishURL, "publish-url", "", "hang: publish them by POST to this `URL` instead of over WebSocket")
	return cmd
}

func newRecoverCommand() *cobra.Command {
	var o bench.RecoverOptions
	cmd := scenario("recover", "Clients rejoin and recover messages: losses, repeats, latency",
		`  sluice bench recover --pid PID --fail-if 'lost>0,repeats>0,wrong>0,gaps>0'
  sluice bench recover --joins 1000 --rate 100 --behind 50`,
		&o.Options, measured(bench.Recover, &o))
	o.Protocol = bench.JSON // raw has no positions to recover from
	f := cmd.Flags()
	f.Lookup("protocol").DefValue = string(bench.JSON)
	f.IntVar(&o.Joins, "joins", 100_000, "make `N` joins in total, each from a position in the past")
	f.IntVar(&o.Concurrency, "concurrency", 64, "run `N` clients at a time")
	f.IntVar(&o.Behind, "behind", 200, "let each client miss up to `N` messages; the server must keep many more than that (sluice serve --history)")
	f.IntVar(&o.Live, "live", 20, "stay for `N` new messages after recovering")
	f.Float64Var(&o.Rate, "rate", 2000, "publish `N` messages per second")
	f.StringVar(&o.PublishURL, "publish-url", "", "publish by POST to this `URL` instead of over WebSocket")
	f.Var(bench.SizeFlag(&o.Size, "64"), "size", "payload size in `BYTES`, at least 32")
	return cmd
}

func newReconnectCommand() *cobra.Command {
	var o bench.ReconnectOptions
	cmd := scenario("reconnect", "All clients reconnect at once and recover what they missed",
		`  sluice bench reconnect --pid PID --fail-if 'lost>0,repeated>0'
  sluice bench reconnect --connections 1000 --missed 100`,
		&o.Options, measured(bench.Reconnect, &o, &o.Settle))
	o.Protocol = bench.Centrifugo // its clients reconnect with a position
	f := cmd.Flags()
	f.Lookup("protocol").DefValue = string(bench.Centrifugo)
	f.IntVar(&o.Connections, "connections", 10_000, "connect `N` clients")
	f.IntVar(&o.Outstanding, "outstanding", 512, "reconnect `N` clients at a time")
	f.IntVar(&o.Missed, "missed", 20, "publish `N` messages while the clients are away; the channel's history must be large enough for all of them")
	f.StringVar(&o.PublishURL, "publish-url", "", "publish by POST to this `URL` instead of over WebSocket")
	f.Var(bench.SizeFlag(&o.Size, "64"), "size", "payload size in `BYTES`, at least 40")
	f.DurationVar(&o.Settle, "settle", bench.DefaultAway, "wait for this `TIME` after disconnecting and again after publishing; 0 for none")
	return cmd
}

func newDrainCommand() *cobra.Command {
	var o bench.DrainOptions
	cmd := scenario("drain", "A node stops: pace of its closes, and clients on other nodes",
		`  sluice bench drain --pid PID --node ws://127.0.0.1:8001
  sluice bench drain --pid PID --node URL --fail-if 'closes_ratio>1.5,lost>0'`,
		&o.Options, measured(bench.Drain, &o, &o.Baseline))
	cmd.Long = `Connects clients of the Centrifugo protocol to the node at --url, stops that
node with SIGINT (--pid), and waits until all clients are back on the nodes that
--node names. These must share the channels of the first one, and keep a
history: start all of them with --nats-url. Publishers are on the other nodes,
one for each channel, and go on meanwhile. Latency is measured before, too.

` + benchUnits
	o.Protocol = bench.Centrifugo // its clients reconnect with a position
	f := cmd.Flags()
	f.Lookup("protocol").DefValue = string(bench.Centrifugo)
	f.Lookup("pid").Usage = "stop the server process `PID`, which is the one at --url"
	f.StringSliceVar(&o.Nodes, "node", nil, "`URL` of another node, ws:// or wss:// (repeatable)")
	f.IntVar(&o.Connections, "connections", 10_000, "connect `N` clients")
	f.Float64Var(&o.Rate, "rate", 10, "publish `N` messages per second in total")
	f.Var(bench.SizeFlag(&o.Size, "64"), "size", "payload size in `BYTES`, at least 40")
	f.DurationVar(&o.Baseline, "baseline", bench.DefaultBaseline, "measure latency for this `TIME` before; 0 for not at all")
	f.DurationVar(&o.Within, "within", bench.DefaultWithin, "time limit until all clients are back, in `TIME`")
	return cmd
}

func newUpgradeCommand() *cobra.Command {
	var o bench.UpgradeOptions
	measure := func(ctx context.Context) (*bench.Result, error) { return bench.Upgrade(ctx, o) }
	cmd := scenario("upgrade", "Replace a gateway under load: freeze, loss, longest pause",
		`  sluice bench upgrade --rate 100 --fail-if 'disconnected>0,lost>0,repeated>0'
  sluice bench upgrade --protocols raw,sse,centrifugo -- --data-dir DIR`,
		nil, measure)
	cmd.Use = "upgrade [flags] [-- SERVE-FLAGS]"
	cmd.Long = `Starts a gateway of this program, with the flags of 'sluice serve' behind --,
connects clients, and measures their latency. Then it replaces the gateway by
new processes ('sluice upgrade'), one after the other, over an equally long
time. Two publishers, one over WebSocket and one over HTTP, go on meanwhile,
and some clients send messages to themselves a thousand times a second.

` + benchUnits
	cmd.Args = cobra.ArbitraryArgs
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if at := cmd.ArgsLenAtDash(); at != 0 && len(args) > 0 {
			return cli.NoArguments(cmd, args)
		}
		o.Serve = args
		return nil
	}
	if cli.IsTerminal(os.Stderr) {
		o.Progress = os.Stderr
	}
	f := cmd.Flags()
	f.IntVar(&o.Connections, "connections", 10_000, "connect `N` clients")
	var protocols []string
	f.StringSliceVar(&protocols, "protocols", []string{string(bench.Raw)}, "spread the clients over the protocols in this `LIST`: raw, json, sse, centrifugo, centrifugo-protobuf")
	f.IntVar(&o.Parked, "parked", 0, "connect `N` more clients that publish faster than their channel accepts, so that their publications wait")
	f.BoolVar(&o.Secure, "tls", false, "connect all clients over TLS: they speak the Centrifugo protocol, and come back after each upgrade")
	f.IntVar(&o.History, "history", 0, "keep `N` publications in the channel; none by default")
	f.Var(bench.SizeFlag(&o.Fill, ""), "fill", "before, publish so many `BYTES` into other channels, which keep them as their history")
	f.Float64Var(&o.Rate, "rate", 0, "publish `N` messages per second in total to all clients; none by default")
	f.Var(bench.SizeFlag(&o.Size, "64"), "size", "payload size in `BYTES`, at least 40")
	f.IntVar(&o.Upgrades, "upgrades", 20, "make `N` upgrades in a row")
	f.DurationVar(&o.Every, "every", bench.DefaultEvery, "begin an upgrade each `TIME`")
	f.DurationVar(&o.CatchUp, "catch-up", bench.DefaultUpgradeCatchUp, "count missing messages as lost after this `TIME` without any delivery")
	f.StringVar(&o.Program, "program", "", "run this `PROGRAM` as the gateway instead of this one")
	f.IntVar(&o.Loops, "loops", 0, "receive in `N` loops; 0: one per core")
	f.IntVar(&o.Dialing, "dialing", 64, "keep `N` connection attempts in progress at a time")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, p := range protocols {
			o.Protocols = append(o.Protocols, bench.Protocol(p))
		}
		return run(cmd, args)
	}
	return cmd
}

func newReloadCommand() *cobra.Command {
	var o bench.ReloadOptions
	measure := func(ctx context.Context) (*bench.Result, error) { return bench.Reload(ctx, o) }
	cmd := scenario("reload", "Reload a gateway's configuration under load: time, loss, pause",
		`  sluice bench reload --rate 20 --fail-if 'disconnected>0,lost>0,took_max>2s'
  sluice bench reload --connections 19000 --subscriptions 10 --reloads 100`,
		nil, measure)
	cmd.Use = "reload [flags] [-- SERVE-FLAGS]"
	cmd.Long = `Starts a gateway of this program, with the flags of 'sluice serve' behind --,
connects clients of the Centrifugo protocol, and measures their latency. Then
the gateway reloads its configuration ('sluice reload') again and again, over an
equally long time. The options of all namespaces and a limit change each time.
Two publishers, one over WebSocket and one over HTTP, go on meanwhile, and some
clients send messages to themselves a thousand times a second.

` + benchUnits
	cmd.Args = cobra.ArbitraryArgs
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if at := cmd.ArgsLenAtDash(); at != 0 && len(args) > 0 {
			return cli.NoArguments(cmd, args)
		}
		o.Serve = args
		return nil
	}
	if cli.IsTerminal(os.Stderr) {
		o.Progress = os.Stderr
	}
	f := cmd.Flags()
	f.IntVar(&o.Connections, "connections", 10_000, "connect `N` clients")
	f.IntVar(&o.Each, "subscriptions", 10, "subscribe each client to `N` channels")
	f.Float64Var(&o.Rate, "rate", 0, "publish `N` messages per second in total to all clients; none by default")
	f.Var(bench.SizeFlag(&o.Size, "64"), "size", "payload size in `BYTES`, at least 40")
	f.IntVar(&o.Reloads, "reloads", 20, "make `N` reloads in a row")
	f.DurationVar(&o.Every, "every", bench.DefaultEvery, "begin a reload each `TIME`")
	f.DurationVar(&o.CatchUp, "catch-up", bench.DefaultUpgradeCatchUp, "count missing messages as lost after this `TIME` without any delivery")
	f.StringVar(&o.Program, "program", "", "run this `PROGRAM` as the gateway instead of this one")
	f.IntVar(&o.Loops, "loops", 0, "receive in `N` loops; 0: one per core")
	f.IntVar(&o.Dialing, "dialing", 64, "keep `N` connection attempts in progress at a time")
	return cmd
}

func newChurnCommand() *cobra.Command {
	var o bench.ChurnOptions
	measure := func(ctx context.Context) (*bench.Result, error) {
		if o.Warmup == 0 {
			o.Warmup = -1 // as measured does
		}
		return bench.Churn(ctx, o)
	}
	cmd := scenario("churn", "Open and close connections; check for failures and server leaks",
		`  sluice bench churn --pid PID --metrics http://127.0.0.1:9000/metrics
  sluice bench churn --url wss://127.0.0.1:8443 --fail-if 'failed>0'`,
		&o.Options, measure)
	cmd.Long = `Each cycle connects, sends a message, receives it back and closes. Half of the
cycles end with a closing handshake, half with a reset. The server's file
descriptors, goroutines, epoll entries and memory are counted before and after.
The verdict is PASS if no cycle failed, nothing was leaked and memory grew by at
most 5 %. Otherwise it is FAIL, with exit code 1. Without --pid or --metrics,
leaks cannot be checked, and the verdict is ok if no cycle failed.

` + benchUnits
	f := cmd.Flags()
	path := f.Lookup("path")
	path.DefValue, path.Usage = "/echo", "request the upgrade at this `PATH`: /echo, or a channel, where each connection also receives the messages of the others"
	o.Path = path.DefValue
	f.IntVar(&o.Cycles, "cycles", 1_000_000, "run `N` cycles in total")
	f.IntVar(&o.Concurrency, "concurrency", 64, "keep `N` connections open at a time")
	f.IntVar(&o.Warmup, "warmup", 10_000, "run `N` cycles before the first count, not measured; 0 for none")
	f.Var(bench.SizeFlag(&o.Size, "64"), "size", "payload size in `BYTES`, at least 32")
	f.StringVar(&o.Metrics, "metrics", "", "read the number of goroutines from the server's Prometheus metrics at this `URL`; needs --pid")
	f.DurationVar(&o.Settle, "settle", bench.DefaultSettle, "wait for up to this `TIME` until the server is at rest")
	return cmd
}

func newFloorCommand() *cobra.Command {
	var o bench.FloorOptions
	cmd := scenario("floor", "The limit of this machine: bare send() calls, without a server",
		`  sluice bench floor --connections 10000
  sluice bench floor --connections 10000 --rate 4 --duration 20s`,
		nil, measured(bench.Floor, &o))
	f := cmd.Flags()
	f.IntVar(&o.Connections, "connections", 10_000, "use `N` sockets, or make `N` upgrades")
	f.IntVar(&o.Burst, "burst", 200, "send `N` rounds, one send() to each socket, as fast as possible")
	f.Float64Var(&o.Rate, "rate", 0, "send `N` rounds per second, instead of as fast as possible")
	f.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "send for this `TIME` with --rate")
	f.Var(bench.SizeFlag(&o.Size, "64"), "size", "payload size in `BYTES`, at least 32")
	f.BoolVar(&o.Upgrade, "upgrade", false, "measure upgrades instead: one accept, read, write and close each")
	f.IntVar(&o.Outstanding, "outstanding", 512, "keep `N` upgrades in progress at a time")
	f.IntVar(&o.Loops, "loops", 0, "receive in `N` loops; 0: one per core")
	return cmd
}

// measured returns what runs a scenario with o. A zero given by the user for one of times becomes
// package bench's "none": there, zero means the default.
func measured[O any](scenario func(context.Context, O) (*bench.Result, error), o *O, times ...*time.Duration) func(context.Context) (*bench.Result, error) {
	return func(ctx context.Context) (*bench.Result, error) {
		for _, d := range times {
			if *d == 0 {
				*d = -1
			}
		}
		return scenario(ctx, *o)
	}
}

// newFloorSenderCommand returns the command of the sending process of `bench floor`.
func newFloorSenderCommand() *cobra.Command {
	return &cobra.Command{
		Use: "floor-sender", Hidden: true, Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.FloorSender(cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// newVisitorsCommand returns the command of the demo page's visitors, which serve starts.
func newVisitorsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "visitors", Hidden: true, Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return visitors.Run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
