package bench

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sluice/bench/sys"
)

// What upgrades do to clients is tested with the real gateway, in cmd/sluice.

func TestUpgradeFailsWhereTheGatewayDoesNotStart(t *testing.T) {
	t.Parallel()
	for program, why := range map[string]string{"/nonexistent/sluice": "no such file", "/bin/false": "the gateway did not start"} {
		for _, secure := range []bool{false, true} {
			o := UpgradeOptions{Program: program, Connections: 2, Rate: 1, Secure: secure}
			if _, err := Upgrade(t.Context(), o); err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%s, with TLS %v: got %v, want %q", program, secure, err, why)
			}
		}
	}
}

// A child is found once it has executed its program, and the memory of both is the peak.
func TestWatchSeesTheChildOfAProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "sleep 60 & read line; kill $!; wait") // which ends when its input does
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait() // ignored: it is killed by its own child's end, or not
	}()
	w := new(lineage).watch(cmd.Process.Pid)
	beginning := startOfArguments(cmd.Process.Pid)
	for end := time.Now().Add(30 * time.Second); childOf(cmd.Process.Pid, beginning) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the child is not found")
		}
	}
	own, err := sys.Bytes(sys.Status(cmd.Process.Pid), "VmRSS")
	if err != nil {
		t.Fatal(err)
	}
	w.looked(t, 30*time.Second)
	in.Close() // ignored: then the test fails
	w.wait(t.Context())
	<-ended
	if w.before <= 0 || w.peak <= own {
		t.Errorf("memory before %d, of both %d, and of the process alone %d", w.before, w.peak, own)
	}
	if childOf(os.Getpid(), startOfArguments(os.Getpid())) == cmd.Process.Pid {
		t.Error("a process that has ended is found")
	}
}

// looked waits until the child was seen.
func (w *watching) looked(t *testing.T, most time.Duration) {
	t.Helper()
	for end := time.Now().Add(most); w.both.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the child is not seen")
		}
	}
}
