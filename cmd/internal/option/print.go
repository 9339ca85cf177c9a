package option

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"sluice/cmd/internal/cli"
)

// SetOption is an option in `sluice config --json`.
type SetOption struct {
	Name     string  `json:"name"`
	Group    string  `json:"group"`
	Value    *string `json:"value"` // null: not set
	Source   string  `json:"source"`
	Place    string  `json:"place,omitempty"` // the flag, the variable, file:line
	Default  string  `json:"default"`
	Variable string  `json:"variable"`
}

// Report returns the options as `sluice config --json` prints them.
func (o *Options) Report() []SetOption {
	var report []SetOption
	for _, opt := range o.List {
		s := SetOption{
			Name: opt.Name, Group: opt.Group, Source: opt.Source.Kind.String(), Place: opt.Source.Place,
			Default: opt.Default, Variable: opt.Env(),
		}
		if opt.Text != "" {
			s.Value = &opt.Text
		}
		report = append(report, s)
	}
	return report
}

// Print writes the settings as a configuration file, with their sources as comments.
// Settings without a value, and those that a file cannot contain, become comments.
func (o *Options) Print(w io.Writer) error {
	keys, values := 0, 0
	for _, opt := range o.List {
		n := len(opt.Name)
		if opt.Text == "" {
			n += len("# ") // it becomes a comment
		}
		keys = max(keys, n)
		if n = len(FileValue(opt.Text)); n <= 24 { // one long value should not push all comments to the right
			values = max(values, n)
		}
	}
	var b strings.Builder
	group := ""
	for i, opt := range o.List {
		if opt.Group != group {
			if group = opt.Group; i > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "# %s\n", group)
		}
		origin := opt.Source.Kind.String()
		switch opt.Source.Kind {
		case FromFile:
			origin = opt.Source.Place
		case FromEnv, FromFlag:
			origin += " " + opt.Source.Place
		}
		line := fmt.Sprintf("%-*s = %-*s", keys, opt.Name, values, FileValue(opt.Text))
		switch {
		case opt.Text == "":
			line = fmt.Sprintf("# %-*s = %-*s", keys-2, opt.Name, values, "")
			origin = "not set"
		case opt.Name == "config":
			line = "# " + strings.TrimRight(line, " ")
		}
		fmt.Fprintf(&b, "%s  # %s\n", line, origin)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// plainValue matches values that need no quotes in a file.
var plainValue = regexp.MustCompile(`^[^"\s#[:cntrl:]]([^[:cntrl:]]*[^\s[:cntrl:]])?$`)

// FileValue formats a value for a configuration file.
func FileValue(text string) string {
	if text == "" || plainValue.MatchString(text) && !comment.MatchString(text) {
		return text
	}
	return strconv.Quote(text)
}

// Groups returns the options as the groups of a help text.
func (o *Options) Groups() []cli.Group {
	var groups []cli.Group
	for _, opt := range o.List {
		if n := len(groups); n == 0 || groups[n-1].Title != opt.Group {
			groups = append(groups, cli.Group{Title: opt.Group})
		}
		last := &groups[len(groups)-1]
		last.Flags = append(last.Flags, opt.Name)
	}
	return groups
}

// Layers explains where the values of options come from.
const Layers = `Every flag can also be set by an environment variable or in the --config file.
A flag overrides the environment, and the environment overrides the file.
Write times as 500ms, 10s or 2m, sizes in bytes or as 64KiB or 1MiB, and lists
with commas.`
