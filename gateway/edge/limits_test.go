package edge

import (
	"bufio"
	"context"
	"errors"
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

	"sluice/gateway/clienttest"
	"sluice/gateway/looptest"
)

func TestConnectionsBeyondTheLimitAreAnswered(t *testing.T) {
	t.Parallel()
	s := start(t, settings{MaxConnections: 2})
	a, b := clienttest.Dial(t, s, "/ws"), clienttest.Dial(t, s, "/echo")
	for range 3 {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws"))
		if got := c.WantStatus("two are in", http.StatusServiceUnavailable); got.Header.Get("Retry-After") == "" || !got.Close {
			t.Errorf("got header %v, want Retry-After and the end", got.Header)
		}
	}
	if n := s.counted("max_connections"); n != 3 {
		t.Errorf("%d refusals are counted, want 3", n)
	}
	a.Vanish()
	s.wantConnections(1)
	clienttest.Dial(t, s, "/ws").Settle(s)
	b.Settle(s)
}

// childEnv makes the test binary a server: see TestNoDescriptorLeft.
const childEnv = "SLUICE_TEST_FEW_DESCRIPTORS"

// childDescriptors is how many descriptors the child may have.
const childDescriptors = 60

// serveWithFewDescriptors serves until its input ends. Its limit is lowered only
// once it serves, because a server sees to it that this cannot happen.
func serveWithFewDescriptors() int {
	runtime.LockOSThread()
	s, err := newRig(settings{Loops: 1, MaxHandshakes: 4, HandshakeTimeout: time.Minute})
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
	go func() { served <- s.serve(l) }()
	for !s.edge.Ready() {
		runtime.Gosched()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: childDescriptors, Max: childDescriptors}); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(l.Addr())
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() { // each line asks for the counts
		fmt.Println(s.edge.stats.descriptors.Load(), s.edge.stats.outcomes[rejectDescriptors.Reason].Load(), s.edge.connections.Load())
	}
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	if err := s.stop(ctx); err != nil {
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
		if _, err := fmt.Sscan(clienttest.Receive(t, "the child's counts", lines), &exhausted, &answered, &connections); err != nil {
			t.Fatal(err)
		}
		return exhausted, answered, connections
	}
	s := &rig{addr: clienttest.Receive(t, "the child to serve", lines)}

	var upgraded []*clienttest.Client
	refused, unanswered := 0, 0
	for refused < 20 {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws"))
		c.Patience()
		resp, err := http.ReadResponse(c.In, nil)
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
			c.Vanish()
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
		clienttest.Connect(t, s).Write("GET /ws HTTP/1.1\r\n")
	}
	for range 3 {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws"))
		c.WantStatus("handshakes have taken the last descriptors", http.StatusServiceUnavailable)
		c.Vanish()
	}
	if exhausted, _, _ := counts(); exhausted == 0 {
		t.Error("accepting never failed: the test shows nothing")
	}

	// Clients that wait in the kernel's queue meanwhile must not cost CPU.
	before, begun := ticks(t, cmd.Process.Pid), time.Now()
	var waiting []*clienttest.Client
	for range 50 {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws"))
		waiting = append(waiting, c)
	}
	for _, c := range waiting {
		c.WantStatus("it waited for its turn", http.StatusServiceUnavailable)
		c.Vanish()
	}
	if used, took := ticks(t, cmd.Process.Pid)-before, time.Since(begun); used > took/4 && used > 100*time.Millisecond {
		t.Errorf("accepting spins: %v of CPU in %v", used, took)
	}
	for _, c := range upgraded[:10] {
		c.Vanish()
	}
	clienttest.WaitFor(t, "their end to be seen", func() bool { _, _, n := counts(); return n == len(upgraded)-10 })
	upgraded = upgraded[10:]
	for i := range 5 {
		var c *clienttest.Client
		clienttest.WaitFor(t, "service to be back", func() bool { // one who was waited for may still be turned away
			c = clienttest.Connect(t, s)
			c.Write(clienttest.UpgradeTo(fmt.Sprint("/ws/back", i)))
			c.Patience()
			resp, err := http.ReadResponse(c.In, nil)
			return err == nil && resp.StatusCode == http.StatusSwitchingProtocols
		})
		c.Send(clienttest.Text("service is back"))
		c.WantText("there are descriptors again", "service is back")
		upgraded = append(upgraded, c)
	}
	in.Close() // the child ends
	for _, c := range upgraded {
		c.WantClose("shutdown", 1001)
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

// The kernel reports that there is no descriptor before it looks whether anybody
// waits. The one that is kept for an answer must not be given away then: the next
// client, who comes when there are descriptors again, would be sent away.
func TestSpareDescriptorIsKeptWhileNobodyWaits(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	next := func() string {
		if !lines.Scan() {
			t.Fatalf("the child has ended: %v", lines.Err())
		}
		return lines.Text()
	}
	counts := func() (exhausted, connections int) {
		io.WriteString(in, "\n") // ignored: then no line comes
		if _, err := fmt.Sscan(next(), &exhausted, new(int), &connections); err != nil {
			t.Fatal(err)
		}
		return exhausted, connections
	}
	calm := func() (exhausted int) { // and accepting waits for clients as usual
		last, since := -1, time.Now()
		clienttest.WaitFor(t, "accepting to succeed", func() bool {
			if exhausted, _ = counts(); exhausted != last {
				last, since = exhausted, time.Now()
			}
			return time.Since(since) > 8*acceptPause
		})
		return exhausted
	}
	s := &rig{Gauges: looptest.Gauges{T: t}, addr: next()}
	upgrade := func() (*clienttest.Client, int) {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws"))
		c.Patience()
		resp, err := http.ReadResponse(c.In, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c, resp.StatusCode
	}
	var upgraded []*clienttest.Client
	for {
		c, status := upgrade()
		if status != http.StatusSwitchingProtocols {
			c.Vanish()
			break // there is none left
		}
		upgraded = append(upgraded, c)
	}
	before, _ := counts()
	clienttest.WaitFor(t, "accepting to fail while nobody waits", func() bool { n, _ := counts(); return n > before })
	for _, c := range upgraded[:10] {
		c.Vanish()
	}
	upgraded = upgraded[10:]
	clienttest.WaitFor(t, "their end to be seen", func() bool { _, n := counts(); return n == len(upgraded) })
	calm()
	for i := range 5 {
		c, status := upgrade()
		if status != http.StatusSwitchingProtocols {
			t.Errorf("client %d after the lack: status %d", i, status)
			continue
		}
		upgraded = append(upgraded, c)
	}
	in.Close() // the child ends
	for _, c := range upgraded {
		c.WantClose("shutdown", 1001)
	}
	for lines.Scan() { // Wait must not come before the end of the output
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the child: %v", err)
	}
}
