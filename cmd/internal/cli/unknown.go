package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice/gateway/setting"
)

// NewHelp returns `sluice help`, which reports a mistyped command.
func NewHelp() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command, same as --help",
		Example: `  sluice help serve
  sluice help bench fanout`,
		RunE: func(cmd *cobra.Command, args []string) error {
			topic := cmd.Root()
			for _, name := range args {
				next, rest, err := topic.Find([]string{name})
				if err != nil || next == topic || len(rest) > 0 {
					return UnknownCommand(topic, name, "help ")
				}
				topic = next
			}
			return topic.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []cobra.Completion
			for _, sub := range topic.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	SetHelp(cmd)
	return cmd
}

// NoArguments rejects arguments that are neither a flag nor a subcommand.
func NoArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		if slices.Contains([]string{"on", "off", "true", "false"}, args[0]) {
			word := map[string]string{"true": "on", "false": "off"}[args[0]]
			return Usagef("unexpected argument %q: the value of a switch follows an equals sign, as in %s=%s; see '%s --help'", args[0], switchOf(cmd), cmp.Or(word, args[0]), cmd.CommandPath())
		}
		return Usagef("unexpected argument %q: %s accepts only flags; see '%s --help'", args[0], cmd.Name(), cmd.CommandPath())
	}
	return UnknownCommand(cmd, args[0], "")
}

// switchOf returns the switch that was set on the command line, or a word for one if several were.
func switchOf(cmd *cobra.Command) string {
	var all []string
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.NoOptDefVal != "" {
			all = append(all, "--"+f.Name)
		}
	})
	if len(all) != 1 {
		return "--FLAG"
	}
	return all[0]
}

// UnknownCommand returns the error for a name that is not a subcommand of cmd. before
// is what stood between sluice and the path to cmd: "help " or nothing.
func UnknownCommand(cmd *cobra.Command, name, before string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	root := cmd.Root().Name() + " "
	path := root + before + strings.TrimPrefix(cmd.CommandPath()+" ", root)
	for _, sub := range cmd.Commands() { // fanout is a command of bench
		if deeper, _, err := sub.Find([]string{name}); err == nil && deeper != sub && !deeper.Hidden {
			return Usagef("unknown command %q: did you mean %s%s %s?", name, path, sub.Name(), name)
		}
	}
	prefix := strings.TrimPrefix(path, root)
	if prefix != "" {
		prefix = path
	}
	meant := name
	for _, known := range names { // publish is further from pub than a typo is
		if strings.HasPrefix(name, known) || len(name) > 2 && strings.HasPrefix(known, name) {
			meant = known
		}
	}
	return Usagef("unknown command %q: %s", name, Advice(meant, prefix, names, helpAdvice(cmd)))
}

// flagError rewrites pflag's errors as one line each.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		return unknownFlag(cmd, unknown)
	case errors.As(err, &bare):
		return Usagef("--%s needs a value: %s", bare.GetFlag().Name, flagAdvice(cmd))
	case errors.As(err, &invalid):
		cause := invalid.Unwrap()
		num := (*strconv.NumError)(nil)
		if errors.As(cause, &num) {
			cause = num.Err // without the name of a function
		}
		switch kind := invalid.GetFlag().Value.Type(); {
		case kind == "duration":
			cause = setting.ErrDuration
		case kind == "int" && errors.Is(cause, strconv.ErrSyntax):
			cause = errors.New("not a whole number")
		}
		return Usagef("--%s %s: %w; %s", invalid.GetFlag().Name, invalid.GetValue(), cause, flagAdvice(cmd))
	}
	return Usagef("%w: %s", err, flagAdvice(cmd))
}

// unknownFlag returns the error for a flag that cmd does not have. pflag reads a word
// after a single dash as a row of one-letter flags; more likely a dash is missing.
func unknownFlag(cmd *cobra.Command, err *pflag.NotExistError) error {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	dashes, name := "--", err.GetSpecifiedName()
	if letters := err.GetSpecifiedShortnames(); letters != "" {
		dashes = "-"
		name, _, _ = strings.Cut(letters, "=")
		// -help: -h exists, so pflag reports only the rest.
		if i := slices.IndexFunc(names, func(known string) bool { return len(name) > 1 && known[1:] == name }); i >= 0 {
			name = names[i]
		}
	}
	if len(name) == 1 { // a single letter is close to every short name
		names = nil
	}
	return Usagef("unknown flag %s%s: %s", dashes, name, Advice(name, "--", names, flagAdvice(cmd)))
}

// Advice returns the last part of an error about an unknown word: the nearest known
// word, or where to look.
func Advice(word, prefix string, known []string, otherwise string) string {
	if near := setting.Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %s%s?", prefix, near)
	}
	return otherwise
}

func helpAdvice(cmd *cobra.Command) string {
	return fmt.Sprintf("see '%s --help'", cmd.CommandPath())
}

// flagAdvice is helpAdvice for flags: the help of sluice itself leaves most of them out.
func flagAdvice(cmd *cobra.Command) string {
	if isRoot(cmd) {
		return "see 'sluice serve --help'"
	}
	return helpAdvice(cmd)
}
