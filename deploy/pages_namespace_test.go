package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The commands of a page run under this test binary, started once more with
// pageEnv in a network namespace of its own: the ports that the page names are
// free there, whatever runs on this machine or beside it in other tests. The helper
// reads an errand and answers with an outcome, both as JSON; all that it has started
// ends with it.

const pageEnv = "DEPLOY_TEST_PAGE"

// errand is what a helper is started for.
type errand struct {
	Dir    string
	Blocks []block
}

type outcome struct {
	Faults    []fault
	Namespace string // why there is none
	Error     string // of the helper itself
}

// runInNamespace runs blocks of a page in a namespace of their own. Where none can be
// made it returns errMissing.
func runInNamespace(t *testing.T, dir string, blocks []block) ([]fault, error) {
	t.Helper()
	text, err := json.Marshal(errand{dir, blocks})
	if err != nil {
		return nil, err
	}
	// Root needs no user namespace, and a container's root may not be allowed one.
	attributes := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		attributes = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	attributes.Pdeathsig = syscall.SIGTERM // a test run that is killed leaves nothing behind
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var answer, messages bytes.Buffer
	cmd := exec.CommandContext(t.Context(), executable)
	cmd.Env = append(pageEnvironment(t, dir), pageEnv+"=1")
	cmd.SysProcAttr = attributes
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &answer, &messages
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: no network namespace: %w", errMissing, err)
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("the helper in a network namespace: %w\n%s", err, &messages)
	}
	var done outcome
	if err := json.Unmarshal(answer.Bytes(), &done); err != nil {
		return nil, fmt.Errorf("the helper's answer: %w\n%s", err, &answer)
	}
	if done.Namespace != "" {
		return nil, fmt.Errorf("%w: no lo in the network namespace: %s", errMissing, done.Namespace)
	}
	if done.Error != "" {
		return nil, errors.New(done.Error)
	}
	return done.Faults, nil
}

// becomePageRunner takes the place of a test run where the variable says so.
func becomePageRunner() {
	if os.Getenv(pageEnv) == "" {
		return
	}
	os.Unsetenv(pageEnv) // ignored: it has a valid name
	var done outcome
	if err := raiseLoopback(); err != nil {
		done.Namespace = err.Error()
	} else if done.Faults, err = runErrand(); err != nil {
		done.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(done); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runErrand() ([]fault, error) {
	var e errand
	if err := json.NewDecoder(os.Stdin).Decode(&e); err != nil {
		return nil, err
	}
	r := &runner{dir: e.Dir}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGTERM)
	go func() {
		<-interrupted
		r.kill()
		os.Exit(1)
	}()
	return r.run(e.Blocks), nil
}

// raiseLoopback brings up the one interface of a new network namespace.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
