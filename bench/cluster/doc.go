// Command cluster measures what nodes cost and what they keep: gateways with a data directory, and
// several gateways around NATS servers. `go run ./bench/cluster --list` lists the figures. Each is
// a subcommand that starts its own gateways and NATS servers on free loopback ports, measures for a
// bounded time, and ends them.
//
// It is separate from bench/chaos, which injects faults and judges ledgers of records: a figure here
// is a number with a bound. Both are programs of package trial. The clients are those of package
// bench: [bench.Fanout] for rates and latencies, and a [bench.Crowd] of clients of the Centrifugo
// protocol where they have to come back.
//
// # Ratios
//
// The speed of a machine that others share changes within minutes. Two things that are compared are
// therefore measured side by side, in rounds that alternate, and the figure is the median of the
// rounds' differences or ratios.
//
// # A new figure
//
// A figure is a function of a [*Run] and a line of the table in figures.go. It starts gateways
// (Run.Gateway) and servers (Run.NATS), and notes what it has measured (Run.Figure, Run.Count). must
// and noError end it at a step that fails, on its own goroutine. The short form of each runs in the
// package's test; there, bounds that depend on the machine's speed are not judged, and those that
// hold always (trial.Bound.Always) are.
//
// The package does not know how a gateway works inside. It reads metrics, and profiles for --profile.
package main
