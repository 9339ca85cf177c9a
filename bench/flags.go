package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags adds a flag for each of the options. The name of a value is in back quotes.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.URL, "url", "ws://127.0.0.1:8000", "connect to the server at this `URL`, ws:// or wss://")
	f.StringVar(&o.Path, "path", "", "request the upgrade at this `PATH`, for example /ws/CHANNEL; by default /ws, or /connection/websocket for the Centrifugo protocol")
	f.StringVar((*string)(&o.Protocol), "protocol", string(Raw), "subscribe with this `PROTOCOL`: raw (a WebSocket message is a payload), json (sluice's records with offsets), sse (sluice's SSE streams; --path /ws/CHANNEL selects /sse/CHANNEL), centrifugo or centrifugo-protobuf (the Centrifugo protocol)")
	f.StringVar(&o.Hello, "hello", "", "send this `TEXT` first on every connection, for servers that expect a subscribe message")
	f.StringVar(&o.Channel, "channel", "lobby", "subscribe clients to the channel `NAME`")
	f.IntVar(&o.Channels, "channels", 1, "use `N` channels, NAME0, NAME1 and so on, instead of one; clients are spread over them evenly")
	f.StringVar(&o.Token, "token", "", "connect all clients with this `TOKEN`")
	f.StringVar(&o.TokenSecretFile, "token-hmac-secret-file", "", "sign a token for each client (HS256) with the secret in this `FILE`; the user is the number of the client")
	f.IntVar(&o.PID, "pid", 0, "measure the CPU and memory of the server process `PID` on this machine")
	o.TLS.AddFlags(f)
	f.BoolVar(&o.Resume, "resume", false, "resume TLS sessions on all but the first few connections; by default every connection makes a full handshake")
	f.IntVar(&o.Sources, "sources", 0, "connect from `N` loopback addresses, 127.0.0.2 and up; 0 means 32 if the server is on loopback, and none otherwise")
	f.IntVar(&o.Loops, "loops", 0, "receive in `N` loops; 0: one per core")
	f.IntVar(&o.Dialing, "dialing", 64, "keep `N` connection attempts in progress at a time")
	f.DurationVar(&o.Timeout, "timeout", DefaultTimeout, "give up on a connection that is not upgraded within this `TIME`")
}

// AddNodeFlags makes those flags repeatable that name a server: once for each node. It comes after
// AddFlags.
func (o *FanoutOptions) AddNodeFlags(f *pflag.FlagSet) {
	again := func(name, usage string, put func([]string) error) {
		flag := f.Lookup(name)
		flag.Value, flag.Usage = &repeatedFlag{text: flag.DefValue, put: put}, usage
	}
	again("url", "connect to the server at this `URL`, ws:// or wss://; repeat it for nodes that share their channels: subscribers and publishers are spread over them", func(all []string) error {
		o.URL, o.Nodes = all[0], all[1:]
		return nil
	})
	again("pid", "measure the CPU and memory of the server process `PID` on this machine; repeat it for several nodes, whose sum is measured", func(all []string) error {
		var pids []int
		for _, text := range all {
			pid, err := strconv.Atoi(text)
			if err != nil || pid < 1 {
				return fmt.Errorf("%q is not a process ID", text)
			}
			pids = append(pids, pid)
		}
		o.PID, o.PIDs = pids[0], pids[1:]
		return nil
	})
	f.Var(&repeatedFlag{put: func(all []string) error { o.PublishURLs = all; return nil }}, "publish-url",
		"publish by POST to this `URL` instead of over WebSocket, for example http://127.0.0.1:9000/publish/lobby; with --channels, {channel} in it is replaced by the channel name. With several --url: one for each, in the same order, or only one")
}

// repeatedFlag is the value of a flag that can be given several times.
type repeatedFlag struct {
	all  []string
	text string
	put  func(all []string) error
}

func (r *repeatedFlag) String() string { return r.text }
func (r *repeatedFlag) Type() string   { return "TEXT" }

func (r *repeatedFlag) Set(text string) error {
	all := append(slices.Clone(r.all), text)
	err := r.put(all)
	if err == nil {
		r.all, r.text = all, strings.Join(all, ",")
	}
	return err
}

// Reporter runs a scenario and reports the result as its flags say.
type Reporter struct {
	json   bool
	failIf string
}

// AddFlags adds --json and --fail-if.
func (r *Reporter) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&r.json, "json", false, "print JSON ("+Schema+") instead of a table")
	f.StringVar(&r.failIf, "fail-if", "", "exit with 1 if any of these `CONDITIONS` holds, for example 'lost>0,p99>50ms', or if the run is INVALID; an unknown name lists all names")
}

// ErrReported is the error of a run whose table says why it failed.
var ErrReported = errors.New("the run failed, as its report says")

// Run measures a scenario whose flags have been parsed, and writes the report to w. The error says
// why the run failed, is a [UsageError], or is ErrReported.
func (r *Reporter) Run(ctx context.Context, w io.Writer, flags *pflag.FlagSet, scenario string, measure func(context.Context) (*Result, error)) error {
	conditions, err := ParseFailIf(scenario, r.failIf)
	if err != nil {
		return err
	}
	if err := explicitZero(flags); err != nil {
		return err
	}
	result, err := measure(ctx)
	if result == nil {
		return err
	}
	result.Flags = map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			result.Flags[f.Name] = f.Value.String()
		}
	})
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	failed := r.report(w, result, conditions)
	if err != nil && !r.json && slices.Contains(result.Reasons, err.Error()) {
		if failed == nil {
			return ErrReported
		}
		return failed
	}
	return errors.Join(failed, err)
}

// report prints a result and returns an error for each condition that it fails.
func (r *Reporter) report(w io.Writer, result *Result, conditions FailIf) error {
	write := result.WriteTable
	if r.json {
		write = result.WriteJSON
	}
	if err := write(w); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	var failed []error
	if result.Verdict == VerdictInvalid && len(conditions) > 0 {
		failed = append(failed, errors.New("--fail-if cannot be checked: the run is INVALID"))
	}
	for _, sentence := range conditions.Check(result) {
		failed = append(failed, fmt.Errorf("--fail-if %s", sentence))
	}
	return errors.Join(failed...)
}

// explicitZero refuses a 0 that was typed where 0 stands for the default.
func explicitZero(flags *pflag.FlagSet) error {
	var bad Faults
	flags.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "subscribers", "publishers", "connections", "outstanding", "dialing", "joins", "cycles", "concurrency", "exchange", "channels", "channels-each", "missed", "behind", "live", "rate", "burst", "size", "duration", "timeout", "catch-up":
			if v := f.Value.String(); v == "0" || v == "0s" {
				bad.Add("--%s 0: must be greater than 0; omit it for the default", f.Name)
			}
		}
	})
	return bad.err()
}

// SizeFlag returns the value of a flag that sets n to a number of bytes such as 64, 64KiB or 1MiB.
// text shows its default.
func SizeFlag[N int | int64](n *N, text string) pflag.Value { return &sizeFlag[N]{n, text} }

type sizeFlag[N int | int64] struct {
	n    *N
	text string
}

func (s *sizeFlag[N]) String() string { return s.text }
func (s *sizeFlag[N]) Type() string   { return "BYTES" }

func (s *sizeFlag[N]) Set(text string) error {
	n, err := ParseSize(strings.TrimSpace(text))
	if err == nil {
		*s.n, s.text = N(n), text
	}
	return err
}
