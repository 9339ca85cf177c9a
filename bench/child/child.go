// Package child starts gateways as child processes, for tests and for the tools below bench:
// with listeners on free ports of loopback and without this process's own settings. It waits for
// the record "ready" of the gateway's log, reads from it where the gateway listens, and ends the
// process by its ID. Nothing else in this module starts a gateway.
//
// It is a package of its own because its users share nothing else: tests of the command and of
// what deploy ships, the fault programs of bench/chaos, and two modules of other people's clients.
//
// Each process has one goroutine, which waits for its end, and those of [os/exec], which copy what
// it writes. A Process can be used from any goroutine once Ready has returned.
//
// The package does not know how a gateway works inside and imports nothing of it. It does not know
// which flags there are, except those of the two listeners that it fills in.
package child

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	readyWithin = time.Minute // from its start to the record "ready", on a busy machine
	endWithin   = time.Minute // from SIGTERM to its end
)

// ErrStuck is Stop's error for a process that had to be killed.
var ErrStuck = fmt.Errorf("it did not end within %v of SIGTERM", endWithin)

// Build builds the command sluice of the module around the working directory, with flags of go
// build. As in the image, it is built without cgo, except for -race.
func Build(ctx context.Context, binary string, flags ...string) error {
	return build(ctx, binary, "sluice/cmd/sluice", flags...)
}

func build(ctx context.Context, binary, program string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-o", binary}, flags, []string{program})...)
	cmd.Env = os.Environ()
	if !slices.Contains(flags, "-race") {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", program, err, out)
	}
	return nil
}

// Arguments returns the arguments of a gateway with these flags and Listeners.
func Arguments(flags ...string) []string { return append([]string{"serve"}, Listeners(flags)...) }

// Listeners returns the flags with listeners on free ports of loopback where they name none.
func Listeners(flags []string) []string {
	for _, name := range []string{"--listen", "--internal-listen"} {
		if !slices.ContainsFunc(flags, func(f string) bool { return f == name || strings.HasPrefix(f, name+"=") }) {
			flags = append(flags[:len(flags):len(flags)], name, "127.0.0.1:0")
		}
	}
	return flags
}

// Environ returns this process's environment without settings of a gateway.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "SLUICE_") })
}

// Process is a program that Start has started, mostly a gateway.
type Process struct {
	// Set by Ready; HOST:PORT of the first listener of each kind, empty without one.
	Public, Secure, Internal string

	Log   Log           // all that it has written
	Ended chan struct{} // closed at its end
	HTTP  *http.Client  // to its internal listener

	cmd *exec.Cmd
	err error // of its end; read after Ended
}

// Serve starts a gateway with these flags and waits until it is ready.
func Serve(binary string, flags ...string) (*Process, error) {
	p, err := Start(exec.Command(binary, Arguments(flags...)...))
	if err == nil {
		err = p.Ready()
	}
	return p, err
}

// Start starts a program. Its environment is Environ if it has none, and what it writes goes to
// cmd.Stdout, if that is set, and to the Log.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, Ended: make(chan struct{}), HTTP: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute,
	}}
	if cmd.Env == nil {
		cmd.Env = Environ()
	}
	var out io.Writer = &p.Log
	if cmd.Stdout != nil {
		out = io.MultiWriter(out, cmd.Stdout)
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second // children of its own may hold its output open
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.Ended)
	}()
	return p, nil
}

// Ready waits until a gateway is ready and reads where it listens. If that fails, the process has
// been killed.
func (p *Process) Ready() error {
	bound, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	ctx, give := context.WithCancelCause(bound)
	go func() {
		select {
		case <-p.Ended:
			give(fmt.Errorf("it has ended: %v", p.cmd.ProcessState))
		case <-bound.Done():
		}
	}()
	var ready struct {
		Listen   []string `json:"listen"`
		Secure   []string `json:"tls_listen"`
		Internal string   `json:"internal_listen"`
	}
	if err := p.Log.Wait(ctx, "ready", &ready); err != nil {
		p.Kill()
		return fmt.Errorf("the gateway did not start: %w", err)
	}
	p.Public, p.Secure, p.Internal = first(ready.Listen), first(ready.Secure), ready.Internal
	return nil
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// URL returns the address of a path of a public listener: with TLS for wss and https.
func (p *Process) URL(scheme, path string) string {
	if scheme == "wss" || scheme == "https" {
		return scheme + "://" + p.Secure + path
	}
	return scheme + "://" + p.Public + path
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// HasEnded reports whether the process has ended.
func (p *Process) HasEnded() bool {
	select {
	case <-p.Ended:
		return true
	default:
		return false
	}
}

// Wait waits for the process's end and returns how it ended.
func (p *Process) Wait() (*os.ProcessState, error) {
	<-p.Ended
	return p.cmd.ProcessState, p.err
}

// Signal sends the process a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop ends the process as a supervisor does and returns how it ended: an error if its exit code
// is not 0, and ErrStuck if it had to be killed.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM) // error ignored: it has ended
	defer p.HTTP.CloseIdleConnections()
	select {
	case <-p.Ended:
		return p.err
	case <-time.After(endWithin):
		p.Kill()
		return ErrStuck
	}
}

// Kill kills the process, if it is still running.
func (p *Process) Kill() {
	p.Signal(os.Kill) // error ignored: it has ended
	<-p.Ended
	p.HTTP.CloseIdleConnections()
}

// Get fetches a path of the internal listener. Any status except 200 is an error.
func (p *Process) Get(path string) ([]byte, error) {
	return body(p.HTTP.Get("http://" + p.Internal + path))
}

// Post posts to a path of the internal listener. Any status except 200 is an error.
func (p *Process) Post(path, contentType, content string) ([]byte, error) {
	return body(p.HTTP.Post("http://"+p.Internal+path, contentType, strings.NewReader(content)))
}

func body(resp *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	defer resp.Body.Close() // error ignored: only an unread rest could fail
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.200s", resp.Request.Method, resp.Request.URL.Path, resp.Status, text)
	}
	return text, err
}

// Metrics fetches the gateway's metrics.
func (p *Process) Metrics() (Metrics, error) {
	text, err := p.Get("/metrics")
	if err != nil {
		return nil, err
	}
	return ReadMetrics(bytes.NewReader(text))
}
