package top

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/cmd/internal/clitest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudo-terminal of 100 columns and 14 lines.
func openTerminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { user.Close() })
	fd := int(user.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { program.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: 100, Row: 14}); err != nil {
		t.Fatal(err)
	}
	return user, program
}

func TestTheTerminalIsPutBackOnEveryWayOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-o", path, "sluice/cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	f := newFakeInspector(t)
	for name, leave := range map[string]func(user *os.File, p *os.Process) error{
		"q":       func(user *os.File, _ *os.Process) error { _, err := user.WriteString("q"); return err },
		"Ctrl-C":  func(user *os.File, _ *os.Process) error { _, err := user.WriteString("\x03"); return err },
		"SIGTERM": func(_ *os.File, p *os.Process) error { return p.Signal(syscall.SIGTERM) },
		"SIGINT":  func(_ *os.File, p *os.Process) error { return p.Signal(syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			user, program := openTerminal(t)
			mode := func() *unix.Termios {
				m, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
				if err != nil {
					t.Fatal(err)
				}
				return m
			}
			before := mode()
			cmd := exec.Command(path, "top", "--url", f.URL, "--interval", "100ms")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
			cmd.Env = []string{"TERM=xterm", "NO_COLOR="}
			colors := name != "q"
			if !colors {
				cmd.Env = append(cmd.Env, "NO_COLOR=1")
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			drawn, ended := clitest.NewOutput(), make(chan error, 1)
			go func() {
				var p [4096]byte
				for {
					n, err := user.Read(p[:])
					if err != nil {
						return // closed by the test's end
					}
					drawn.Write(p[:n])
				}
			}()
			go func() { ended <- cmd.Wait() }()
			drawn.Wait(t, "per second: received")
			if cmp.Equal(before, mode()) {
				t.Error("keys do not come one by one")
			}
			if err := leave(user, cmd.Process); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(clitest.Patience):
				cmd.Process.Kill() // error ignored: it must be gone, one way or another
				t.Fatal("it does not end")
			}
			if diff := cmp.Diff(before, mode()); diff != "" {
				t.Error(diff)
			}
			drawn.Wait(t, leaveScreen)
			if text := drawn.String(); strings.Contains(text, reverse) != colors || !strings.HasPrefix(text, enterScreen) || !strings.HasSuffix(text, leaveScreen) {
				t.Errorf("not on the alternate screen, or with the wrong colors: %.20q ... %q", text, text[max(0, len(text)-60):])
			}
		})
	}
}
