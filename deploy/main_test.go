// Package deploy_test tries what this directory ships: each file is used as it is
// shipped but for ports and paths, with the program that it is for, in front of a
// gateway built from this tree. A test whose program is not installed is skipped
// and says which Debian package has it.
package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// scratch is a directory for all tests; a daemon that gives up its rights can reach
// the files in there.
var scratch string

func TestMain(m *testing.M) {
	becomeConfined()
	becomePageRunner()
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

// sluice gives the binary, built as Dockerfile builds it.
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
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "../cmd/sluice")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/sluice: %w\n%s", err, out)
	}
	return path, nil
})

// patience bounds every wait for something that comes within milliseconds.
const patience = 15 * time.Second

// tool gives the path of a program, or skips the test.
func tool(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s on this machine: apt-get install %s", name, debianPackage)
	}
	return path
}

// shipped gives the text of a file of this directory.
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

// write puts text into a file of the test's own directory and gives its path.
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

// process is a program that a test has started.
type process struct {
	cmd    *exec.Cmd
	output output
	ended  chan struct{} // closed when it has
	err    error         // of Wait, once it has ended
}

// run starts a program. It ends with the test at the latest, and what it wrote is
// shown when the test failed.
func run(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	if cmd.Env == nil {
		cmd.Env = environment()
	}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM // a test run that is killed leaves nothing behind
	cmd.WaitDelay = time.Second                 // its own children may hold its output open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("%s wrote:\n%s", filepath.Base(cmd.Path), &p.output)
		}
	})
	return p
}

// stop ends the process as a supervisor would.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM) // ignored: it may have ended
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Errorf("%s does not end after SIGTERM", filepath.Base(p.cmd.Path))
		p.cmd.Process.Kill() // ignored: as above
		<-p.ended
	}
}

// environment is the test's own without settings of a gateway.
func environment(more ...string) []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "SLUICE_") {
			env = append(env, entry)
		}
	}
	return append(env, more...)
}

// gateway is a running sluice.
type gateway struct {
	*process
	public, internal string // HOST:PORT
	secure           string // HOST:PORT with TLS; empty without
}

// serve starts a gateway on free loopback ports. It does not take long to stop.
func serve(t *testing.T, args ...string) *gateway {
	t.Helper()
	cmd := exec.Command(sluice(t), append([]string{"serve", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0",
		"--shutdown-timeout", "5s", "--close-timeout", "1s"}, args...)...)
	return ready(t, run(t, cmd))
}

// ready waits until a gateway says where it listens. It must log as JSON, which it
// does when its output is no terminal.
func ready(t *testing.T, p *process) *gateway {
	t.Helper()
	g := &gateway{process: p}
	waitFor(t, "the gateway's first words", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("the gateway has ended: %v\n%s", p.err, &p.output)
		default:
		}
		lines := bufio.NewScanner(strings.NewReader(p.output.String()))
		for lines.Scan() {
			var record struct {
				Msg      string   `json:"msg"`
				Listen   []string `json:"listen"`
				Secure   []string `json:"tls_listen"`
				Internal string   `json:"internal_listen"`
			}
			if json.Unmarshal(lines.Bytes(), &record) == nil && record.Msg == "ready" && len(record.Listen) > 0 {
				g.public, g.internal = record.Listen[0], record.Internal
				if len(record.Secure) > 0 {
					g.secure = record.Secure[0]
				}
				return true
			}
		}
		return false
	})
	return g
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

// freePort gives a loopback port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

var client = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// get gives the status and the body of a GET.
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
func (g *gateway) publish(t *testing.T, channel, message string) {
	t.Helper()
	resp, err := client.Post("http://"+g.internal+"/publish/"+channel, "text/plain", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("publish: %s", resp.Status)
	}
}

// flags are the defaults of `sluice serve` by the flag's name, from its help, in
// words a user would write; "" where there is none.
func flags(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, m := range helpLine.FindAllStringSubmatch(command(t, sluice(t), "serve", "--help"), -1) {
		found[m[1]] = m[2]
	}
	if len(found) == 0 {
		t.Fatal("found no flag in the help of sluice serve")
	}
	return found
}

var helpLine = regexp.MustCompile(`(?m)^  --([a-z-]+)(?: \S+)? +SLUICE_\S+(?: +default (\S+))?$`)

// command runs a program to its end and gives what it wrote.
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
