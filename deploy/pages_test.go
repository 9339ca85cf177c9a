package deploy_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What a reader can type is tried as it is printed, on every page of the repository.

// repository is the top of the tree that these tests are in.
const repository = ".."

// everything says that a machine which lacks something is a failure.
var everything = os.Getenv("PAGES_ALL") != ""

// missing notes what this machine cannot try.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if everything {
		t.Errorf(format, args...)
		return
	}
	t.Logf(format, args...)
}

// pages returns every page of the repository by its name.
func pages(t *testing.T) (found map[string]*page, faults map[string][]fault) {
	t.Helper()
	found, faults = map[string]*page{}, map[string][]fault{}
	err := walkRepository(func(name string, d fs.DirEntry) error {
		if d.IsDir() || path.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(repository, name))
		if err == nil {
			found[name], faults[name] = parse(name, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 8 {
		t.Fatalf("found %d pages", len(found))
	}
	return found, faults
}

// walkRepository calls f for what the repository holds, as far as one can tell
// without git.
func walkRepository(f func(name string, d fs.DirEntry) error) error {
	return fs.WalkDir(os.DirFS(repository), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (name == "dist" || slices.Contains([]string{".git", "node_modules", "bench-results"}, d.Name())) {
			return fs.SkipDir
		}
		if d.Name() == ".git" { // of a worktree: git in a copy would work on the original
			return nil
		}
		return f(name, d)
	})
}

// copyRepository copies what the repository holds into a directory.
func copyRepository(dir string) error {
	return walkRepository(func(name string, d fs.DirEntry) error {
		to := filepath.Join(dir, name)
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(repository, name))
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, info.Mode())
	})
}

// eachPage runs a test for each page, side by side.
func eachPage(t *testing.T, f func(t *testing.T, p *page)) {
	t.Parallel()
	all, _ := pages(t)
	for name, p := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, p)
		})
	}
}

func report(t *testing.T, name string, faults []fault) {
	t.Helper()
	for _, f := range faults {
		t.Errorf("%s:%d: %s", name, f.Line, f.Text)
	}
}

func TestBlocksOfEveryPageAreMarked(t *testing.T) {
	t.Parallel()
	_, faults := pages(t)
	for name, faults := range faults {
		report(t, name, faults)
	}
}

func TestCheckedBlocksOfEveryPage(t *testing.T) {
	eachPage(t, func(t *testing.T, p *page) {
		for _, b := range p.blocks {
			report(t, p.name, check(t, b))
		}
		report(t, p.name, unknownInProse(t, p))
	})
}

func TestCommandsOfEveryPageRun(t *testing.T) {
	eachPage(t, func(t *testing.T, p *page) {
		runPage(t, p, func(f fault) { t.Errorf("%s:%d: %s", p.name, f.Line, f.Text) })
	})
}

func TestLinksOfEveryPageResolve(t *testing.T) {
	t.Parallel()
	all, _ := pages(t)
	for name, p := range all {
		report(t, name, p.deadLinks(os.DirFS(repository), all))
	}
}

// A reader meets README first. What is longer belongs on a page of its own.
func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	const bytesMax = 9_000
	if n := len(shipped(t, "../README.md")); n > bytesMax {
		t.Errorf("README.md has %d bytes, at most %d fit", n, bytesMax)
	}
}

// runPage runs the blocks of a page and calls report for each fault. What needs
// something that is not installed is left out, with what follows it until a restart.
func runPage(t *testing.T, p *page, report func(fault)) {
	t.Helper()
	var blocks []block
	left := false
	for i, b := range p.blocks {
		left = left && !b.Restart
		if lacks := lacking(b, p.blocks[:i]); lacks != "" && !left {
			missing(t, "%s:%d: not tried, nor what follows: no %s on this machine", p.name, b.Line, lacks)
			left = true
		}
		if !left || b.File != "" {
			blocks = append(blocks, b)
		}
	}
	if !slices.ContainsFunc(blocks, func(b block) bool { return b.Run }) {
		return
	}
	faults, err := runInNamespace(t, workplace(t, p), blocks)
	if errors.Is(err, errMissing) {
		missing(t, "%s: %v", p.name, err)
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	for _, f := range faults {
		report(f)
	}
}

// workplace makes the directory that a page's commands begin in. A reader of a recipe
// has an empty one, beside a clone of the repository; of any other page, the clone.
func workplace(t *testing.T, p *page) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "page")
	if err != nil {
		t.Fatal(err)
	}
	clone, recipe := filepath.Join(dir, "sluice"), filepath.Join(dir, "recipe")
	isRecipe := path.Dir(p.name) == "deploy/recipes"
	if !isRecipe || slices.ContainsFunc(p.blocks, func(b block) bool { return strings.Contains(b.Text, "../sluice") }) {
		err = copyRepository(clone)
	}
	place := clone
	if isRecipe {
		place = recipe
	}
	if err == nil {
		err = os.MkdirAll(place, 0o755)
	}
	if err == nil {
		var modules string
		if modules, err = filepath.Abs(nodeModules); err == nil {
			err = os.Symlink(modules, filepath.Join(place, "node_modules"))
		}
	}
	if err == nil { // for curl, a refusal is a success otherwise
		err = os.WriteFile(filepath.Join(dir, ".curlrc"), []byte("fail-with-body\n"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// nodeModules are there after npm ci in its directory.
const nodeModules = "recipes/node_modules"

// pageEnvironment is what the commands of a page see: the binary on the PATH, a
// home of their own, Go's caches, and no proxy between them and the gateway.
func pageEnvironment(t *testing.T, home string) []string {
	t.Helper()
	proxy := regexp.MustCompile(`(?i)^(https?|all|no)_proxy=`)
	env := slices.DeleteFunc(environment(), proxy.MatchString)
	goEnv, err := goDirectories()
	if err != nil {
		t.Fatal(err)
	}
	// Built as sluice builds the binary, most is in the cache already.
	return append(env, "PATH="+filepath.Dir(sluice(t))+":"+os.Getenv("PATH"), "HOME="+filepath.Dir(home), "NO_COLOR=1", "TERM=xterm",
		"GOCACHE="+goEnv[0], "GOMODCACHE="+goEnv[1], "GOPATH="+goEnv[2], "GOPROXY=off", "GOSUMDB=off", "CGO_ENABLED=0",
		"GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -trimpath"))
}

var goDirectories = sync.OnceValues(func() ([]string, error) {
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	return strings.Split(string(out), "\n"), err
})

// programs are what pages may use beyond what every Debian has.
var programs = map[string]string{
	"curl": "curl", "jq": "jq", "node": "nodejs", "npx": "npm", "php": "php-cli", "python3": "python3", "openssl": "openssl",
	"nginx": "nginx-light", "haproxy": "haproxy", "caddy": "caddy", "go": "golang", "pgrep": "procps",
	"promtool": "prometheus", "nats-server": "nats-server",
}

var (
	nodeImport   = regexp.MustCompile(`(?m)(?:^\s*import .*?from |^\s*import |\brequire\(|\bimport\()["']((?:@[\w.-]+/)?[\w-][\w.:-]*)`)
	nodeBuiltin  = regexp.MustCompile(`^(node:.*|assert|buffer|child_process|crypto|events|fs|http|https|net|os|path|process|readline|stream|timers|url|util|zlib)$`)
	pythonImport = regexp.MustCompile(`(?m)^(?:import|from) (\w+)`)
)

// lacking returns what a block to run uses that this machine does not have, or "".
func lacking(b block, earlier []block) string {
	if !b.Run {
		return ""
	}
	for name, debianPackage := range programs {
		used := regexp.MustCompile(`(?m)(^|[|;&(]|\$\() *` + name + `( |$)`).MatchString(b.Text)
		if _, err := exec.LookPath(name); used && err != nil {
			return name + " (apt-get install " + debianPackage + ")"
		}
	}
	for _, m := range regexp.MustCompile(`\bnpx (?:-y )?([\w@/-]+)`).FindAllStringSubmatch(b.Text, -1) {
		if _, err := os.Stat(filepath.Join(nodeModules, ".bin", m[1])); err != nil {
			return m[1] + " (npm ci in deploy/recipes)"
		}
	}
	for _, file := range earlier {
		if file.File == "" || !strings.Contains(b.Text, file.File) {
			continue
		}
		if lacks := notInstalled(file); lacks != "" {
			return lacks
		}
	}
	return ""
}

// notInstalled returns a package that a program imports and that is not installed, or "".
func notInstalled(file block) string {
	switch file.Language {
	case "js":
		for _, m := range nodeImport.FindAllStringSubmatch(file.Text, -1) {
			if nodeBuiltin.MatchString(m[1]) {
				continue
			}
			if _, err := os.Stat(filepath.Join(nodeModules, m[1])); err != nil {
				return m[1] + " (npm ci in deploy/recipes)"
			}
		}
	case "py", "python":
		for _, m := range pythonImport.FindAllStringSubmatch(file.Text, -1) {
			if exec.Command("python3", "-c", "import "+m[1]).Run() != nil {
				return m[1] + " (apt-get install python3-" + m[1] + ")"
			}
		}
	}
	return ""
}
