package main

import (
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A shell's completion script asks the hidden command __complete what may follow.
// cobra answers with commands and flags. The words that a flag's value can be are
// registered where the flag is defined; completeNoFiles knows which values are files.

// newCompletionCommand returns `sluice completion` with a subcommand for each shell.
func newCompletionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a shell completion script",
		Example: `  source <(sluice completion bash)
  sluice completion fish > ~/.config/fish/completions/sluice.fish`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("missing shell: use bash, zsh, fish or powershell")
			}
			return usagef("unknown shell %q: use bash, zsh, fish or powershell", args[0])
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // never reached
	}
	setHelp(cmd)
	for _, shell := range []struct {
		name, examples, needs string
		script                func(root *cobra.Command, w io.Writer) error
	}{
		{"bash", `  source <(sluice completion bash)
  sluice completion bash > /etc/bash_completion.d/sluice`,
			"The script needs the bash-completion package.",
			func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) }},
		{"zsh", `  source <(sluice completion zsh)
  sluice completion zsh > "${fpath[1]}/_sluice"`, "",
			func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) }},
		{"fish", `  sluice completion fish | source
  sluice completion fish > ~/.config/fish/completions/sluice.fish`, "",
			func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) }},
		{"powershell", `  sluice completion powershell | Out-String | Invoke-Expression
  sluice completion powershell > sluice.ps1`, "",
			func(root *cobra.Command, w io.Writer) error { return root.GenPowerShellCompletionWithDesc(w) }},
	} {
		sub := &cobra.Command{
			Use: shell.name, Short: "Print the completion script for " + shell.name, Example: shell.examples, Long: shell.needs, Args: noArguments,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return shell.script(cmd.Root(), cmd.OutOrStdout())
			},
		}
		setHelp(sub)
		cmd.AddCommand(sub)
	}
	return cmd
}

// completeNoFiles keeps shells from offering file names for arguments and flag values
// that are not files and have no words of their own.
func completeNoFiles(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, known := cmd.GetFlagCompletionFunc(f.Name); known || f.NoOptDefVal != "" {
			return
		}
		// Fails only for a flag that does not exist or has words already.
		switch meta := flagMeta(f); {
		case meta == "DIR":
			_ = cmd.MarkFlagDirname(f.Name)
		case meta != "FILE":
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions)
		}
	})
	for _, sub := range cmd.Commands() {
		completeNoFiles(sub)
	}
}
