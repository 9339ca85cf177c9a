package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait of these tests.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if binaryDir != "" {
			os.RemoveAll(binaryDir)
		}
		if left := openSockets(); code == 0 && len(left) > 0 {
			fmt.Fprintln(os.Stderr, "sockets are left open:", left)
			code = 1
		}
		os.Exit(code)
	}))
}

// openSockets lists this process's sockets, where the system can tell.
func openSockets() (left []string) {
	fds, _ := filepath.Glob("/proc/self/fd/*") // fails only for a bad pattern
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "socket:") {
			left = append(left, fd+" "+target)
		}
	}
	return left
}

var binaryDir string

// binary builds the command as it ships, once.
var binary = sync.OnceValues(func() (string, error) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "sluice-test-"); err != nil {
		return "", err
	}
	path := filepath.Join(binaryDir, "sluice")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %v\n%s", err, out)
	}
	return path, nil
})

// record is a line of the JSON log.
type record map[string]any

// stderrLog collects what a sluice writes to stderr and lets tests wait for it.
type stderrLog struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and replaced at each write
}

func newStderrLog() *stderrLog { return &stderrLog{changed: make(chan struct{})} }

func (l *stderrLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(p), nil
}

func (l *stderrLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// wait returns the first record with this message.
func (l *stderrLog) wait(t *testing.T, msg string) record {
	t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		text, changed := l.text.String(), l.changed
		l.mu.Unlock()
		for line := range strings.Lines(text) {
			var r record
			if json.Unmarshal([]byte(line), &r) == nil && r["msg"] == msg {
				return r
			}
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no log record %q; stderr so far:\n%s", msg, text)
		}
	}
}

// sluice is a running command: the real binary, or run in this process.
type sluice struct {
	t        *testing.T
	log      *stderrLog
	url      string // of the first public listener, without the last slash
	internal string
	exited   chan struct{} // closed once code is set
	code     int
	signal   func(os.Signal)
}

// start runs the real binary on ports of its own and waits until it is ready.
func start(t *testing.T, args ...string) *sluice {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s := &sluice{t: t, log: newStderrLog(), exited: make(chan struct{})}
	cmd := exec.Command(path, withPorts(args)...)
	cmd.Stderr = s.log
	cmd.Env = cleanEnv()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.exited)
		_ = cmd.Wait() // the code says it all
		s.code = cmd.ProcessState.ExitCode()
	}()
	s.signal = func(sig os.Signal) {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Errorf("signal %v: %v", sig, err)
		}
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // has mostly exited
		<-s.exited
	})
	s.awaitReady()
	return s
}

// startHere runs the command in this process, where leaks are seen.
func startHere(t *testing.T, args ...string) *sluice {
	t.Helper()
	return startHereWith(t, nil, args...)
}

// startHereWith is startHere with an environment.
func startHereWith(t *testing.T, env []string, args ...string) *sluice {
	t.Helper()
	s := &sluice{t: t, log: newStderrLog(), exited: make(chan struct{})}
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		defer close(s.exited)
		s.code = run(ctx, withPorts(args), env, strings.NewReader(""), s.log, s.log)
	}()
	s.signal = func(sig os.Signal) { cancel(signalled{sig}) }
	t.Cleanup(func() {
		cancel(signalled{os.Kill})
		<-s.exited
	})
	s.awaitReady()
	return s
}

func (s *sluice) awaitReady() {
	s.t.Helper()
	ready := s.log.wait(s.t, "ready")
	s.url = strings.TrimSuffix(ready["url"].(string), "/")
	s.internal = strings.TrimSuffix(ready["internal"].(string), "/")
}

// wantExit waits for the end.
func (s *sluice) wantExit(code int) {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Fatalf("still running; stderr:\n%s", s.log)
	}
	if s.code != code {
		s.t.Errorf("exit code %d, want %d; stderr:\n%s", s.code, code, s.log)
	}
}

func (s *sluice) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	s.wantExit(0)
}

// withPorts adds listeners on free ports where args name none.
func withPorts(args []string) []string {
	all := strings.Join(args, " ")
	if !strings.Contains(all, "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	if !strings.Contains(all, "--internal-listen") {
		args = append(args, "--internal-listen", "127.0.0.1:0")
	}
	return args
}

// cleanEnv is the environment without options of sluice.
func cleanEnv() []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, envPrefix) {
			env = append(env, entry)
		}
	}
	return env
}

// runOnce runs a command line that ends by itself.
func runOnce(env []string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	code = run(ctx, args, env, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}
