package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// newConfigCommand returns `sluice config`, which prints the effective settings and their
// sources. Its output is a configuration file with the same settings.
func newConfigCommand(opts *options, env []string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print every setting of the gateway and where it comes from",
		Example: `  sluice config
  sluice config --listen :8000 --raw publish > sluice.conf`,
		Long: `The output is a configuration file that reproduces these settings.

` + layersText,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.resolve(env); err != nil {
				return usageError{err}
			}
			if asJSON {
				out := json.NewEncoder(cmd.OutOrStdout())
				out.SetEscapeHTML(false)
				out.SetIndent("", "  ")
				return out.Encode(opts.report())
			}
			return opts.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of a configuration file")
	opts.register(cmd)
	setHelp(cmd, append([]flagGroup{{"Output", []string{"json"}}}, opts.groups()...)...)
	return cmd
}

// setOption is an option in `sluice config --json`.
type setOption struct {
	Name     string  `json:"name"`
	Group    string  `json:"group"`
	Value    *string `json:"value"` // null: not set
	Source   string  `json:"source"`
	Place    string  `json:"place,omitempty"` // the flag, the variable, file:line
	Default  string  `json:"default"`
	Variable string  `json:"variable"`
}

func (o *options) report() []setOption {
	var report []setOption
	for _, opt := range o.list {
		s := setOption{
			Name: opt.name, Group: opt.group, Source: opt.source.kind.String(), Place: opt.source.place,
			Default: opt.fallback, Variable: opt.env(),
		}
		if opt.text != "" {
			s.Value = &opt.text
		}
		report = append(report, s)
	}
	return report
}

// print writes the settings as a configuration file, with their sources as comments.
// Settings without a value, and those that a file cannot contain, become comments.
func (o *options) print(w io.Writer) error {
	keys, values := 0, 0
	for _, opt := range o.list {
		n := len(opt.name)
		if opt.text == "" {
			n += len("# ") // it becomes a comment
		}
		keys = max(keys, n)
		if n = len(fileValue(opt.text)); n <= 24 { // one long value should not push all comments to the right
			values = max(values, n)
		}
	}
	var b strings.Builder
	group := ""
	for i, opt := range o.list {
		if opt.group != group {
			if group = opt.group; i > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "# %s\n", group)
		}
		origin := opt.source.kind.String()
		switch opt.source.kind {
		case fromFile:
			origin = opt.source.place
		case fromEnv, fromFlag:
			origin += " " + opt.source.place
		}
		line := fmt.Sprintf("%-*s = %-*s", keys, opt.name, values, fileValue(opt.text))
		switch {
		case opt.text == "":
			line = fmt.Sprintf("# %-*s = %-*s", keys-2, opt.name, values, "")
			origin = "not set"
		case opt.name == "config":
			line = "# " + strings.TrimRight(line, " ")
		}
		fmt.Fprintf(&b, "%s  # %s\n", line, origin)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// plainValue matches values that need no quotes in a file.
var plainValue = regexp.MustCompile(`^[^"\s#[:cntrl:]]([^[:cntrl:]]*[^\s[:cntrl:]])?$`)

// fileValue formats a value for a configuration file.
func fileValue(text string) string {
	if text == "" || plainValue.MatchString(text) && !comment.MatchString(text) {
		return text
	}
	return strconv.Quote(text)
}
