package option

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// Options that are renewed have the same command line, and the files as they are now.
func TestRenew(t *testing.T) {
	type settings struct {
		URL    string   `name:"jwks-url" group:"x" meta:"URL" help:"a URL"`
		List   []string `name:"list" group:"x" default:"a" help:"a list"`
		Limit  int      `name:"limit" group:"x" default:"5" help:"a limit"`
		Other  int      `name:"other" group:"x" default:"5" help:"another"`
		Config string   `name:"config" group:"x" meta:"FILE" help:"the file"`
	}
	file := filepath.Join(t.TempDir(), "conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("limit = 6\nother = 7\nlist = x\n")
	first := new(settings)
	o := New(first)
	cmd := new(cobra.Command)
	o.Register(cmd)
	if err := cmd.ParseFlags([]string{"--jwks-url", "https://u:secret@host/", "--list", " b , c", "--config", file}); err != nil {
		t.Fatal(err)
	}
	environ := []string{"SLUICE_LIMIT=8"}
	if err := o.Resolve(environ); err != nil {
		t.Fatal(err)
	}
	write("\nother = 9\nlist = x\n")
	second := new(settings)
	n := o.Renew(second)
	if err := n.Resolve(environ); err != nil {
		t.Fatal(err)
	}
	want := *first
	want.Other = 9
	if diff := cmp.Diff(want, *second); diff != "" { // the password, which is not shown, is still there
		t.Errorf("%s", diff)
	}
	var changes []string
	for _, opt := range n.List {
		if was := o.ByName[opt.Name]; !opt.Same(was) {
			changes = append(changes, Change{was, opt}.String())
		}
	}
	if diff := cmp.Diff([]string{file + ":2: other = 9 (now: 7)"}, changes); diff != "" {
		t.Error(diff)
	}
	write("")
	third := o.Renew(new(settings))
	if err := third.Resolve(nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"limit":    "limit = 8 is not in the file any more",
		"jwks-url": "--jwks-url https://u:xxxxx@host/ (its content has changed)",
	} {
		if got := (Change{n.ByName[name], third.ByName[name]}).String(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
