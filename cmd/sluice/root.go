package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRootCommand gives `sluice`, which serves when no subcommand is named.
func newRootCommand(env []string) *cobra.Command {
	cfg := new(settings)
	opts := cfg.options()
	root := newServeCommand(cfg, opts, env)
	root.Use = "sluice"
	root.Short = "An edge gateway that broadcasts over WebSocket and event streams"
	root.Example = `  sluice                        then open http://127.0.0.1:8000/
  sluice serve --listen :8000 --raw publish --log-level debug`
	root.Version = readBuild().Version // gives --version
	root.SilenceErrors = true          // run prints them
	root.SilenceUsage = true
	root.SetFlagErrorFunc(flagError)

	gatewayGroup := &cobra.Group{ID: "gateway", Title: "The gateway:"}
	clientGroup := &cobra.Group{ID: "client", Title: "Its clients:"}
	root.AddGroup(gatewayGroup, clientGroup)
	addTo := func(group *cobra.Group, commands ...*cobra.Command) {
		for _, cmd := range commands {
			cmd.GroupID = group.ID
			root.AddCommand(cmd)
		}
	}
	addTo(gatewayGroup, newServeCommand(cfg, opts, env), newCheckCommand(cfg, opts, env),
		newConfigCommand(opts, env), newHealthCommand(cfg, opts, env), newTopCommand(cfg, opts, env))
	addTo(clientGroup, newPubCommand(env), newSubCommand(env), newTokenCommand(), newBenchCommand(env))
	root.AddCommand(newCompletionCommand(), newVersionCommand())
	root.SetHelpCommand(newHelpCommand())
	root.InitDefaultHelpCmd()
	completeNoFiles(root)
	opts.leaveTo(root)
	return root
}

// leaveTo keeps the variables of other commands from being taken for mistakes.
func (o *options) leaveTo(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		for _, name := range f.Annotations[envAnnotation] {
			o.foreign[name] = true
		}
	})
	for _, sub := range cmd.Commands() {
		o.leaveTo(sub)
	}
}

func newServeCommand(cfg *settings, opts *options, env []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Hold connections and broadcast to them (the default)",
		Example: `  sluice serve --listen :8000 --raw publish --log-level debug
  sluice serve --config /etc/sluice.conf --listen unix:/run/sluice.sock`,
		Long: layersText,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.resolve(env); err != nil {
				return usageError{err}
			}
			return runServe(cmd.Context(), cfg, opts, env, cmd.ErrOrStderr())
		},
	}
	opts.register(cmd)
	setHelp(cmd, opts.groups()...)
	return cmd
}

// newHelpCommand gives `sluice help`, which knows a command from a typing error.
func newHelpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command, as its --help does",
		Example: `  sluice help serve
  sluice help bench fanout`,
		RunE: func(cmd *cobra.Command, args []string) error {
			topic := cmd.Root()
			for _, name := range args {
				next, rest, err := topic.Find([]string{name})
				if err != nil || next == topic || len(rest) > 0 {
					return unknownCommand(topic, name)
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
	setHelp(cmd)
	return cmd
}

// noArguments refuses what is neither a flag nor a subcommand.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return usagef("unexpected argument %q: options are given as flags: see '%s --help'", args[0], cmd.CommandPath())
	}
	return unknownCommand(cmd, args[0])
}

// unknownCommand is the error of a name that is none of cmd's subcommands.
func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	prefix := ""
	if cmd.HasParent() {
		prefix = cmd.CommandPath() + " "
	}
	meant := name
	for _, known := range names { // publish is further from pub than a typing error is
		if strings.HasPrefix(name, known) || len(name) > 2 && strings.HasPrefix(known, name) {
			meant = known
		}
	}
	return usagef("unknown command %q: %s", name, advice(meant, prefix, names, helpAdvice(cmd)))
}

// flagError turns pflag's errors into the one-line form.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		return unknownFlag(cmd, unknown)
	case errors.As(err, &bare):
		return usagef("--%s has no value: give one behind it: %s", bare.GetFlag().Name, helpAdvice(cmd))
	case errors.As(err, &invalid):
		cause := invalid.Unwrap()
		num := (*strconv.NumError)(nil)
		if errors.As(cause, &num) {
			cause = num.Err // without the name of a function
		}
		switch kind := invalid.GetFlag().Value.Type(); {
		case kind == "duration":
			cause = errNoDuration
		case kind == "int" && errors.Is(cause, strconv.ErrSyntax):
			cause = errors.New("not a count: give a whole number")
		}
		return usagef("--%s %s: %w: %s", invalid.GetFlag().Name, invalid.GetValue(), cause, helpAdvice(cmd))
	}
	return usagef("%w: %s", err, helpAdvice(cmd))
}

// unknownFlag is the error of a flag that cmd does not have. A word behind a
// single dash is to pflag a row of letters; more likely a dash is missing.
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
		// -help: the h was known, so that only the rest is reported.
		if i := slices.IndexFunc(names, func(known string) bool { return len(name) > 1 && known[1:] == name }); i >= 0 {
			name = names[i]
		}
	}
	if len(name) == 1 { // one letter is near to everything short
		names = nil
	}
	return usagef("unknown flag %s%s: %s", dashes, name, advice(name, "--", names, helpAdvice(cmd)))
}

// advice is the last part of an error about an unknown word: the nearest known
// one, or where to look.
func advice(word, prefix string, known []string, otherwise string) string {
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %s%s?", prefix, near)
	}
	return otherwise
}

func helpAdvice(cmd *cobra.Command) string {
	return fmt.Sprintf("see '%s --help'", cmd.CommandPath())
}
