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

// firstFlags are the flags that a newcomer to the gateway needs first.
var firstFlags = flagGroup{"Flags to know first", []string{"listen", "internal-listen", "raw", "allowed-origins",
	"trusted-proxies", "token-hmac-secret-file", "namespaces", "config"}}

// newRootCommand returns `sluice`, which serves when no subcommand is named.
func newRootCommand(env []string) *cobra.Command {
	cfg := new(settings)
	opts := cfg.options()
	root := newServeCommand(cfg, opts, env)
	root.Use = "sluice"
	root.Short = "Broadcast server for WebSocket and SSE"
	root.Example = `  sluice                      then open http://127.0.0.1:8000/ in a browser
  sluice sub news             print the messages published to the channel news
  sluice pub news 'goal!'     publish a message to it`
	setHelp(root, firstFlags)
	root.Version = readBuild().Version // adds --version
	root.SilenceErrors = true          // run prints them
	root.SilenceUsage = true
	root.SetFlagErrorFunc(flagError)

	gatewayGroup := &cobra.Group{ID: "gateway", Title: "Gateway commands:"}
	clientGroup := &cobra.Group{ID: "client", Title: "Client commands:"}
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

// leaveTo keeps the environment variables of other commands from being reported as
// unknown.
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
		Short: "Run the gateway (the default command)",
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

// newHelpCommand returns `sluice help`, which reports a mistyped command.
func newHelpCommand() *cobra.Command {
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
					return unknownCommand(topic, name, "help ")
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

// noArguments rejects arguments that are neither a flag nor a subcommand.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return usagef("unexpected argument %q: %s accepts only flags; see '%s --help'", args[0], cmd.Name(), cmd.CommandPath())
	}
	return unknownCommand(cmd, args[0], "")
}

// unknownCommand returns the error for a name that is not a subcommand of cmd. before
// is what stood between sluice and the path to cmd: "help " or nothing.
func unknownCommand(cmd *cobra.Command, name, before string) error {
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
			return usagef("unknown command %q: did you mean %s%s %s?", name, path, sub.Name(), name)
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
	return usagef("unknown command %q: %s", name, advice(meant, prefix, names, helpAdvice(cmd)))
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
		return usagef("--%s needs a value: %s", bare.GetFlag().Name, flagAdvice(cmd))
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
			cause = errors.New("not a whole number")
		}
		return usagef("--%s %s: %w; %s", invalid.GetFlag().Name, invalid.GetValue(), cause, flagAdvice(cmd))
	}
	return usagef("%w: %s", err, flagAdvice(cmd))
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
	return usagef("unknown flag %s%s: %s", dashes, name, advice(name, "--", names, flagAdvice(cmd)))
}

// advice returns the last part of an error about an unknown word: the nearest known
// word, or where to look.
func advice(word, prefix string, known []string, otherwise string) string {
	if near := nearest(word, known); near != "" {
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
