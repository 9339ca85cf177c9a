package deploy_test

import (
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// These bound waits that succeed much sooner, also beside the tests of other packages.
	commandPatience = 2 * time.Minute // for a block to end
	readyPatience   = time.Minute     // for one in the background to listen or connect
	outputPatience  = patience        // for what one in the background prints
	// A program is ready when it has sockets and nothing happens on them for this time:
	// a gateway opens two, a client says what it wants. A reader takes longer to change
	// terminals.
	quiet = time.Second
	// One that never rests is ready after this time.
	busy = 5 * time.Second
)

// runner runs the blocks of one page, in a namespace that is theirs.
type runner struct {
	dir    string
	faults []fault

	mu      sync.Mutex
	shells  []*shell // in the order of the page
	stopped bool
}

// shell is a block that has been started.
type shell struct {
	block  block
	cmd    *exec.Cmd
	screen screen
	over   bool          // a block that says restart has ended it
	ended  chan struct{} // closed when it has
	err    error         // of Wait, once it has ended
}

// run runs the blocks in order. What comes after a command that failed could only
// fail of that, and is left out.
func (r *runner) run(blocks []block) []fault {
	defer r.kill()
	for i, b := range blocks {
		var err error
		switch {
		case b.Output:
			if err := r.compare(b); err != nil { // what follows does not hang on it
				r.faults = append(r.faults, fault{b.Line, err.Error()})
			}
		case b.File != "":
			err = writeBlock(r.dir, b)
		case b.Run:
			if err = r.runBlock(b); err == nil {
				r.unexpected(blocks[i:])
			}
		}
		if err != nil {
			r.faults = append(r.faults, fault{b.Line, err.Error()})
			return r.faults
		}
	}
	r.failedInBackground()
	return r.faults
}

// unexpected notes an error that the first block's API call was answered with, which
// does not show in a status, and that the page does not print.
func (r *runner) unexpected(blocks []block) {
	const mark = `{"error":`
	for _, b := range blocks[1:] {
		if b.Run {
			break
		}
		if b.Output && strings.Contains(b.Text, mark) {
			return
		}
	}
	printed := r.shells[len(r.shells)-1].screen.String()
	if strings.Contains(printed, mark) {
		r.faults = append(r.faults, faultf(blocks[0].Line, "an error that no output of the page shows:\n%s", printed))
	}
}

// failedInBackground notes the blocks that did not go on until they were ended.
func (r *runner) failedInBackground() {
	for _, s := range r.shells {
		if err := s.failed(); err != nil && s.block.Background && !s.over {
			r.faults = append(r.faults, fault{s.block.Line, err.Error()})
		}
	}
}

func writeBlock(dir string, b block) error {
	path := filepath.Join(dir, b.File)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.Text), 0o644)
}

func (r *runner) runBlock(b block) error {
	if b.Restart {
		if err := r.end(); err != nil {
			return err
		}
	}
	before := sockets()
	s, err := r.start(b)
	if err != nil {
		return err
	}
	if b.Background {
		return s.waitReady(before)
	}
	select {
	case <-s.ended:
		if b.Fails && s.err == nil {
			return fmt.Errorf("it does not fail; it printed:\n%s", &s.screen)
		}
		if b.Fails {
			return nil
		}
		return s.failed()
	case <-time.After(commandPatience):
		return fmt.Errorf("still running after %v; it printed:\n%s", commandPatience, &s.screen)
	}
}

// start runs a block as a reader's shell would: on a terminal, because programs say
// other things where there is none.
func (r *runner) start(b block) (*shell, error) {
	user, program, err := openTerminal()
	if err != nil {
		return nil, fmt.Errorf("no pseudo-terminal: %w", err)
	}
	defer program.Close()
	s := &shell{block: b, ended: make(chan struct{})}
	s.cmd = exec.Command("bash", "-euo", "pipefail", "-c", b.Text)
	s.cmd.Dir = r.dir
	s.cmd.Stdout, s.cmd.Stderr = program, program
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		user.Close()
		return nil, fmt.Errorf("the test ends")
	}
	if err := s.cmd.Start(); err != nil {
		user.Close()
		return nil, err
	}
	r.shells = append(r.shells, s)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer user.Close()
		io.Copy(&s.screen, user) // ignored: it ends with EIO when all programs have gone
	}()
	go func() {
		s.err = s.cmd.Wait()
		select { // what it has left running may hold the terminal open
		case <-read:
		case <-time.After(quiet):
		}
		close(s.ended)
	}()
	return s, nil
}

// failed returns how a shell has ended, nil while it has not.
func (s *shell) failed() error {
	select {
	case <-s.ended:
		if s.err != nil {
			return fmt.Errorf("%w; it printed:\n%s", s.err, &s.screen)
		}
	default:
	}
	return nil
}

// waitReady waits until there is a listening socket or a connection that there was not
// before, and then until nothing happens for a moment.
func (s *shell) waitReady(before map[string]string) error {
	last, changed := before, time.Now()
	var opened time.Time
	for end := time.Now().Add(readyPatience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-s.ended:
			if s.err != nil {
				return s.failed()
			}
			return fmt.Errorf("it does not stay in the background; it printed:\n%s", &s.screen)
		default:
		}
		now := sockets()
		if !maps.Equal(now, last) {
			last, changed = now, time.Now()
		}
		isNew := false
		for socket := range now {
			_, old := before[socket]
			isNew = isNew || !old
		}
		switch {
		case !isNew:
			opened = time.Time{}
		case opened.IsZero():
			opened = time.Now()
		case time.Since(changed) >= quiet || time.Since(opened) >= busy:
			return nil
		}
	}
	return fmt.Errorf("it neither listens nor has connected after %v; it printed:\n%s", readyPatience, &s.screen)
}

// sockets are the listening sockets and the connections of the namespace, each with
// what waits in its queues.
func sockets() map[string]string {
	const listening, established = "0A", "01"
	found := map[string]string{}
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, _ := os.ReadFile(file) // ignored: there may be no IPv6
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line) // number, local address, remote address, state, queues
			if len(f) > 4 && (f[3] == listening || f[3] == established) {
				found[strings.Join(f[1:4], " ")] = f[4]
			}
		}
	}
	return found
}

// end ends the blocks in the background as a reader does, and waits until their ports
// are free.
func (r *runner) end() error {
	r.failedInBackground()
	for _, s := range r.shells {
		s.over = true
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM) // ignored: it may have ended
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		listening := false
		for socket := range sockets() {
			listening = listening || strings.HasSuffix(socket, "0A")
		}
		if !listening {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("a block in the background still listens %v after SIGTERM", patience)
		}
	}
}

// kill ends all that has been started, for good.
func (r *runner) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for _, s := range r.shells {
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // ignored: as above
	}
}

// compare waits until a block before this one has printed what this one shows: the
// last one that ran, or one in the background.
func (r *runner) compare(b block) error {
	var different error
	for end := time.Now().Add(outputPatience); ; time.Sleep(50 * time.Millisecond) {
		running := false
		for i, s := range r.shells {
			last := i == len(r.shells)-1
			if s.over || !last && !s.block.Background {
				continue
			}
			err := alike(b, s.screen.String())
			if err == nil {
				return nil
			}
			if last {
				different = err
			}
			running = running || s.block.Background
		}
		if !running || time.Now().After(end) {
			return different
		}
	}
}

// openTerminal returns both ends of a pseudo-terminal.
func openTerminal() (user, program *os.File, err error) {
	user, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	// Not Fd, which would make Read block a thread.
	raw, err := user.SyscallConn()
	if err == nil {
		var number int
		failed := raw.Control(func(fd uintptr) {
			if number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
				err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
			}
			if err == nil {
				err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: 120, Row: 40})
			}
		})
		if failed != nil {
			err = failed
		}
		if err == nil {
			program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
		}
	}
	if err != nil {
		user.Close()
		return nil, nil, err
	}
	return user, program, nil
}
