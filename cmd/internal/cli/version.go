package cli

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by release builds: -ldflags "-X sluice/cmd/internal/cli.version=v1.2.3".
var version string

// Build is what `sluice version --json` prints.
type Build struct {
	Version  string            `json:"version"`
	Commit   string            `json:"commit"`   // empty outside a repository
	Modified bool              `json:"modified"` // the tree had uncommitted changes
	Go       string            `json:"go"`
	Platform string            `json:"platform"`
	Tags     []string          `json:"tags"`
	Modules  map[string]string `json:"modules"`
}

// reportedModules are the modules whose version matters in a bug report.
var reportedModules = []string{"github.com/gobwas/ws", "github.com/mailru/easygo"}

// ReadBuild returns what this binary was built from.
func ReadBuild() Build {
	b := Build{
		Version:  version,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Tags:     []string{},
		Modules:  map[string]string{},
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		b.Version = cmp.Or(b.Version, "unknown")
		return b
	}
	b.Version = cmp.Or(b.Version, info.Main.Version, "unknown")
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "-tags":
			b.Tags = strings.Split(s.Value, ",")
		}
	}
	for _, path := range reportedModules {
		for _, m := range info.Deps {
			if m.Path == path {
				if m.Replace != nil {
					m = m.Replace
				}
				b.Modules[path] = m.Version
			}
		}
	}
	return b
}

func (b Build) print(w io.Writer) {
	fmt.Fprintf(w, "sluice %s\n", b.Version)
	commit := cmp.Or(b.Commit, "unknown")
	if b.Modified {
		commit += " (modified)"
	}
	fmt.Fprintf(w, "commit    %s\n", commit)
	fmt.Fprintf(w, "go        %s %s\n", b.Go, b.Platform)
	for _, path := range reportedModules {
		fmt.Fprintf(w, "%-9s %s %s\n", "module", path, cmp.Or(b.Modules[path], "unknown"))
	}
	if len(b.Tags) > 0 {
		fmt.Fprintf(w, "tags      %s\n", strings.Join(b.Tags, ","))
	}
}

// NewVersion returns `sluice version`.
func NewVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and what it was built from",
		Example: `  sluice version
  sluice version --json | jq -r .commit`,
		Args: NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return PrintJSON(cmd.OutOrStdout(), ReadBuild())
			}
			ReadBuild().print(cmd.OutOrStdout())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	SetHelp(cmd)
	return cmd
}
