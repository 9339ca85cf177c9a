package handover

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/gateway/saved"
)

// toy is a server that answers each byte of a client with its process's ID and the number of bytes that the
// connection has had: what travels is that number. It is the process of the tests that are not the tests
// themselves (TestMain), as old and as new one.
type toy struct {
	mu     sync.Mutex // held while a connection is served; by Freeze until Thaw
	conns  map[uint64]*toyConn
	out    *Out
	frozen bool
	next   atomic.Uint64

	listener *net.TCPListener
	ended    chan struct{} // closed when this process does not serve any more
	started  chan struct{} // closed when it does
	pieces   int
}

type toyConn struct {
	fd     int
	count  uint64
	passed bool
}

// The environment of a toy.
const (
	envToy   = "TOY_ADDRESS" // where to listen; set makes the test binary a toy
	envPlan  = "TOY_PLAN"    // old|new:point:signal
	envNeeds = "TOY_NEEDS"   // what the old one says that the new one needs
	envLeast = "TOY_LEAST"   // the oldest format that the new one takes, if not 1
)

func TestMain(m *testing.M) {
	if os.Getenv(envToy) != "" {
		os.Exit(runToy())
	}
	os.Exit(m.Run())
}

// at returns what happens at a point of one of the processes.
func at(role string) func(string) {
	var who, point, what string
	if parts := strings.Split(os.Getenv(envPlan), ":"); len(parts) == 3 {
		who, point, what = parts[0], parts[1], parts[2]
	}
	return func(p string) {
		if who != role || p != point {
			return
		}
		sig := unix.SIGKILL
		if what == "stop" {
			sig = unix.SIGSTOP
		}
		fmt.Println("at", role, p, what)
		unix.Kill(os.Getpid(), sig)
		for time.Sleep(100 * time.Millisecond); what == "kill"; { // the signal is under way
			time.Sleep(time.Hour)
		}
	}
}

func newToy() *toy {
	return &toy{conns: make(map[uint64]*toyConn), ended: make(chan struct{}), started: make(chan struct{})}
}

func runToy() int {
	t := newToy()
	f, err := Inherited()
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	if f == nil {
		l, err := net.Listen("tcp", os.Getenv(envToy))
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		t.listener = l.(*net.TCPListener)
		close(t.started)
	} else {
		go func() {
			least := uint64(1)
			fmt.Sscan(os.Getenv(envLeast), &least)
			if err := take(f, Hello{Version: "new", Least: least, Most: 3}, t, at("new")); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
		}()
	}
	<-t.started
	fmt.Println("serving", os.Getpid(), t.listener.Addr())
	go t.accept()
	go t.serve()
	commands := bufio.NewScanner(os.Stdin)
	go func() {
		for commands.Scan() {
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			p := DefaultPatience
			p.Hello, p.Prepare, p.Ready, p.Started = 3*time.Second, 3*time.Second, time.Second, time.Second
			report, err := give(context.Background(), cmd, t, p, at("old"))
			fmt.Println("gave", report.Moved, err)
			if errors.Is(err, ErrLost) {
				os.Exit(1)
			}
			os.Setenv(envPlan, "") // the next attempt succeeds
		}
		if os.Getppid() == 1 {
			return // an orphan lives on until it is killed
		}
	}()
	<-t.ended
	return 0
}

func (t *toy) accept() {
	for {
		c, err := t.listener.AcceptTCP()
		if err != nil {
			return
		}
		f, err := c.File()
		c.Close()
		if err != nil {
			return
		}
		fd, _ := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		f.Close()
		t.mu.Lock()
		t.conns[t.next.Add(1)] = &toyConn{fd: fd}
		t.mu.Unlock()
	}
}

func (t *toy) serve() {
	for {
		t.mu.Lock()
		for id, c := range t.conns {
			t.answer(id, c)
		}
		if t.out != nil && !t.frozen {
			t.passSome()
		}
		t.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

func (t *toy) answer(id uint64, c *toyConn) {
	var b [1]byte
	n, _, err := unix.Recvfrom(c.fd, b[:], unix.MSG_DONTWAIT)
	switch {
	case n == 1:
		c.count++
		unix.Write(c.fd, fmt.Appendf(nil, "%d %d\n", os.Getpid(), c.count))
	case err == nil: // FIN
		unix.Close(c.fd)
		delete(t.conns, id)
	}
}

// passSome passes a connection.
func (t *toy) passSome() (all bool) {
	for id, c := range t.conns {
		if c.passed {
			continue
		}
		sent, err := t.out.Pass([]uint64{id}, []int{c.fd})
		c.passed = sent && err == nil
		return false
	}
	return true
}

// As old process.

func (t *toy) Welcome(h Hello) (Welcome, error) {
	if h.Version != "new" {
		return Welcome{}, errors.New("another one")
	}
	return Welcome{Version: "old", Format: 1, Connections: len(t.conns), Needs: []byte(os.Getenv(envNeeds))}, nil
}

func (t *toy) Listeners() ([]string, []*os.File, error) {
	f, err := t.listener.File()
	return []string{"toy"}, []*os.File{f}, err
}

func (t *toy) Pass(out *Out) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out = out
	passed := make(chan struct{})
	go func() {
		for all := false; !all; time.Sleep(time.Millisecond) {
			t.mu.Lock()
			all = t.out == nil || t.passSome()
			t.mu.Unlock()
		}
		close(passed)
	}()
	return passed
}

func (t *toy) Copy(int) ([]byte, error) {
	if t.pieces++; t.pieces%3 == 0 {
		return nil, nil
	}
	return fmt.Appendf(nil, "piece %d", t.pieces%3), nil
}

func (t *toy) Freeze(context.Context) error {
	t.mu.Lock()
	t.frozen = true
	for !t.passSome() {
	}
	return nil
}

func (t *toy) Save() (b []byte, err error) {
	b = binary.AppendUvarint([]byte{1}, uint64(len(t.conns)))
	for id, c := range t.conns {
		b = binary.AppendUvarint(binary.AppendUvarint(b, id), c.count)
	}
	return binary.AppendUvarint(b, t.next.Load()), nil
}

func (t *toy) Thaw() {
	if !t.frozen {
		t.mu.Lock()
	}
	t.frozen, t.out, t.pieces = false, nil, 0
	for _, c := range t.conns {
		c.passed = false
	}
	t.mu.Unlock()
}

func (t *toy) Given() {
	for _, c := range t.conns {
		unix.Close(c.fd)
	}
	t.conns = nil
	t.listener.Close()
}

func (t *toy) Stragglers(pass func([]byte, int) error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		pass([]byte("GET /"), fds[0])
	}
}

func (t *toy) Release(context.Context) error {
	time.AfterFunc(10*time.Millisecond, func() { close(t.ended) })
	return nil
}

// As new process.

func (t *toy) Agree(w Welcome) error {
	if len(w.Needs) > 0 {
		return fmt.Errorf("%s is not supported", w.Needs)
	}
	return nil
}

func (t *toy) Listener(name string, f *os.File) error {
	l, err := net.FileListener(f)
	if err == nil {
		t.listener = l.(*net.TCPListener)
	}
	f.Close()
	return err
}

func (t *toy) Add(ids []uint64, fds []int) error {
	for i, id := range ids {
		if t.conns[id] != nil {
			for _, fd := range fds[i:] {
				unix.Close(fd)
			}
			return fmt.Errorf("connection %d was passed twice", id)
		}
		t.conns[id] = &toyConn{fd: fds[i]}
	}
	return nil
}

func (t *toy) Gone(ids []uint64) {
	for _, id := range ids {
		if c := t.conns[id]; c != nil {
			unix.Close(c.fd)
			delete(t.conns, id)
		}
	}
}

func (t *toy) Restore(piece []byte) error {
	if t.pieces++; string(piece) != fmt.Sprintf("piece %d", t.pieces) {
		return fmt.Errorf("%q is not piece %d", piece, t.pieces)
	}
	return nil
}

func (t *toy) Prepared() error { return nil }

func (t *toy) Load(b []byte) (int, error) {
	r := saved.Read("the toy", b, 1)
	n := r.Count()
	for range n {
		id, count := r.Uint(), r.Uint()
		c := t.conns[id]
		if c == nil {
			return 0, fmt.Errorf("connection %d was not passed", id)
		}
		c.count = count
	}
	t.next.Store(r.Uint())
	if t.pieces != 2 {
		return 0, fmt.Errorf("%d pieces, want 2", t.pieces)
	}
	t.pieces = 0
	return n, r.End()
}

func (t *toy) Start() { close(t.started) }

func (t *toy) Fresh() {
	for id, c := range t.conns {
		unix.Close(c.fd)
		delete(t.conns, id)
	}
	close(t.started)
}

func (t *toy) Straggler(sent []byte, fd int) {
	fmt.Println("straggler", string(sent))
	unix.Close(fd)
}

func (t *toy) Released() { fmt.Println("released") }

// client is a client of a toy.
type client struct {
	t     *testing.T
	conn  net.Conn
	lines *bufio.Reader
	count int
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{t: t, conn: c, lines: bufio.NewReader(c)}
}

// ask asks once, and returns which process has answered; 0 if the connection is closed.
func (c *client) ask() (pid int) {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(30 * time.Second))
	c.conn.Write([]byte("x"))
	line, err := c.lines.ReadString('\n')
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			c.t.Fatal("no answer")
		}
		return 0
	}
	var count int
	if _, err := fmt.Sscanf(line, "%d %d\n", &pid, &count); err != nil {
		c.t.Fatalf("%q: %v", line, err)
	}
	if c.count++; count != c.count {
		c.t.Fatalf("answer %d, want %d: it is lost or repeated", count, c.count)
	}
	return pid
}
