package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice/bench"
)

const benchUnits = `Times are given as 500ms, 10s, 2m; sizes in bytes or as 64KiB, 1MiB.`

// The flags that scenarios share, as their help groups them.
var (
	serverFlags   = []string{"url", "path", "protocol", "hello", "pid"}
	audienceFlags = []string{"channel", "channels", "token", "token-hmac-secret-file"}
	tlsFlags      = []string{"cacert", "insecure-skip-verify", "cert", "key", "resume"}
	testerFlags   = []string{"loops", "dialing", "sources", "timeout"}
	reportFlags   = []string{"json", "fail-if"}
)

// ownFlags gives the other flags of a scenario, in the order of their definition.
func ownFlags(scenario *cobra.Command) (own []string) {
	shared := slices.Concat(serverFlags, audienceFlags, tlsFlags, testerFlags, reportFlags)
	scenario.Flags().SortFlags = false
	scenario.Flags().VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(shared, f.Name) {
			own = append(own, f.Name)
		}
	})
	return own
}

// unused names the shared flags that a scenario has no use for.
var unused = map[string][]string{
	"storm":     {"dialing"}, // --outstanding takes its place
	"recover":   {"dialing", "loops", "hello", "channels"},
	"reconnect": {"hello", "channels"},
	"churn":     {"dialing", "loops", "hello", "channel", "channels", "token", "token-hmac-secret-file"},
}

// protocolWords completes --protocol.
func protocolWords() (words []string) {
	for _, p := range bench.Protocols {
		words = append(words, string(p))
	}
	return words
}

// scenario gives a subcommand with the flags that all have: those of o, which is
// nil where there is no server, and those of the report.
func scenario(name, short, examples string, o *bench.Options, measure func(context.Context) (*bench.Result, error)) *cobra.Command {
	var (
		asJSON bool
		failIf string
	)
	cmd := &cobra.Command{Use: name, Short: short, Example: examples, Args: noArguments, Long: benchUnits}
	f := cmd.Flags()
	if o != nil {
		f.StringVar(&o.URL, "url", "ws://127.0.0.1:8000", "`URL` of the server, ws or wss; ws://127.0.0.1:8000 when nothing is said")
		f.Lookup("url").DefValue = "" // it stands in the text: the line with the variable is full
		f.StringVar(&o.Path, "path", "", "`PATH` to upgrade at, such as /ws/CHANNEL; /ws, or /connection/websocket for Centrifugo's protocol")
		f.StringVar((*string)(&o.Protocol), "protocol", string(bench.Raw), "`WORD`: raw (a message is a payload), json (a record with an offset), sse (an event stream, /sse/CHANNEL for /ws/CHANNEL), centrifugo or centrifugo-protobuf (Centrifugo's client protocol); json and sse are sluice's own")
		_ = cmd.RegisterFlagCompletionFunc("protocol", cobra.FixedCompletions(protocolWords(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there, and new
		f.StringVar(&o.Hello, "hello", "", "`TEXT` that each connection sends first, for servers that want a subscription")
		f.StringVar(&o.Channel, "channel", "lobby", "`NAME` of the channel that clients subscribe to")
		f.IntVar(&o.Channels, "channels", 1, "`N` channels instead, NAME0 and so on, dealt to the clients in turn")
		f.StringVar(&o.Token, "token", "", "`TOKEN` that all clients connect with")
		f.StringVar(&o.TokenSecretFile, "token-hmac-secret-file", "", "instead: a `FILE` with the secret that signs a token for each client by HS256; its user is the client's number")
		f.IntVar(&o.PID, "pid", 0, "`PID` of the server on this machine, for its CPU and memory")
		f.StringVar(&o.CACert, "cacert", "", "a `FILE` of PEM certificates that sign the server's, in place of the system's")
		f.BoolVar(&o.Insecure, "insecure-skip-verify", false, "take any certificate: for tests alone, anybody in between can read and write")
		f.StringVar(&o.Cert, "cert", "", "a `FILE` with a PEM certificate of the client, for servers that ask for one")
		f.StringVar(&o.Key, "key", "", "the `FILE` with its key")
		f.BoolVar(&o.Resume, "resume", false, "resume sessions that the server handed out, on all connections but the first few; else each makes a handshake in full")
		f.IntVar(&o.Sources, "sources", 0, "`N` local addresses from 127.0.0.2 on; 0: 32 for a server on loopback, none for others")
		f.IntVar(&o.Loops, "loops", 0, "`N` receiving loops; 0: one on each core")
		f.IntVar(&o.Dialing, "dialing", 64, "`N` connects under way at a time")
		f.DurationVar(&o.Timeout, "timeout", bench.DefaultTimeout, "`TIME` for a connect with its upgrade")
		o.Progress = terminal(os.Stderr)
		for _, flag := range unused[name] {
			f.MarkHidden(flag) // ignored: the flag exists
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
		failed := report(cmd.OutOrStdout(), result, asJSON, conditions)
		if err != nil && !asJSON && slices.Contains(result.Reasons, err.Error()) {
			if failed == nil {
				return exitCode(exitFailed) // the table has told why, as its verdict
			}
			return failed
		}
		return errors.Join(failed, err)
	}
	return cmd
}

// explicitZero refuses a 0 that was typed where 0 stands for the default.
func explicitZero(f *pflag.FlagSet) error {
	var err error
	f.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "subscribers", "publishers", "connections", "outstanding", "dialing", "joins", "cycles", "concurrency", "exchange", "channels", "channels-each", "missed", "behind", "live", "rate", "burst", "size", "duration", "timeout", "catch-up":
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
