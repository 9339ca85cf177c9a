package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const serveExamples = `Examples:
  sluice                        then npx wscat -c ws://127.0.0.1:8000/ws
  sluice serve --listen :8000 --raw publish --log-level debug
`

// serveHelp is the help of `sluice` and of `sluice serve`: two examples, the
// subcommands, then every option by group with its variable and its default.
// Lines stay within 80 columns.
func serveHelp(cmd *cobra.Command, opts *options) string {
	var b strings.Builder
	usage := cmd.CommandPath() + " [flags]"
	if cmd.HasSubCommands() {
		usage += fmt.Sprintf("\n  %s COMMAND [flags]", cmd.CommandPath())
	}
	fmt.Fprintf(&b, "%s.\n\nUsage:\n  %s\n\n%s", cmd.Short, usage, serveExamples)
	if cmd.HasSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(&b, "  %-12s%s\n", sub.Name(), sub.Short)
			}
		}
	}
	b.WriteString("\nEach flag is also an environment variable and a key of the --config file; a flag\n" +
		"comes before the environment, the environment before the file. Times are given\n" +
		"as 500ms, 10s, 2m; sizes in bytes or as 64KiB, 1MiB; lists with commas.\n")
	group := ""
	for _, opt := range opts.list {
		if opt.group != group {
			group = opt.group
			fmt.Fprintf(&b, "\n%s:\n", group)
		}
		line := fmt.Sprintf("  %-27s  %-24s", "--"+opt.name+" "+opt.meta, opt.env())
		if opt.fallback != "" {
			line += "  default " + opt.fallback
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		for text := range strings.Lines(opt.usage) {
			fmt.Fprintf(&b, "      %s\n", strings.TrimSpace(text))
		}
	}
	return b.String()
}
