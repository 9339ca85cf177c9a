// Command sluice is the gateway and its load tester in one binary: it wires
// packages gateway and bench to a command line and knows nothing else.
//
// main is a shell around run, which tests call. An error leaves run once: as lines of
// "sluice: what, why; how to fix it" on stderr and an exit code, 2 for a usage error, 70
// for a stuck loop, 1 for every other failure. After the start, errors are logged instead.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
	exitStuck  = 70 // EX_SOFTWARE of sysexits(3): a loop is stuck
)

func main() {
	os.Exit(run(untilSignal(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// untilSignal returns a context that SIGINT or SIGTERM cancels, with the signal as its
// cause. A second signal ends the process immediately.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		cancel(signalled{<-signals})
		sig := <-signals
		fmt.Fprintf(os.Stderr, "sluice: second signal (%v): exiting immediately\n", sig)
		os.Exit(exitFailed)
	}()
	return ctx
}

// signalled is the cause of a context that a signal canceled.
type signalled struct{ os.Signal }

func (s signalled) Error() string { return s.String() }

// run executes one command line and returns the exit code. When ctx ends, the command
// shuts down in an orderly way.
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

// exitCode is an error that has been reported already: it only sets the exit code.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit %d", int(c)) }

// usageError is a fault in the command line, the environment or the configuration file:
// exit code 2. Joined errors are printed on one line each.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}
