package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every help text has the same layout: what the command does, two examples, how it
// is called, then its flags by group, each with its environment variable and its
// default. Lines stay within 80 columns; what is hidden stays hidden.
//
// `sluice` alone serves, so it has all flags of serve. Its help shows only those that
// are needed first: sixty flags would push the commands off the screen.

// Group is a heading in a help text and the flags below it.
type Group struct {
	Title string
	Flags []string
}

// Flags returns a group of a help text.
func Flags(title string, names ...string) Group { return Group{title, names} }

// SetHelp sets the help of cmd. The sentence comes from cmd.Short, the examples from
// cmd.Example (lines indented by two spaces) and a paragraph, wrapped by its author,
// from cmd.Long. Flags that are in no group come last, except for sluice itself, where
// they are left out. A word in back quotes in a flag's usage text is the name of its value.
func SetHelp(cmd *cobra.Command, groups ...Group) {
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

// BindEnv lets flags of cmd be set by environment variables too: --url by SLUICE_URL.
// The command line comes first, an empty variable counts as unset, and a value that
// the flag rejects is a usage error. BindEnv occupies cmd.PreRunE.
func BindEnv(cmd *cobra.Command, environ []string, names ...string) {
	for _, name := range names {
		SetEnv(cmd.Flags().Lookup(name), EnvName(name))
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		for _, name := range names {
			f, value := cmd.Flags().Lookup(name), LookUpEnv(environ, EnvName(name))
			if value == "" || f.Changed {
				continue
			}
			if err := f.Value.Set(value); err != nil {
				return Usagef("%s=%s: %w; see '%s --help'", EnvName(name), value, err, cmd.CommandPath())
			}
			f.Changed = true
		}
		return nil
	}
}

// SetEnv names the environment variables that set a flag too. Help shows the first.
func SetEnv(f *pflag.Flag, names ...string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[envAnnotation] = append(f.Annotations[envAnnotation], names...)
}

// Variables returns the environment variables of cmd's flags and of its subcommands'.
func Variables(cmd *cobra.Command) (names []string) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Annotations[envAnnotation]...) })
	for _, sub := range cmd.Commands() {
		names = append(names, Variables(sub)...)
	}
	return names
}

// FlagEnv returns a flag's environment variable, or "".
func FlagEnv(f *pflag.Flag) string {
	if names := f.Annotations[envAnnotation]; len(names) > 0 {
		return names[0]
	}
	return ""
}

func helpText(cmd *cobra.Command, groups []Group) string {
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
		settings := 0
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if FlagEnv(f) != "" {
				settings++
			}
		})
		fmt.Fprintf(&b, "\nAll %d flags: sluice serve --help. A command's help: sluice COMMAND --help.\n", settings)
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

// helpFlags lists the flags by group. sluice itself lists those of its groups alone, with
// the beginning of what each does.
func helpFlags(b *strings.Builder, cmd *cobra.Command, groups []Group) {
	cmd.InitDefaultHelpFlag()
	grouped := map[string]bool{"help": true, "version": true} // their names say what they do
	for _, g := range groups {
		for _, name := range g.Flags {
			grouped[name] = true
		}
	}
	rest := Group{Title: "Other flags"}
	if len(groups) == 0 {
		rest.Title = "Flags"
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !grouped[f.Name] && !isRoot(cmd) {
			rest.Flags = append(rest.Flags, f.Name)
		}
	})
	for _, g := range append(groups[:len(groups):len(groups)], rest) {
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.SortFlags = false
		text := ""
		for _, name := range g.Flags {
			if known := cmd.Flags().Lookup(name); known != nil {
				f := *known
				text += fmt.Sprintf("  --%-29s%s\n", name+" "+flagMeta(&f), f.Usage[:strings.IndexAny(f.Usage+".", ".,:;")])
				if meta := f.Annotations[metaAnnotation]; meta != nil {
					f.Usage = strings.Replace(f.Usage, meta[0], "`"+meta[0]+"`", 1)
				}
				if env := FlagEnv(&f); env != "" {
					f.Usage += " [$" + env + "]"
				}
				flags.AddFlag(&f)
			}
		}
		if !isRoot(cmd) {
			text = flags.FlagUsagesWrapped(80)
		}
		if text != "" {
			fmt.Fprintf(b, "\n%s:\n%s", g.Title, text)
		}
	}
}
