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

// arrow is a package of this module with what it may import: of the module's own packages, and
// of those that give access to the operating system. Any other such import is a defect of the
// code or of the design (gateway/DESIGN.md).
type arrow struct {
	dir  string
	may  string // separated by spaces; with /... all packages below one
	why  string
	todo bool // the design has the package, and the code does not yet
}

var arrows = []arrow{
	{dir: "cmd/sluice", may: "gateway/setting gateway/cgroup gateway gateway/access/auth gateway/access/namespace gateway/edge/certificate gateway/edge/peer bench bench/chaos syscall",
		why: "a shell around the gateway and the load tester; syscall for signals"},

	// The gateway, from its wiring down. No protocol knows another one, and nothing below knows any.
	{dir: "gateway", may: "poller gateway/... syscall", why: "wiring, and the interface for programs that embed it; syscall for syscall.Conn"},
	{dir: "gateway/edge", may: "poller gateway/loop gateway/route gateway/web gateway/edge/...", why: "hands Arrivals to a loop; the poller for bare sockets", todo: true},
	{dir: "gateway/edge/admit", may: "gateway/rate", why: "counts addresses and knows no connection"},
	{dir: "gateway/edge/certificate", may: "gateway/setting", why: "files and a tls.Config"},
	{dir: "gateway/edge/handshake", why: "request heads over bytes: pure"},
	{dir: "gateway/edge/peer", why: "addresses and headers: pure"},
	{dir: "gateway/route", why: "what protocols register and edge looks up", todo: true},
	{dir: "gateway/control", may: "gateway/loop gateway/channel gateway/presence gateway/access gateway/api", why: "acts on all loops, as the API's node", todo: true},
	{dir: "gateway/handover", may: "gateway/loop gateway/edge gateway/channel gateway/presence", why: "takes listeners and connections", todo: true},
	{dir: "gateway/ops", why: "serves what it is given: it is the last to be asked and knows no connection"},
	{dir: "gateway/raw", may: protocol, why: "a protocol", todo: true},
	{dir: "gateway/centrifugo", may: protocol + " gateway/frame", why: "a protocol; frame until wire frames for it"},
	{dir: "gateway/loop", may: "gateway/rate poller gateway/channel gateway/wire gateway/frame gateway/engine", why: "delivers, and knows no protocol, edge, ops or access", todo: true},
	{dir: "gateway/wire", may: "gateway/channel gateway/frame", why: "frames payloads, and knows no connection"},
	{dir: "gateway/engine", may: "gateway/channel", why: "knows publications and no connection"},
	{dir: "gateway/channel", may: "gateway/rate", why: "pure: no I/O, no goroutine, no clock"},
	{dir: "gateway/frame", why: "RFC 6455 over bytes: pure"},
	{dir: "gateway/access", may: "gateway/access/...", why: "one policy over tokens and namespaces"},
	{dir: "gateway/access/auth", why: "verifies tokens, and knows no channel"},
	{dir: "gateway/access/namespace", why: "options by name: pure"},
	{dir: "gateway/hook", why: "Go interfaces and HTTP", todo: true},
	{dir: "gateway/presence", why: "a table"},
	{dir: "gateway/api", why: "HTTP in front of the interface Node"},
	{dir: "gateway/cgroup", why: "reads files: no goroutine"},
	{dir: "gateway/rate", why: "arithmetic: pure"},
	{dir: "gateway/setting", why: "texts: pure"},
	{dir: "gateway/sampling", why: "a slog.Handler"},
	{dir: "gateway/web", why: "files"},

	{dir: "poller", may: "golang.org/x/sys/unix unsafe syscall github.com/mailru/easygo/netpoll", why: "system calls are made here alone"},
	{dir: "bench", may: "poller syscall", why: "over sockets, never the gateway; syscall for syscall.Conn and signals of its child"},
	{dir: "bench/chaos", may: "poller bench syscall", why: "syscall for signals, limits and resources of its children"},
}

// protocol is what every protocol may import.
const protocol = "gateway/loop gateway/wire gateway/channel gateway/route gateway/access gateway/hook gateway/presence"

// watched reports whether an import must be one of an arrow's.
func watched(path string) bool {
	return strings.HasPrefix(path, "sluice/") || path == "unsafe" || path == "syscall" ||
		strings.HasPrefix(path, "golang.org/x/sys") || strings.HasPrefix(path, "github.com/mailru/easygo")
}

// allows reports whether a package may make an import.
func (a *arrow) allows(path string) bool {
	path = strings.TrimPrefix(path, "sluice/")
	for may := range strings.FieldsSeq(a.may) {
		below, tree := strings.CutSuffix(may, "...")
		if path == may || tree && strings.HasPrefix(path, below) {
			return true
		}
	}
	return false
}

func TestArrowsRunDown(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	known := map[string]*arrow{}
	for i := range arrows {
		known[arrows[i].dir] = &arrows[i]
	}
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
		from := known[dir]
		if from == nil {
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
			if watched(name) && !from.allows(name) {
				t.Errorf("%s imports %s, which no arrow of the design allows: %s (%s)", path, name, dir, from.why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range arrows {
		if seen[a.dir] == a.todo {
			t.Errorf("%s: there is a package: %t; arrows has todo: %t", a.dir, seen[a.dir], a.todo)
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
