package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	ExitFailed  = 1
	ExitUsage   = 2
	ExitRestart = 3  // a reload would change what only a restart can change
	ExitStuck   = 70 // EX_SOFTWARE of sysexits(3): a loop is stuck
)

// ExitCode is an error that has been reported already: it only sets the exit code.
type ExitCode int

func (c ExitCode) Error() string { return fmt.Sprintf("exit %d", int(c)) }

// UsageError is a fault in the command line, the environment or the configuration file:
// exit code 2. Joined errors are printed on one line each.
type UsageError struct{ error }

func (e UsageError) Unwrap() error { return e.error }

// Usagef returns a UsageError.
func Usagef(format string, args ...any) error {
	return UsageError{fmt.Errorf(format, args...)}
}

// An OptionFault is an error about one option. Its text begins with the flag.
type OptionFault struct {
	Option string
	Err    error
}

func (f OptionFault) Error() string { return f.Err.Error() }
func (f OptionFault) Unwrap() error { return f.Err }

// OptionError returns an error about an option: the format continues the flag.
func OptionError(option, format string, args ...any) error {
	return OptionFault{option, fmt.Errorf("--%s%w", option, fmt.Errorf(format, args...))}
}

// OptionUsage is OptionError for a usage error.
func OptionUsage(option, format string, args ...any) error {
	return UsageError{OptionError(option, format, args...)}
}

// BareError strips the operation and the path from a file error, for messages that
// already name the path.
func BareError(err error) error {
	var path *fs.PathError
	var sys *os.SyscallError
	if errors.As(err, &path) {
		err = path.Err
	}
	if errors.As(err, &sys) {
		err = sys.Err
	}
	return err
}

// BareNetError strips the address from an error, for messages that already name it.
func BareNetError(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	return BareError(err)
}

// Run executes one command line and returns the exit code. When ctx ends, the command
// shuts down in an orderly way.
func Run(ctx context.Context, root *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) (exit int) {
	root.SetArgs(append([]string{}, args...)) // never nil: cobra would take os.Args
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SilenceErrors, root.SilenceUsage = true, true // they are printed here
	root.SetFlagErrorFunc(flagError)
	err := root.ExecuteContext(ctx)
	var code ExitCode
	var usage UsageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		exit = ExitUsage
	default:
		exit = ExitFailed
	}
	for _, line := range Lines(err) {
		fmt.Fprintf(stderr, "sluice: %s\n", line)
	}
	return exit
}

// Lines returns the lines of an error's text: joined errors have one each.
func Lines(err error) []string {
	return strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' })
}
