package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/bench/child"
	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
	"sluice/poller/leaktest"
)

func TestMain(m *testing.M) {
	code := leaktest.Run(m)
	if binaryDir != "" {
		os.RemoveAll(binaryDir)
	}
	if left := openSockets(); code == 0 && len(left) > 0 {
		fmt.Fprintln(os.Stderr, "sockets are left open:", left)
		code = 1
	}
	os.Exit(code)
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
	return path, child.Build(context.Background(), path)
})

// record is a line of the JSON log.
type record map[string]any

// sluice is a running command: the real binary, or run in this process.
type sluice struct {
	t        *testing.T
	log      serveLog
	url      string // of the first public listener, without the last slash
	internal string
	exited   <-chan struct{}
	code     func() int // once it has exited
	signal   func(os.Signal)
}

// serveLog is what a sluice writes to stderr.
type serveLog struct{ *child.Log }

// wait returns the first record with this message.
func (l serveLog) wait(t *testing.T, msg string) (r record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clitest.Patience)
	defer cancel()
	if err := l.Wait(ctx, msg, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs the real binary on ports of its own and waits until it is ready.
func start(t *testing.T, args ...string) *sluice {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p, err := child.Start(exec.Command(path, child.Listeners(args)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	s := &sluice{t: t, log: serveLog{&p.Log}, exited: p.Ended}
	s.code = func() int {
		state, _ := p.Wait() // the code says it all
		return state.ExitCode()
	}
	s.signal = func(sig os.Signal) {
		if err := p.Signal(sig); err != nil {
			t.Errorf("signal %v: %v", sig, err)
		}
	}
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
	s := launchHereWith(t, env, args...)
	s.awaitReady()
	return s
}

// launchHereWith is startHereWith for a gateway that need not become ready.
func launchHereWith(t *testing.T, env []string, args ...string) *sluice {
	t.Helper()
	exited, code := make(chan struct{}), 0
	s := &sluice{t: t, log: serveLog{new(child.Log)}, exited: exited, code: func() int { return code }}
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		defer close(exited)
		code = cli.Run(ctx, newRootCommand(env), child.Listeners(args), strings.NewReader(""), s.log, s.log)
	}()
	s.signal = func(sig os.Signal) { cancel(errors.New(sig.String())) }
	t.Cleanup(func() {
		cancel(context.Canceled)
		<-s.exited
	})
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
	case <-time.After(clitest.Patience):
		s.t.Fatalf("still running; stderr:\n%s", s.log)
	}
	if got := s.code(); got != code {
		s.t.Errorf("exit code %d, want %d; stderr:\n%s", got, code, s.log)
	}
}

func (s *sluice) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	s.wantExit(0)
}

// runOnce runs a command line that ends by itself.
func runOnce(env []string, args ...string) (code int, stdout, stderr string) {
	return clitest.Run(newRootCommand(env), "", args...)
}
