package migration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// sourceMax is the largest configuration that is read.
const sourceMax = 16 << 20

// NewCommand returns `sluice import`.
func NewCommand(env []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Make sluice's files from another server's configuration",
		Example: `  sluice import centrifugo config.json sluice
  sluice import centrifugo config.json /etc/sluice > report.txt`,
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cli.SetHelp(cmd)
	cmd.AddCommand(newCentrifugo(env))
	return cmd
}

func newCentrifugo(env []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "centrifugo CONFIG DIR",
		Short: "Make sluice's files from a configuration of Centrifugo 6",
		Example: `  sluice import centrifugo config.json sluice
  sluice import centrifugo config.json /etc/sluice > report.txt`,
		Long: `Reads the JSON file CONFIG and writes into the directory DIR: sluice.conf,
namespaces.json, hooks.json if there are hooks, and files with keys. DIR is made
if it does not exist, and nothing in it is overwritten. Only the current user
can read the files.

Prints what happened to each key of CONFIG, and why. Clients are allowed at most
what they were allowed before: where something that restricts clients has no
equivalent, what it restricts is left out too. Variables in the environment that
configure Centrifugo are not read, except those that headers refer to.

The exit code is 0 if 'sluice serve --config DIR/sluice.conf' can start, else 1.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return cli.Usagef("specify the configuration of Centrifugo and a directory for the result, such as config.json /etc/sluice")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(args[0], args[1], env, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	cli.SetHelp(cmd)
	return cmd
}

// run is `sluice import centrifugo`.
func run(path, dir string, env []string, stdout, stderr io.Writer) error {
	data, err := readSource(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, cli.BareError(err))
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	c, err := convert(data, dir, env, time.Now())
	if err != nil {
		var all []error
		for _, line := range cli.Lines(err) {
			all = append(all, fmt.Errorf("%s: %s", path, printable(line)))
		}
		return errors.Join(all...)
	}
	if err := c.write(); err != nil {
		return err
	}
	if err := c.report(stdout); err != nil {
		return err
	}
	conf := filepath.Join(dir, confFile)
	if err := starts(conf); err != nil {
		return fmt.Errorf("the files are in %s, and sluice cannot start with them yet:\n%w", dir, err)
	}
	cli.Notes(stderr)("the files are in %s; next: 'sluice check --config %s'", dir, conf)
	return nil
}

func readSource(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, sourceMax+1))
	if err == nil && len(data) > sourceMax {
		err = fmt.Errorf("it is larger than %d MiB", sourceMax>>20)
	}
	return data, err
}

// starts returns an error if sluice cannot start with a file. It opens no listener.
func starts(conf string) error {
	s := new(serve.Settings)
	opts := option.New(s)
	if err := opts.Resolve([]string{opts.ByName["config"].Env() + "=" + conf}); err != nil {
		return err
	}
	_, err := s.Plan(opts)
	return err
}

// printable returns a text from outside as a terminal can show it.
func printable(s string) string {
	return strings.Map(cli.Printable, strings.ToValidUTF8(s, ""))
}
