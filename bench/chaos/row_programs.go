package chaos

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Rows that are programs of their own, in the sources: here they are only run.
func init() {
	register(Row{Number: 5, Name: "n-th fault", Builds: true, Run: nthFault,
		What: "every read, write, accept and epoll_ctl of a session fails in turn; the session completes or its connection is closed, and nothing leaks"})
	register(Row{Number: 7, Name: "interop", Builds: true, Run: interop,
		What: "six independent WebSocket clients, over ws and wss, all receive the same messages"})
	register(Row{Number: 22, Name: "panic hooks", Builds: true, Run: panicHooks,
		What: "a hook of the embedding program panics; each panic closes only its own connection"})
}

func nthFault(r *Run) error {
	every := Param(r, "every", 50, 1)
	return r.goTest("-tags", "faults", "-run", "TestFault$", "./gateway", "-fault.every", fmt.Sprint(every))
}

func panicHooks(r *Run) error {
	size := Param(r, "form", []string{"-short"}, nil)
	return r.goTest(append([]string{"-run", "TestPanics", "./gateway"}, size...)...)
}

func interop(r *Run) error {
	if r.Short {
		return skipped{"this row installs a browser and takes a minute: run it without --short"}
	}
	bin, err := filepath.Abs(r.Bin)
	if err != nil {
		return err
	}
	result, err := filepath.Abs(filepath.Join(r.Dir, "interop.json"))
	if err != nil {
		return err
	}
	_, err = r.program([]string{"SLUICE_BIN=" + bin, "RESULT=" + result}, "bench/interop/run")
	return err
}

// goTest runs tests of the module.
func (r *Run) goTest(args ...string) error {
	out, err := r.program(nil, "go", append([]string{"test", "-count=1", "-v", "-timeout", "15m"}, args...)...)
	if err == nil {
		r.Check("tests ran", strings.Contains(out, "--- PASS: "), "%d passed", strings.Count(out, "\n--- PASS: "))
	}
	return err
}

// program runs a command of the sources, and checks that it succeeds. It returns what the
// command wrote.
func (r *Run) program(env []string, name string, args ...string) (string, error) {
	dir, err := sources()
	if err != nil {
		return "", err
	}
	if strings.Contains(name, "/") {
		name = filepath.Join(dir, name)
	}
	cmd := exec.CommandContext(r.ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it has started ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	line := strings.Join(append([]string{filepath.Base(name)}, args...), " ")
	if cmd.ProcessState == nil {
		return "", skipped{fmt.Sprintf("%s does not start: %v", line, err)}
	}
	path := filepath.Join(r.Dir, filepath.Base(name)+".log")
	if err := os.WriteFile(path, out, 0o644); err != nil {
		return "", err
	}
	last := out[max(len(out)-300, 0):]
	if err == nil {
		last = last[bytes.LastIndexByte(bytes.TrimSpace(last), '\n')+1:]
	}
	r.Check(line, err == nil, "%v after %.1f s: %s", cmd.ProcessState, time.Since(begin).Seconds(), bytes.TrimSpace(last))
	return string(out), r.ctx.Err()
}

// sources finds the module's directory, at or above the present one.
func sources() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		text, _ := os.ReadFile(filepath.Join(dir, "go.mod")) // ignored: most directories have none
		if bytes.HasPrefix(text, []byte("module sluice\n")) {
			if _, err := exec.LookPath("go"); err != nil {
				return "", skipped{"the go command is missing: install Go"}
			}
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", skipped{"the sources are not here: run it in a clone of the repository"}
}
