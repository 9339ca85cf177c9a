package main

import (
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// arrows are the imports that a package of this module may make: of the module's
// own packages, and of those that give access to the operating system. Whatever
// is not listed is a defect of the code or of the design (gateway/DESIGN.md).
var arrows = map[string][]string{
	// syscall: signals
	"cmd/sluice": {"sluice/gateway", "sluice/gateway/access/auth", "sluice/gateway/edge/certificate", "sluice/gateway/access/namespace", "sluice/gateway/edge/peer", "sluice/bench", "sluice/bench/chaos", "syscall"},
	// syscall: the Conn interface
	"gateway": {"sluice/poller", "sluice/gateway/edge/admit", "sluice/gateway/api", "sluice/gateway/access/auth", "sluice/gateway/centrifugo", "sluice/gateway/channel",
		"sluice/gateway/engine", "sluice/gateway/frame", "sluice/gateway/access/namespace", "sluice/gateway/presence",
		"sluice/gateway/edge/handshake", "sluice/gateway/edge/peer", "sluice/gateway/sampling", "sluice/gateway/web", "syscall"},
	"gateway/edge/admit":       {},
	"gateway/centrifugo":       {"sluice/gateway/channel", "sluice/gateway/frame"},
	"gateway/api":              {},
	"gateway/access/auth":      {},
	"gateway/edge/certificate": {},
	"gateway/channel":          {},
	"gateway/engine":           {"sluice/gateway/channel"},
	"gateway/frame":            {},
	"gateway/edge/handshake":   {},
	"gateway/access/namespace": {},
	"gateway/edge/peer":        {},
	"gateway/presence":         {},
	"gateway/sampling":         {},
	"gateway/web":              {},
	"poller":                   {"golang.org/x/sys/unix", "unsafe", "syscall", "github.com/mailru/easygo/netpoll"},
	"bench":                    {"sluice/poller", "syscall"},                 // syscall: the Conn interface, signals of its child
	"bench/chaos":              {"sluice/poller", "sluice/bench", "syscall"}, // syscall: signals, limits and resources of its children
}

// watched reports whether an import must be listed in arrows.
func watched(path string) bool {
	return strings.HasPrefix(path, "sluice/") || path == "unsafe" || path == "syscall" ||
		strings.HasPrefix(path, "golang.org/x/sys") || strings.HasPrefix(path, "github.com/mailru/easygo")
}

func TestArrowsRunDown(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); d.IsDir() && path != root && err == nil {
			return filepath.SkipDir // a module of its own
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(dir)
		allowed, known := arrows[dir]
		if !known {
			t.Errorf("%s: a package that the design does not have: add it to arrows and to gateway/DESIGN.md", dir)
			return nil
		}
		seen[dir] = true
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if watched(name) && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s, which no arrow of the design allows", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range arrows {
		if !seen[dir] {
			t.Errorf("no package %s: it is in arrows", dir)
		}
	}
}

func TestTopLevelHoldsNothingElse(t *testing.T) {
	entries, err := filepath.Glob(filepath.Join("..", "..", "*"))
	if err != nil {
		t.Fatal(err)
	}
	gitignore, err := os.ReadFile(filepath.Join("..", "..", ".gitignore"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // an archive of the sources may be without it
		t.Fatal(err)
	}
	ignored := ignoredAtTop(string(gitignore))
	allowed := []string{"go.mod", "go.sum", "cmd", "gateway", "poller", "bench", "deploy", "README.md", "LICENSE"}
	for _, e := range entries {
		name := filepath.Base(e)
		if !slices.Contains(allowed, name) && !slices.Contains(ignored, name) && !strings.HasPrefix(name, ".") {
			t.Errorf("%s does not belong at the top level", name)
		}
	}
}

// ignoredAtTop returns the names in the top-level .gitignore, each on a line that begins
// with a slash: what was built or measured there is not a defect of the sources.
func ignoredAtTop(gitignore string) []string {
	var names []string
	for line := range strings.Lines(gitignore) {
		name, rooted := strings.CutPrefix(strings.TrimSpace(line), "/")
		name = strings.TrimSuffix(name, "/")
		if rooted && name != "" && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return names
}

func TestOnlyWhatIsIgnoredAtTheTopMayLieThere(t *testing.T) {
	got := ignoredAtTop("/sluice\n*.test\n# /comment\n\n/\n!/kept\n/bench-results/ \r\n/gateway/web/suite/\nanywhere/\n/last")
	if diff := cmp.Diff([]string{"sluice", "bench-results", "last"}, got); diff != "" {
		t.Error(diff)
	}
}
