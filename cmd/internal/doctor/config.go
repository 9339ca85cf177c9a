package doctor

import (
	"github.com/spf13/cobra"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
)

// NewConfig returns `sluice config`, which prints the effective settings and their
// sources. Its output is a configuration file with the same settings.
func NewConfig(opts *option.Options, env []string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print every setting of the gateway and where it comes from",
		Example: `  sluice config
  sluice config --listen :8000 --raw publish > sluice.conf`,
		Long: `The output is a configuration file that reproduces these settings.

` + option.Layers,
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.Resolve(env); err != nil {
				return cli.Usagef("%w", err)
			}
			if asJSON {
				return cli.PrintJSON(cmd.OutOrStdout(), opts.Report())
			}
			return opts.Print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of a configuration file")
	opts.Register(cmd)
	cli.SetHelp(cmd, append([]cli.Group{cli.Flags("Output", "json")}, opts.Groups()...)...)
	return cmd
}
