package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every help text has the same layout: what the command does, two examples, how it
// is called, then its flags by group, each with its environment variable and its
// default. Lines stay within 80 columns; what is hidden stays hidden.
//
// `sluice` alone serves, so it has all flags of serve. Its help shows only those that
// are needed first: sixty flags would push the commands off the screen.

const helpColumns = 80

// flagGroup is a heading in a help text and the flags below it.
type flagGroup struct {
	title string
	flags []string
}

// setHelp sets the help of cmd. The sentence comes from cmd.Short, the examples from
// cmd.Example (lines indented by two spaces) and a paragraph, wrapped by its author,
// from cmd.Long. Flags that are in no group come last, except for sluice itself, where
// they are left out. A flag's usage text is wrapped here; a word in back quotes in it
// is the name of the flag's value.
func setHelp(cmd *cobra.Command, groups ...flagGroup) {
	nameValues(cmd)
	otherwise := cmd.HelpFunc()
	cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
		if c != cmd { // commands inherit this function from their parent
			otherwise(c, args)
			return
		}
		fmt.Fprint(cmd.OutOrStdout(), helpText(cmd, groups))
	})
}

const (
	envAnnotation  = "sluice_env"   // holds the environment variable of a flag
	metaAnnotation = "sluice_value" // holds the name of a flag's value
)

// nameValues takes the back quotes out of the usage texts of cmd's flags: shells show
// these texts as they are. The names of the values become annotations.
func nameValues(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		meta, _ := pflag.UnquoteUsage(f)
		if strings.Contains(f.Usage, "`") {
			f.Usage = strings.ReplaceAll(f.Usage, "`", "")
			_ = cmd.Flags().SetAnnotation(f.Name, metaAnnotation, []string{meta}) // fails only for a flag that does not exist
		}
	})
}

// flagMeta returns the name of a flag's value, such as FILE, or "".
func flagMeta(f *pflag.Flag) string {
	if names := f.Annotations[metaAnnotation]; len(names) > 0 {
		return names[0]
	}
	meta, _ := pflag.UnquoteUsage(f)
	return meta
}

// bindEnv lets flags of cmd be set by environment variables too: --url by SLUICE_URL.
// The command line comes first, an empty variable counts as unset, and a value that
// the flag rejects is a usage error. bindEnv occupies cmd.PreRunE.
func bindEnv(cmd *cobra.Command, environ []string, names ...string) {
	for _, name := range names {
		// Fails only for a flag that does not exist.
		if err := cmd.Flags().SetAnnotation(name, envAnnotation, []string{envName(name)}); err != nil {
			panic(err)
		}
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		for _, name := range names {
			for _, entry := range environ {
				value, ours := strings.CutPrefix(entry, envName(name)+"=")
				if !ours || value == "" || cmd.Flags().Changed(name) {
					continue
				}
				if err := cmd.Flags().Lookup(name).Value.Set(value); err != nil {
					return usagef("%s: %w; see '%s --help'", entry, err, cmd.CommandPath())
				}
				cmd.Flags().Lookup(name).Changed = true
			}
		}
		return nil
	}
}

// flagEnv returns a flag's environment variable, or "".
func flagEnv(f *pflag.Flag) string {
	if v, ok := f.Value.(flagValue); ok {
		return v.opt.env()
	}
	if names := f.Annotations[envAnnotation]; len(names) > 0 {
		return names[0]
	}
	return ""
}

func helpText(cmd *cobra.Command, groups []flagGroup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\nExamples:\n%s\n\nUsage:\n", cmd.Short, strings.TrimRight(cmd.Example, "\n"))
	if cmd.Runnable() && (!cmd.HasParent() || !cmd.HasAvailableSubCommands()) { // otherwise it only reports that a name is missing
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		word := "COMMAND"
		if _, own, ok := strings.Cut(cmd.Use, " "); ok { // the common name of its subcommands
			word = own
		}
		fmt.Fprintf(&b, "  %s %s [flags]\n", cmd.CommandPath(), word)
	}
	if cmd.Long != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(cmd.Long))
	}
	helpCommands(&b, cmd)
	helpFlags(&b, cmd, groups)
	if isRoot(cmd) {
		flags := 0
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if _, ours := f.Value.(flagValue); ours {
				flags++
			}
		})
		fmt.Fprintf(&b, "\nAll %d flags: sluice serve --help. A command's help: sluice COMMAND --help.\n", flags)
	}
	return b.String()
}

// isRoot reports whether cmd is sluice itself.
func isRoot(cmd *cobra.Command) bool { return !cmd.HasParent() && cmd.HasSubCommands() }

// helpCommands lists the subcommands by group; those without one come last.
func helpCommands(b *strings.Builder, cmd *cobra.Command) {
	groups := append(cmd.Groups(), &cobra.Group{Title: "Other commands:"})
	if len(groups) == 1 {
		groups[0].Title = "Commands:"
	}
	for _, group := range groups {
		title := "\n" + group.Title + "\n"
		for _, sub := range cmd.Commands() {
			if sub.GroupID == group.ID && (sub.IsAvailableCommand() || sub.Name() == "help") {
				fmt.Fprintf(b, "%s  %-12s%s\n", title, sub.Name(), sub.Short)
				title = ""
			}
		}
	}
}

// helpFlags lists the flags by group.
func helpFlags(b *strings.Builder, cmd *cobra.Command, groups []flagGroup) {
	cmd.InitDefaultHelpFlag()
	grouped := map[string]bool{"help": true, "version": true} // their names say what they do
	variables := false
	for _, g := range groups {
		for _, name := range g.flags {
			grouped[name] = true
		}
	}
	rest := flagGroup{title: "Other flags"}
	if len(groups) == 0 {
		rest.title = "Flags"
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		variables = variables || flagEnv(f) != ""
		if !grouped[f.Name] && !isRoot(cmd) {
			rest.flags = append(rest.flags, f.Name)
		}
	})
	for _, g := range append(groups[:len(groups):len(groups)], rest) {
		title := fmt.Sprintf("\n%s:\n", g.title)
		for _, name := range g.flags {
			if f := cmd.Flags().Lookup(name); f != nil && !f.Hidden {
				b.WriteString(title + helpFlag(f, variables))
				title = ""
			}
		}
	}
}

// helpFlag returns the line of a flag and, below it, what the flag does. variables
// reports whether there is a column for the environment variable.
func helpFlag(f *pflag.Flag, variables bool) string {
	meta := flagMeta(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	line := fmt.Sprintf("  %-27s", strings.TrimSpace(name+" "+meta))
	if variables {
		line += fmt.Sprintf("  %-24s", flagEnv(f))
	}
	switch f.DefValue {
	case "", "false", "[]":
	default:
		value, left := "default "+f.DefValue, strings.TrimRight(line, " ")
		// A long default begins further to the left.
		column := min(len(line)+2, max(len(left)+2, helpColumns-utf8.RuneCountInString(value)))
		line = fmt.Sprintf("%-*s%s", column, left, value)
	}
	return strings.TrimRight(line, " ") + "\n" + wrap(f.Usage, "      ")
}

// wrap breaks a text into indented lines of at most helpColumns columns.
func wrap(text, indent string) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
			b.WriteString(indent)
			column = len(indent)
		case column+1+n > helpColumns:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	if column > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

// groups returns the options as the groups of a help text.
func (o *options) groups() []flagGroup {
	var groups []flagGroup
	for _, opt := range o.list {
		if n := len(groups); n == 0 || groups[n-1].title != opt.group {
			groups = append(groups, flagGroup{title: opt.group})
		}
		last := &groups[len(groups)-1]
		last.flags = append(last.flags, opt.name)
	}
	return groups
}

// layersText explains where the values of options come from.
const layersText = `Every flag can also be set by an environment variable or in the --config file.
A flag overrides the environment, and the environment overrides the file.
Write times as 500ms, 10s or 2m, sizes in bytes or as 64KiB or 1MiB, and lists
with commas.`
