package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestConnectionsBeyondTheLimitAreAnswered(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxConnections: 2})
	a, b := dial(t, s, "/ws"), dial(t, s, "/echo")
	for range 3 {
		c := connect(t, s)
		c.write(upgradeTo("/ws"))
		if got := c.wantStatus("two are in", http.StatusServiceUnavailable); got.Header.Get("Retry-After") == "" || !got.Close {
			t.Errorf("got header %v, want Retry-After and the end", got.Header)
		}
	}
	if n := s.counted("max_connections"); n != 3 {
		t.Errorf("%d refusals are counted, want 3", n)
	}
	a.vanish()
	s.wantConnections(1)
	dial(t, s, "/ws").settle(s)
	b.settle(s)
}

func TestChannelsBeyondTheLimitAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxChannels: 2})
	a, _ := dial(t, s, "/ws/a"), dial(t, s, "/ws/b")
	dial(t, s, "/ws/c").wantClose("two channels are there", 1013)
	s.wantClosed(reasonChannels, 1)
	dial(t, s, "/ws/a").settle(s) // one that is there can be joined
	a.vanish()
	s.wantClosed(reasonReset, 1)
	dial(t, s, "/echo").settle(s) // an echo needs no channel
}

func TestRepliesBeyondTheLimitCloseTheConnection(t *testing.T) {
	plainOnly(t)
	t.Parallel()
	s := start(t, Config{})
	s.do(func(l *loop) { l.cfg.MaxPending = 17 << 10 }) // Validate does not allow what makes this possible
	c := dial(t, s, "/echo")
	c.send(text(stars(6<<10)), text(stars(6<<10)), text(stars(6<<10)), text("too many"))
	for range 3 {
		c.wantText("its replies come before the end", stars(6<<10))
	}
	c.wantClose("too many pending replies", 1013)
	s.wantClosed(reasonPendingFull, 1)
}

// A client that sends and does not read makes the gateway stop reading it; what
// is held stays bounded, and nothing is lost when the client reads again.
func TestEchoFloodWaitsInTheClientsOwnSocket(t *testing.T) {
	t.Parallel()
	s := start(t, Config{SendBuffer: 4 << 10, WriteTimeout: -1, PingInterval: -1})
	c := dialSmall(t, s, "/echo")
	n := scaled(4_000, 1_000)
	texts := numbered(n, 2000)
	sent := make(chan error, 1)
	go func() {
		var wire []byte
		for _, p := range texts {
			wire = append(wire, text(p)...)
		}
		c.conn.SetWriteDeadline(time.Now().Add(patience)) // ignored: then the write fails
		_, err := c.conn.Write(wire)
		sent <- err
	}()
	waitFor(t, "the gateway to stop reading", func() bool {
		stopped := false
		s.do(func(l *loop) {
			for _, c := range l.conns {
				stopped = !c.reads()
			}
		})
		return stopped
	})
	s.quiet()
	if held := s.held(); held > 256<<10 {
		t.Errorf("%d bytes are held for one client", held)
	}
	for i, p := range texts {
		c.wantText(fmt.Sprint("echo ", i), p)
	}
	if err := receive(t, "the writer", sent); err != nil {
		t.Error(err)
	}
	c.settle(s)
	if held := s.held(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

func TestIncompleteMessagesShareABudget(t *testing.T) {
	t.Parallel()
	const budget = 1 << 20
	s := start(t, Config{Loops: 1, MaxBuffered: 2 * budget, CloseTimeout: time.Minute})
	half := part(0x81, stars(60<<10))[:50<<10]
	small := dial(t, s, "/ws/x")
	small.send(half[:1000])
	var all []*client
	for i := range 40 {
		c := dial(t, s, "/ws/x")
		c.send(half)
		all = append(all, c)
		waitFor(t, "it to be read", func() bool {
			return s.sum(func(st *loopStats) uint64 { return st.bytesIn.Load() }) == uint64(1000+(i+1)*len(half))
		})
		s.quiet()
		if held := s.held(); held > budget {
			t.Fatalf("%d bytes are held, the budget is %d", held, budget)
		}
	}
	shed := s.closing(reasonBudget) + int(s.closedFor(reasonBudget)) // some are through with closing
	if shed < 10 || shed > 30 {
		t.Errorf("%d of 40 are shed, want about half", shed)
	}
	told := 0
	for _, c := range all {
		c.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // ignored: then the read fails
		if b, err := c.in.Peek(2); err == nil && b[0] == 0x88 {
			c.wantClose("the budget is used up", 1013)
			told++
		}
	}
	if told != shed {
		t.Errorf("%d of %d that were shed are told", told, shed)
	}
	small.send(part(0x81, stars(60<<10))[1000:])
	small.wantText("who holds little is spared", stars(60<<10))
}

// childEnv makes the test binary a server: see TestNoDescriptorLeft.
const childEnv = "SLUICE_TEST_FEW_DESCRIPTORS"

// childDescriptors is how many descriptors the child may have.
const childDescriptors = 60

// serveWithFewDescriptors serves until its input ends. Its limit is lowered only
// once it serves, because New sees to it that this cannot happen.
func serveWithFewDescriptors() int {
	runtime.LockOSThread()
	s, err := New(Config{Loops: 1, MaxHandshakes: 4, HandshakeTimeout: time.Minute})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	for !s.Ready() {
		runtime.Gosched()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: childDescriptors, Max: childDescriptors}); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(l.Addr())
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() { // each line asks for the counts
		fmt.Println(s.stats.descriptors.Load(), s.stats.outcomes[rejectDescriptors.Reason].Load(), s.connections.Load())
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	<-served
	return 0
}

// Where accepting fails for want of a descriptor, clients are answered, nothing
// spins, and service is back as soon as there are descriptors.
func TestNoDescriptorLeft(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	counts := func() (exhausted, answered, connections int) {
		io.WriteString(in, "\n") // ignored: then no line comes
		if _, err := fmt.Sscan(receive(t, "the child's counts", lines), &exhausted, &answered, &connections); err != nil {
			t.Fatal(err)
		}
		return exhausted, answered, connections
	}
	s := &server{t: t, addr: receive(t, "the child to serve", lines)}

	var upgraded []*client
	refused, unanswered := 0, 0
	for refused < 20 {
		c := connect(t, s)
		c.write(upgradeTo("/ws"))
		c.patience()
		resp, err := http.ReadResponse(c.in, nil)
		switch {
		case err != nil:
			if unanswered++; unanswered == 1 {
				t.Errorf("client %d is not answered: %v", len(upgraded)+refused, err)
			}
		case resp.StatusCode == http.StatusSwitchingProtocols && refused == 0:
			upgraded = append(upgraded, c)
		case resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
			refused++
			io.Copy(io.Discard, resp.Body) // ignored: wantGone sees what is wrong
			c.vanish()
		default:
			t.Fatalf("client %d: status %d", len(upgraded)+refused, resp.StatusCode)
		}
		if len(upgraded)+unanswered > childDescriptors {
			t.Fatalf("%d are let in, %d refused and %d not answered", len(upgraded), refused, unanswered)
		}
	}
	if _, answered, _ := counts(); answered != refused {
		t.Errorf("%d of %d refusals are counted", answered, refused)
	}

	// When not even one is left to accept with, somebody is answered all the same.
	for range 3 {
		connect(t, s).write("GET /ws HTTP/1.1\r\n")
	}
	for range 3 {
		c := connect(t, s)
		c.write(upgradeTo("/ws"))
		c.wantStatus("handshakes have taken the last descriptors", http.StatusServiceUnavailable)
		c.vanish()
	}
	if exhausted, _, _ := counts(); exhausted == 0 {
		t.Error("accepting never failed: the test shows nothing")
	}

	// Clients that wait in the kernel's queue meanwhile must not cost CPU.
	before, begun := ticks(t, cmd.Process.Pid), time.Now()
	var waiting []*client
	for range 50 {
		c := connect(t, s)
		c.write(upgradeTo("/ws"))
		waiting = append(waiting, c)
	}
	for _, c := range waiting {
		c.wantStatus("it waited for its turn", http.StatusServiceUnavailable)
		c.vanish()
	}
	if used, took := ticks(t, cmd.Process.Pid)-before, time.Since(begun); used > took/4 && used > 100*time.Millisecond {
		t.Errorf("accepting spins: %v of CPU in %v", used, took)
	}
	for _, c := range upgraded[:10] {
		c.vanish()
	}
	waitFor(t, "their end to be seen", func() bool { _, _, n := counts(); return n == len(upgraded)-10 })
	upgraded = upgraded[10:]
	for i := range 5 {
		var c *client
		waitFor(t, "service to be back", func() bool { // one who was waited for may still be turned away
			c = connect(t, s)
			c.write(upgradeTo(fmt.Sprint("/ws/back", i)))
			c.patience()
			resp, err := http.ReadResponse(c.in, nil)
			return err == nil && resp.StatusCode == http.StatusSwitchingProtocols
		})
		c.send(text("service is back"))
		c.wantText("there are descriptors again", "service is back")
		upgraded = append(upgraded, c)
	}
	in.Close() // the child ends
	for _, c := range upgraded {
		c.wantClose("shutdown", 1001)
	}
	for range lines { // Wait must not come before the end of the output
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the child: %v", err)
	}
}

// ticks is the CPU time that a process has used: proc(5), stat, fields 14 and 15.
func ticks(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])   // ignored: 0 shows nothing, and the test passes
	system, _ := strconv.Atoi(fields[12]) // ignored: likewise
	return time.Duration(user+system) * 10 * time.Millisecond
}
