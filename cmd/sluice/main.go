// Command sluice is the gateway and its load tester in one binary: it wires
// packages gateway and bench to a command line and knows nothing else.
//
// main is a shell around the packages of cmd/internal. An error leaves cli.Run once: as
// lines of "sluice: what, why; how to fix it" on stderr and an exit code, 2 for a usage
// error, 70 for a stuck loop, 1 for every other failure. After the start, errors are
// logged instead.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sluice/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Run(untilSignal(), newRootCommand(os.Environ()), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// untilSignal returns a context that SIGINT or SIGTERM cancels, with the signal as its
// cause. A second signal ends the process immediately.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		cancel(errors.New((<-signals).String()))
		sig := <-signals
		fmt.Fprintf(os.Stderr, "sluice: second signal (%v): exiting immediately\n", sig)
		os.Exit(cli.ExitFailed)
	}()
	return ctx
}
