// Package deploy_test tries what this directory ships: each file is used as it is
// shipped but for ports and paths, with the program that it is for, in front of a
// gateway built from this tree. A test whose program is not installed is skipped
// and says which Debian package has it.
package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/bench/child"
)

// scratch is a directory for all tests; a daemon that gives up its rights can reach
// the files in there.
var scratch string

func TestMain(m *testing.M) {
	becomeConfined()
	becomePageRunner()
	becomeNATSServer()
	// These tests wait more than they compute.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		parallel.Value.Set("6") // ignored: it is a number
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "sluice-deploy"); err == nil {
		defer os.RemoveAll(scratch)
		err = os.Chmod(scratch, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// sluice returns the binary, built as Dockerfile builds it.
func sluice(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var build = sync.OnceValues(func() (string, error) {
	// The go command cannot see what a build started from here reads. Reading the
	// directories tells it that a result is only good for as long as they do not change.
	for _, dir := range []string{"../cmd", "../bench", "../gateway", "../poller"} {
		err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == "node_modules" {
				return fs.SkipDir
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	path := filepath.Join(scratch, "sluice")
	return path, child.Build(context.Background(), path, "-trimpath", "-buildvcs=false", "-ldflags=-s -w")
})

// patience bounds every wait for something that comes within milliseconds.
const patience = time.Minute

// tool returns the path of a program, or skips the test.
func tool(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s on this machine: apt-get install %s", name, debianPackage)
	}
	return path
}

// shipped returns the text of a file of this directory.
func shipped(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// substitute puts new words for old ones into a shipped text; pairs are old, new.
// What is not there cannot be replaced: then the test would try something else.
func substitute(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the shipped file has no %q", pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// write puts text into a file of the test's own directory and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// output collects what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// run starts a program. It ends with the test at the latest, and what it wrote is
// shown when the test failed.
func run(t *testing.T, cmd *exec.Cmd) *child.Process {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM // a test run that is killed leaves nothing behind
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); errors.Is(err, child.ErrStuck) {
			t.Errorf("%s: %v", filepath.Base(cmd.Path), err)
		}
		if t.Failed() {
			t.Logf("%s wrote:\n%s", filepath.Base(cmd.Path), &p.Log)
		}
	})
	return p
}

// environment is the test's own without settings of a gateway.
func environment(more ...string) []string { return append(child.Environ(), more...) }

// serve starts a gateway on free loopback ports. It does not take long to stop.
func serve(t *testing.T, args ...string) *child.Process {
	t.Helper()
	return ready(t, run(t, exec.Command(sluice(t), child.Arguments(append([]string{"--shutdown-timeout", "5s", "--drain-duration", "off", "--close-timeout", "1s"}, args...)...)...)))
}

// ready waits until a gateway says where it listens.
func ready(t *testing.T, p *child.Process) *child.Process {
	t.Helper()
	if err := p.Ready(); err != nil {
		t.Fatal(err)
	}
	return p
}

// waitFor asks until the answer is yes.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// freePort returns a port that nobody listens on, on any address. It lies below those that the
// kernel gives to listeners and connections that name none, so that no other test gets it before
// it is used.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		if l, err := net.Listen("tcp", ":"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("found no free port")
	return ""
}

var client = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// get returns the status and the body of a GET.
func get(url string) (int, string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// publish posts a message into a channel.
func publish(t *testing.T, g *child.Process, channel, message string) {
	t.Helper()
	if _, err := g.Post("/publish/"+channel, "text/plain", message); err != nil {
		t.Fatal(err)
	}
}

// flags are the defaults of `sluice serve` by the flag's name, in words a user would write; ""
// where there is none.
func flags(t *testing.T) map[string]string {
	t.Helper()
	var settings []struct{ Name, Default string }
	if err := json.Unmarshal([]byte(command(t, sluice(t), "config", "--json")), &settings); err != nil || len(settings) == 0 {
		t.Fatalf("sluice config --json: %v", err)
	}
	found := map[string]string{}
	for _, s := range settings {
		found[s.Name] = s.Default
	}
	return found
}

// command runs a program to its end and returns what it wrote.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = ctx.Err()
		}
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}
