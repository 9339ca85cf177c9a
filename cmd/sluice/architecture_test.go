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
	{dir: "cmd/sluice", may: "cmd/internal/... syscall", why: "the root command and main; syscall for signals"},
	{dir: "cmd/internal/cli", may: "gateway/setting", why: "what commands share, and no command; sizes, and the nearest name"},
	{dir: "cmd/internal/option", may: "cmd/internal/cli gateway/setting", why: "flags, environment, file and defaults of the rows of a struct"},
	{dir: "cmd/internal/serve", may: "cmd/internal/cli cmd/internal/option cmd/internal/token gateway gateway/setting gateway/access/auth gateway/access/namespace gateway/hook/config gateway/hook/queue gateway/edge/certificate gateway/event gateway/event/webhook gateway/hook/proxy gateway/engine/backing poller syscall",
		why: "settings become a gateway with listeners; hook/queue for the bound that all hooks share; token for its key files; the poller for the clock that service managers compare; syscall for signals, the rights of a barrier, and errors of listening"},
	{dir: "cmd/internal/client", may: "cmd/internal/cli gateway/setting bench/clienttls bench/record bench/wsclient syscall", why: "a client of any gateway; syscall for errors of connections"},
	{dir: "cmd/internal/doctor", may: "cmd/internal/cli cmd/internal/option cmd/internal/serve cmd/internal/client bench/clienttls gateway gateway/setting gateway/cgroup gateway/engine/backing",
		why: "looks at settings as serve does, and asks a gateway as a client with TLS"},
	{dir: "cmd/internal/backend", may: "cmd/internal/cli bench/clienttls gateway/hook gateway/hook/config gateway/hook/proxy gateway/hook/queue", why: "asks a backend as the gateway does, with the flags for TLS that all clients have; hook/config for which headers may be passed on"},
	{dir: "cmd/internal/top", may: "cmd/internal/cli cmd/internal/client cmd/internal/option cmd/internal/serve cmd/internal/doctor bench/child bench/clienttls", why: "reads metrics as everybody does, and asks the gateway that doctor finds; client for the errors that it answers with"},
	{dir: "cmd/internal/migration", may: "cmd/internal/cli cmd/internal/option cmd/internal/serve gateway gateway/access/auth gateway/access/namespace gateway/hook gateway/hook/config",
		why: "makes settings and files of another server's configuration, and asks the packages that read them what they accept"},
	{dir: "cmd/internal/bench", may: "cmd/internal/cli bench bench/visitors", why: "flags of the tester, and the process of the demo page's visitors"},
	{dir: "cmd/internal/token", may: "cmd/internal/cli gateway/access/auth", why: "makes and verifies tokens as the gateway does"},
	{dir: "cmd/internal/clitest", may: "cmd/internal/cli bench/child", why: "runs command lines in tests: only tests import it"},

	// The gateway, from its wiring down. No protocol knows another one, and nothing below knows any.
	{dir: "gateway", may: "poller gateway/... syscall", why: "wiring, and the interface for programs that embed it; syscall for syscall.Conn"},
	{dir: "gateway/edge", may: "poller gateway/loop gateway/route gateway/web gateway/setting gateway/sampling gateway/gate gateway/saved gateway/edge/... syscall",
		why: "hands Arrivals to a loop; the poller for bare sockets; syscall for syscall.Conn"},
	{dir: "gateway/edge/admit", may: "gateway/rate", why: "counts addresses and knows no connection"},
	{dir: "gateway/edge/certificate", may: "gateway/setting", why: "files and a tls.Config"},
	{dir: "gateway/edge/handshake", may: "gateway/route", why: "request heads over bytes: pure"},
	{dir: "gateway/edge/peer", why: "addresses and headers: pure"},
	{dir: "gateway/route", may: "gateway/loop", why: "what protocols register and edge looks up; a request becomes the loop's Hello"},
	{dir: "gateway/control", may: "gateway/loop gateway/channel gateway/access gateway/api gateway/engine gateway/ops gateway/setting gateway/sampling",
		why: "acts on all loops, as the API's node and as what ops asks; publishes through the engine's Publisher, and asks the engine"},
	{dir: "gateway/handover", may: "gateway/saved poller syscall", why: "the protocol of two processes, and not what they hand over; the poller for sockets with descriptors and files in memory; syscall for rights"},
	{dir: "gateway/takeover", may: "gateway/handover gateway/edge gateway/loop gateway/channel gateway/engine gateway/ops gateway/saved gateway/setting poller", why: "a server's parts as package handover passes them: it knows all of them, and none of them knows it; the poller for the clock that both processes share"},
	{dir: "gateway/gate", why: "stops what others enter: a lock and a channel"},
	{dir: "gateway/ops", may: "gateway/cgroup gateway/gate gateway/saved gateway/ops/console", why: "serves what it is given: it is the last to be asked and knows no connection"},
	{dir: "gateway/ops/console", may: "gateway/asset gateway/saved", why: "files, and sessions of browsers: it does not know what it guards"},
	{dir: "gateway/raw", may: protocol + " gateway/sampling gateway/engine", why: "a protocol; sampling quotes names for the log; an engine that is away has a close code"},
	{dir: "gateway/centrifugo", may: protocol + " gateway/engine", why: "a protocol; faults of publishing become its own error codes"},
	{dir: "gateway/loop", may: "gateway/rate gateway/saved poller gateway/channel gateway/wire gateway/wire/deflate gateway/frame gateway/engine", why: "delivers, compressed for clients that have negotiated it, and knows no protocol, edge, ops or access"},
	{dir: "gateway/wire", may: "gateway/channel gateway/frame", why: "frames payloads, and knows no connection"},
	{dir: "gateway/wire/deflate", may: "gateway/channel gateway/frame", why: "compresses what formats append, and inflates messages: no connection, no I/O"},
	{dir: "gateway/engine", may: "gateway/channel gateway/gate gateway/setting", why: "knows publications, subscribers and no connection; names of settings in its faults"},
	{dir: "gateway/engine/local", may: "gateway/engine gateway/channel gateway/presence", why: "an engine: answers from this node's channels and tables"},
	{dir: "gateway/engine/backing", may: "gateway/engine gateway/engine/local gateway/engine/nats gateway/engine/nats/datadir gateway/channel gateway/presence gateway/setting", why: "settings become one of the engines, or what is found about them; with -tags nonats there is one"},
	{dir: "gateway/engine/nats", may: "gateway/saved gateway/engine gateway/engine/local gateway/engine/nats/datadir gateway/channel gateway/presence gateway/rate gateway/setting", why: "an engine: stores in JetStream and shares over NATS; channels without a durable history are the local engine's"},
	{dir: "gateway/engine/nats/datadir", may: "poller", why: "files of a data directory; locks and free space are system calls"},
	{dir: "gateway/engine/nats/natstest", may: "gateway/clienttest syscall", why: "NATS servers for tests: only tests import it; syscall for the signals of a child"},
	{dir: "gateway/channel", may: "gateway/rate gateway/saved", why: "pure: no I/O, no goroutine, no clock"},
	{dir: "gateway/frame", may: "gateway/saved", why: "RFC 6455 over bytes: pure"},
	{dir: "gateway/engine/enginetest", may: "gateway/engine gateway/channel gateway/presence gateway/clienttest", why: "what every engine has to keep, and one that answers late: only tests import it"},
	{dir: "gateway/access", may: "gateway/access/... gateway/hook", why: "one policy over tokens, namespaces and which events hooks decide"},
	{dir: "gateway/access/auth", why: "verifies tokens, and knows no channel"},
	{dir: "gateway/access/namespace", may: "gateway/setting", why: "options by name: pure; suggests the nearest name as settings do"},
	{dir: "gateway/hook/queue", why: "bounds calls: it knows no request, and no HTTP"},
	{dir: "gateway/hook/client", may: "gateway/hook gateway/loop gateway/saved gateway/sampling", why: "what protocols do alike about a connection's hooks; sampling tells failures of different hooks apart in the log"},
	{dir: "gateway/hook/proxy", may: "gateway/hook gateway/hook/queue syscall", why: "hooks over HTTP; syscall for the signature of a dialer's Control"},
	{dir: "gateway/hook/config", may: "gateway/hook gateway/hook/proxy gateway/hook/queue gateway/setting", why: "which HTTP hooks there are; suggests the nearest name as settings do"},
	{dir: "gateway/hook", may: "gateway/hook/queue", why: "requests, results and Go functions; it knows no HTTP, connection or protocol"},
	{dir: "gateway/event", may: "gateway/channel gateway/saved gateway/setting", why: "notifies of what happens: patterns of channels, what waits as it moves to another process, and the nearest name; no HTTP, connection or protocol"},
	{dir: "gateway/event/webhook", may: "gateway/event gateway/hook/proxy", why: "events over HTTP, with the connections that hooks use"},
	{dir: "gateway/event/cluster", may: "gateway/event", why: "nodes count subscribers together: it does not know how messages travel"},
	{dir: "gateway/event/stream", may: "gateway/event", why: "events as SSE for the internal listener: it does not know who may read"},
	{dir: "gateway/presence", may: "gateway/channel", why: "a table of ClientInfos"},
	{dir: "gateway/api", may: "gateway/channel gateway/saved", why: "HTTP in front of the interface Node, which lists ClientInfos"},
	{dir: "gateway/cgroup", why: "reads files: no goroutine"},
	{dir: "gateway/saved", why: "bytes: pure"},
	{dir: "gateway/rate", why: "arithmetic: pure"},
	{dir: "gateway/setting", why: "tags and texts: pure"},
	{dir: "gateway/sampling", why: "a slog.Handler"},
	{dir: "gateway/asset", why: "files of the binary, for the two pages"},
	{dir: "gateway/web", may: "gateway/asset", why: "files"},
	{dir: "gateway/clienttest", may: "poller/leaktest gateway/channel gateway/wire gateway/access/auth golang.org/x/sys/unix syscall", why: "clients, tokens and readers of logs for tests: they know no server; system calls for socket options"},
	{dir: "gateway/event/eventtest", why: "a receiver of events for tests: it knows nothing of the gateway"},
	{dir: "gateway/hooktest", why: "backends of hooks for tests: they know nothing of the gateway"},
	{dir: "gateway/looptest", may: "gateway/loop gateway/clienttest", why: "what tests do on loops"},

	{dir: "poller", may: "golang.org/x/sys/unix unsafe syscall github.com/mailru/easygo/netpoll", why: "the gateway's system calls are made here alone"},
	{dir: "poller/leaktest", why: "goroutines that tests leave over: only tests import it"},
	{dir: "bench", may: "bench/child bench/clienttls bench/sys poller", why: "over sockets, never the gateway; metrics and certificates are read as by everybody"},
	{dir: "bench/sys", may: "golang.org/x/sys/unix", why: "the tester's system calls that the gateway does not make"},
	{dir: "bench/hostile", may: "bench", why: "attacks over the tester's connections; not part of sluice's binary"},
	{dir: "bench/chaos", may: "bench bench/trial bench/hostile bench/sys bench/child bench/record bench/wsclient syscall", why: "a program; syscall for signals, limits and resources of its children"},
	{dir: "bench/cluster", may: "bench bench/trial bench/child bench/sys", why: "a program"},
	{dir: "bench/trial", may: "bench bench/child syscall", why: "the frame of both programs: starts gateways and knows no client; syscall for signals"},
	{dir: "bench/trial/trialtest", may: "bench/trial", why: "the tests that each program of trials has: only tests import it"},
	{dir: "bench/child", may: "syscall", why: "starts gateways as processes and imports nothing of them; syscall for SIGTERM"},
	{dir: "bench/clienttls", why: "files, a tls.Config and texts: it makes no connection"},
	{dir: "bench/record", why: "JSON records: pure"},
	{dir: "bench/visitors", may: "bench/record bench/wsclient", why: "clients of the demo page, as a process: over sockets, never the gateway"},
	{dir: "bench/wsclient", may: "syscall", why: "our client, beside the tester's own one; syscall for syscall.RawConn"},
}

// protocol is what every protocol may import. Messages are package frame's.
const protocol = "gateway/loop gateway/saved gateway/wire gateway/frame gateway/channel gateway/route gateway/access/... gateway/access gateway/hook gateway/hook/client gateway/presence"

// forTests are imported by tests only.
const forTests = "poller/leaktest bench/trial/trialtest cmd/internal/clitest gateway/clienttest gateway/hooktest gateway/event/eventtest gateway/looptest gateway/engine/enginetest gateway/engine/nats/natstest"

// nevers are what packages must not know, not even through others.
var nevers = []struct{ packages, know string }{
	{"gateway/channel gateway/frame gateway/wire gateway/engine", "gateway/loop"},
	{"gateway/loop", "gateway/raw gateway/centrifugo gateway/edge/... gateway/edge gateway/ops gateway/control gateway/access/... gateway/access gateway/route"},
	{"gateway/raw gateway/centrifugo", "gateway/edge/... gateway/edge gateway/ops gateway/control"},
	{"gateway/raw", "gateway/centrifugo"},
	{"gateway/centrifugo", "gateway/raw"},
	{"gateway/edge/... gateway/edge", "gateway/raw gateway/centrifugo gateway/ops gateway/control gateway/access/... gateway/access"},
	{"gateway/ops", "gateway/loop"},
	{"gateway/...", "gateway"},
	{"...", forTests},
}

// watched reports whether an import must be one of an arrow's.
func watched(path string) bool {
	return strings.HasPrefix(path, "sluice/") || path == "unsafe" || path == "syscall" ||
		strings.HasPrefix(path, "golang.org/x/sys") || strings.HasPrefix(path, "github.com/mailru/easygo")
}

// listed reports whether a package is one of several, separated by spaces.
func listed(path, packages string) bool {
	path = strings.TrimPrefix(path, "sluice/")
	for p := range strings.FieldsSeq(packages) {
		below, tree := strings.CutSuffix(p, "...")
		if path == p || tree && strings.HasPrefix(path, below) {
			return true
		}
	}
	return false
}

func TestArrowsRunDown(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := map[string]map[string]bool{} // what each package imports
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
		if seen[dir] == nil {
			seen[dir] = map[string]bool{}
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			seen[dir][strings.TrimPrefix(name, "sluice/")] = true
			if watched(name) && !listed(name, from.may) {
				t.Errorf("%s imports %s, which no arrow of the design allows: %s (%s)", path, name, dir, from.why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range arrows {
		if (seen[a.dir] != nil) == a.todo {
			t.Errorf("%s: there is a package: %t; arrows has todo: %t", a.dir, seen[a.dir] != nil, a.todo)
		}
	}
	for dir := range seen {
		all := map[string]bool{}
		var follow func(path string)
		follow = func(path string) {
			for name := range seen[path] {
				if !all[name] {
					all[name] = true
					follow(name)
				}
			}
		}
		follow(dir)
		for _, never := range nevers {
			for name := range all {
				if listed(dir, never.packages) && !listed(dir, forTests) && listed(name, never.know) {
					t.Errorf("%s knows %s, directly or through others", dir, name)
				}
			}
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
