package poller

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"sluice/poller/leaktest"

	"golang.org/x/sys/unix"
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

// TestMain fails when a goroutine or a descriptor is left over.
func TestMain(m *testing.M) {
	// The Go runtime opens its own poller at the first use and keeps it.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	before := descriptors()
	status := m.Run()
	if status == 0 {
		if err := leaktest.Goroutines(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		for fd, what := range opened(before, descriptors()) {
			fmt.Fprintf(os.Stderr, "descriptor %d (%s) is left over\n", fd, what)
			status = 1
		}
	}
	os.Exit(status)
}

// descriptors is a census of /proc/self/fd: what each number stands for.
func descriptors() map[int]string {
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		panic(err)
	}
	all := make(map[int]string)
	for _, name := range names {
		fd, _ := strconv.Atoi(filepath.Base(name))
		if what, err := os.Readlink(name); err == nil { // else: the descriptor that Glob itself used
			all[fd] = what
		}
	}
	return all
}

// opened gives what after has and before has not.
func opened(before, after map[int]string) map[int]string {
	diff := maps.Clone(after)
	maps.DeleteFunc(diff, func(fd int, what string) bool { return before[fd] == what })
	return diff
}

// handlerFunc is a Handler.
type handlerFunc func(Events)

func (f handlerFunc) Ready(e Events) { f(e) }

// loop is a Poller whose wake function runs what the test gives it, as a loop of
// the gateway runs what comes through its inbox.
type loop struct {
	*Poller
	t      *testing.T
	failed chan error

	mu   sync.Mutex
	todo []func()
}

func newLoop(t *testing.T) *loop {
	t.Helper()
	l := &loop{t: t, failed: make(chan error, 8)}
	p, err := New(func() {}, l.run, func(err error) { l.failed <- err })
	if err != nil {
		t.Fatal(err)
	}
	l.Poller = p
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		select {
		case err := <-l.failed:
			t.Errorf("waiting failed: %v", err)
		default:
		}
	})
	return l
}

func (l *loop) run() {
	l.mu.Lock()
	todo := l.todo
	l.todo = nil
	l.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

// do runs f on the loop and waits for it.
func (l *loop) do(f func()) {
	l.t.Helper()
	done := make(chan struct{})
	l.mu.Lock()
	l.todo = append(l.todo, func() { defer close(done); f() })
	l.mu.Unlock()
	l.Wake()
	receive(l.t, done, "the loop to run a function")
}

// settle returns when every event that is there now has been handled: the first
// turn may have begun before, the second asks for all that is ready, and may
// reach the wake function first, the third comes behind its end.
func (l *loop) settle() {
	l.t.Helper()
	for range 3 {
		l.do(func() {})
	}
}

func (l *loop) add(fd int, interest Events, h handlerFunc) *Desc {
	l.t.Helper()
	d := new(Desc)
	var err error
	l.do(func() { err = l.Add(d, fd, interest, h) })
	if err != nil {
		l.t.Fatal(err)
	}
	return d
}

func (l *loop) del(d *Desc) {
	l.t.Helper()
	var err error
	l.do(func() { err = l.Del(d) })
	if err != nil {
		l.t.Error(err)
	}
}

func receive[T any](t *testing.T, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
	}
	return v
}

// fds closes descriptors at the test's end, unless the test has done it: a
// number may belong to somebody else by then.
type fds struct{ open []int }

func newFDs(t *testing.T) *fds {
	s := new(fds)
	t.Cleanup(func() {
		for _, fd := range s.open {
			unix.Close(fd)
		}
	})
	return s
}

func (s *fds) keep(fd int) int {
	s.open = append(s.open, fd)
	return fd
}

func (s *fds) close(fd int) {
	for i, open := range s.open {
		if open == fd {
			s.open = append(s.open[:i], s.open[i+1:]...)
			unix.Close(fd)
			return
		}
	}
	panic("not an open descriptor of this test")
}

// pair gives two connected sockets, non-blocking as Add wants them.
func (s *fds) pair(t testing.TB) (a, b int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s.keep(p[0]), s.keep(p[1])
}

// moveTo gives fd the number to, which must be free.
func (s *fds) moveTo(t testing.TB, fd, to int) {
	t.Helper()
	if _, err := unix.FcntlInt(uintptr(to), unix.F_GETFD, 0); err == nil {
		t.Fatalf("descriptor %d is in use", to)
	}
	if err := unix.Dup3(fd, to, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	s.close(fd)
	s.keep(to)
}

func mustWrite(t testing.TB, fd int, p string) {
	t.Helper()
	if n, err := Write(fd, []byte(p)); n != len(p) || err != nil {
		t.Fatalf("%d of %d bytes written: %v", n, len(p), err)
	}
}
