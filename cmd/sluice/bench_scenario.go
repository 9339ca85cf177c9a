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

const benchUnits = `Write times as 500ms, 10s or 2m, and sizes in bytes or as 64KiB or 1MiB.`

// The flags that scenarios share, as their help groups them.
var (
	serverFlags   = []string{"url", "path", "protocol", "hello", "pid"}
	audienceFlags = []string{"channel", "channels", "token", "token-hmac-secret-file"}
	tlsFlags      = []string{"cacert", "insecure-skip-verify", "cert", "key", "resume"}
	testerFlags   = []string{"loops", "dialing", "sources", "timeout"}
	reportFlags   = []string{"json", "fail-if"}
)

// ownFlags returns the other flags of a scenario, in the order of their definition.
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

// unused names the shared flags that a scenario does not use.
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

// scenario returns a subcommand with the flags that all scenarios have: those of o, which
// is nil where there is no server, and those of the report.
func scenario(name, short, examples string, o *bench.Options, measure func(context.Context) (*bench.Result, error)) *cobra.Command {
	var (
		asJSON bool
		failIf string
	)
	cmd := &cobra.Command{Use: name, Short: short, Example: examples, Args: noArguments, Long: benchUnits}
	f := cmd.Flags()
	if o != nil {
		f.StringVar(&o.URL, "url", "ws://127.0.0.1:8000", "connect to the server at this `URL`, ws:// or wss://; ws://127.0.0.1:8000 by default")
		f.Lookup("url").DefValue = "" // it is in the text: the line with the variable is full
		f.StringVar(&o.Path, "path", "", "request the upgrade at this `PATH`, for example /ws/CHANNEL; by default /ws, or /connection/websocket for the Centrifugo protocol")
		f.StringVar((*string)(&o.Protocol), "protocol", string(bench.Raw), "subscribe with this `PROTOCOL`: raw (a WebSocket message is a payload), json (sluice's records with offsets), sse (sluice's SSE streams; --path /ws/CHANNEL selects /sse/CHANNEL), centrifugo or centrifugo-protobuf (the Centrifugo protocol)")
		_ = cmd.RegisterFlagCompletionFunc("protocol", cobra.FixedCompletions(protocolWords(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there, and new
		f.StringVar(&o.Hello, "hello", "", "send this `TEXT` first on every connection, for servers that expect a subscribe message")
		f.StringVar(&o.Channel, "channel", "lobby", "subscribe clients to the channel `NAME`")
		f.IntVar(&o.Channels, "channels", 1, "use `N` channels instead, NAME0, NAME1 and so on; clients are spread over them evenly")
		f.StringVar(&o.Token, "token", "", "connect all clients with this `TOKEN`")
		f.StringVar(&o.TokenSecretFile, "token-hmac-secret-file", "", "sign a token for each client (HS256) with the secret in this `FILE`; the user is the number of the client")
		f.IntVar(&o.PID, "pid", 0, "measure the CPU and memory of the server process `PID` on this machine")
		f.StringVar(&o.CACert, "cacert", "", "trust the PEM certificates in this `FILE` instead of the system's")
		f.BoolVar(&o.Insecure, "insecure-skip-verify", false, "do not verify the server's certificate; for testing only, as it allows man-in-the-middle attacks")
		f.StringVar(&o.Cert, "cert", "", "PEM `FILE` with the client certificate, for servers that require one")
		f.StringVar(&o.Key, "key", "", "PEM `FILE` with the key of --cert")
		f.BoolVar(&o.Resume, "resume", false, "resume TLS sessions on all but the first few connections; by default every connection makes a full handshake")
		f.IntVar(&o.Sources, "sources", 0, "connect from `N` loopback addresses, 127.0.0.2 and up; 0 means 32 if the server is on loopback, and none otherwise")
		f.IntVar(&o.Loops, "loops", 0, "receive in `N` loops; 0: one per core")
		f.IntVar(&o.Dialing, "dialing", 64, "keep `N` connection attempts in progress at a time")
		f.DurationVar(&o.Timeout, "timeout", bench.DefaultTimeout, "give up on a connection that is not upgraded within this `TIME`")
		o.Progress = terminal(os.Stderr)
		for _, flag := range unused[name] {
			f.MarkHidden(flag) // ignored: the flag exists
		}
	}
	f.BoolVar(&asJSON, "json", false, "print JSON ("+bench.Schema+") instead of a table")
	f.StringVar(&failIf, "fail-if", "", "exit with 1 if any of these `CONDITIONS` holds, for example 'lost>0,p99>50ms', or if the run is INVALID; an unknown name lists all names")
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
				return exitCode(exitFailed) // the table says why, with its verdict
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
				err = usagef("--%s 0: must be greater than 0; omit it for the default", f.Name)
			}
		}
	})
	return err
}

// report prints a result and returns an error for each condition that it fails.
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
		failed = append(failed, errors.New("--fail-if cannot be checked: the run is INVALID"))
	}
	for _, sentence := range conditions.Check(r) {
		failed = append(failed, fmt.Errorf("--fail-if %s", sentence))
	}
	return errors.Join(failed...)
}

// flagValues returns the values of all flags, those of defaults as well.
func flagValues(f *pflag.FlagSet) map[string]string {
	values := map[string]string{}
	f.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			values[f.Name] = f.Value.String()
		}
	})
	return values
}

// terminal returns f if it is a terminal, else nil: a progress line in a file is of
// no use.
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
