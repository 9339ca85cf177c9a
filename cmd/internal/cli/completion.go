package cli

import (
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A shell's completion script asks the hidden command __complete what may follow.
// cobra answers with commands and flags. The words that a flag's value can be are
// registered where the flag is defined; CompleteNoFiles knows which values are files.

// NewCompletion returns `sluice completion`.
func NewCompletion() *cobra.Command {
	const shells = "bash, zsh, fish or powershell"
	scripts := map[string]func(root *cobra.Command, w io.Writer) error{
		"bash":       func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":        (*cobra.Command).GenZshCompletion,
		"fish":       func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
		"powershell": (*cobra.Command).GenPowerShellCompletionWithDesc,
	}
	cmd := &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a shell completion script",
		Example: `  source <(sluice completion bash)
  sluice completion bash > /etc/bash_completion.d/sluice
  sluice completion zsh > "${fpath[1]}/_sluice"
  sluice completion fish > ~/.config/fish/completions/sluice.fish
  sluice completion powershell | Out-String | Invoke-Expression`,
		Long:      "SHELL is " + shells + ".\nThe script for bash needs the bash-completion package.",
		ValidArgs: slices.Sorted(maps.Keys(scripts)),
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return Usagef("missing shell: use " + shells)
			case scripts[args[0]] == nil:
				return Usagef("unknown shell %q: use "+shells, args[0])
			case len(args) > 1:
				return Usagef("unexpected argument %q: a script is for one shell", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return scripts[args[0]](cmd.Root(), cmd.OutOrStdout()) },
	}
	SetHelp(cmd)
	return cmd
}

// CompleteNoFiles keeps shells from offering file names for arguments and flag values
// that are not files and have no words of their own.
func CompleteNoFiles(cmd *cobra.Command) {
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
		CompleteNoFiles(sub)
	}
}
