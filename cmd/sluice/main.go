// Command sluice is the gateway and its load tester in one binary: it wires
// packages gateway and bench to a command line and knows nothing else.
//
// main is a shell around run, which tests call. An error leaves run once: as a
// line each of "sluice: what: why: how" on stderr and an exit code, 2 when
// sluice was called wrongly, 1 when something failed. What happens after the
// start is logged instead.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run(untilSignal(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// untilSignal gives a context that SIGINT or SIGTERM ends, with the signal as
// its cause. A second signal ends the process at once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		cancel(signalled{<-signals})
		sig := <-signals
		fmt.Fprintf(os.Stderr, "sluice: %v again: stopping without waiting for clients\n", sig)
		os.Exit(exitFailed)
	}()
	return ctx
}

// signalled is the cause of a context that a signal ended.
type signalled struct{ os.Signal }

func (s signalled) Error() string { return s.String() }

// run executes one command line and returns the exit code. The command ends
// early, in its own orderly way, when ctx does.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) (exit int) {
	root := newRootCommand(env)
	root.SetArgs(append([]string{}, args...)) // never nil: cobra would take os.Args
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var code exitCode
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		exit = exitUsage
	default:
		exit = exitFailed
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintf(stderr, "sluice: %s\n", line)
		}
	}
	return exit
}

// exitCode is an error that was told already: it only ends the process.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit %d", int(c)) }

// usageError is a fault of the command line, the environment or the
// configuration file: exit code 2. Joined errors are a line each.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// newRootCommand gives `sluice`, which serves when no subcommand is named.
func newRootCommand(env []string) *cobra.Command {
	cfg := new(settings)
	opts := cfg.options()
	serve := func(cmd *cobra.Command, _ []string) error {
		if err := opts.resolve(env); err != nil {
			return usageError{err}
		}
		return runServe(cmd.Context(), cfg, opts, cmd.ErrOrStderr())
	}
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "An edge gateway that broadcasts over WebSocket",
		Args:          noArguments,
		RunE:          serve,
		Version:       readBuild().Version, // gives --version
		SilenceErrors: true,                // run prints them
		SilenceUsage:  true,
	}
	serveCmd := &cobra.Command{
		Use:   "serve",
		Short: "Hold WebSocket connections and broadcast to them (the default)",
		Args:  noArguments,
		RunE:  serve,
	}
	opts.register(root)
	opts.register(serveCmd)
	root.AddCommand(serveCmd, newBenchCommand(), newVersionCommand())
	root.SetFlagErrorFunc(flagError)
	plainHelp := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		switch cmd {
		case root, serveCmd:
			fmt.Fprint(cmd.OutOrStdout(), serveHelp(cmd, opts))
		default:
			plainHelp(cmd, args)
		}
	})
	return root
}

// noArguments refuses what is neither a flag nor a subcommand.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return usagef("unexpected argument %q: options are given as flags: see '%s --help'", args[0], cmd.CommandPath())
	}
	var names []string
	for _, sub := range cmd.Commands() {
		names = append(names, sub.Name())
	}
	return usagef("unknown command %q: %s", args[0], advice(args[0], "", names, "see 'sluice --help'"))
}

// flagError turns pflag's errors into the one-line form.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	help := fmt.Sprintf("see '%s --help'", cmd.CommandPath())
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		name := unknown.GetSpecifiedName()
		return usagef("unknown flag --%s: %s", name, advice(name, "--", names, help))
	case errors.As(err, &bare):
		return usagef("--%s has no value: give one behind it: %s", bare.GetSpecifiedName(), help)
	case errors.As(err, &invalid):
		cause := invalid.Unwrap()
		if num := (*strconv.NumError)(nil); errors.As(cause, &num) {
			cause = num.Err // without the name of a function
		}
		return usagef("--%s %s: %w: %s", invalid.GetFlag().Name, invalid.GetValue(), cause, help)
	}
	return usagef("%w: %s", err, help)
}

// advice is the last part of an error about an unknown word: the nearest known
// one, or where to look.
func advice(word, prefix string, known []string, otherwise string) string {
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %s%s?", prefix, near)
	}
	return otherwise
}
