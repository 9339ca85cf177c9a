package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rig is an old process, and what it and its child print.
type rig struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	lines   chan string
	address string
	pid     int
}

func newRig(t *testing.T, plan string, env ...string) *rig {
	t.Helper()
	r := &rig{t: t, cmd: exec.Command(os.Args[0], "-test.run=^$"), lines: make(chan string, 1000)}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with all new processes
	r.cmd.Env = append(append(os.Environ(), envToy+"=127.0.0.1:0", envPlan+"="+plan), env...)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout, r.cmd.Stderr = write, os.Stderr
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	go func() {
		defer close(r.lines)
		for s := bufio.NewScanner(read); s.Scan(); {
			r.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL) // ignored: all have ended
		r.cmd.Wait()
		for range r.lines {
		}
	})
	r.served()
	return r
}

// line waits for a line that begins so.
func (r *rig) line(begin string) string {
	r.t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case l, ok := <-r.lines:
			if !ok {
				r.t.Fatalf("all processes have ended before %q", begin)
			}
			if strings.HasPrefix(l, "error") && begin != "error" {
				r.t.Log(l)
			}
			if strings.HasPrefix(l, begin) {
				return l
			}
		case <-late:
			r.t.Fatalf("no line %q", begin)
		}
	}
}

// served waits until a process serves.
func (r *rig) served() {
	r.t.Helper()
	l := r.line("serving")
	if _, err := fmt.Sscanf(l, "serving %d %s", &r.pid, &r.address); err != nil {
		r.t.Fatalf("%q: %v", l, err)
	}
}

// give makes the old process hand over.
func (r *rig) give() { io.WriteString(r.stdin, "\n") }

// outcome is who serves the connections after an attempt.
type outcome string

const (
	oldServes outcome = "the old process serves"
	newServes outcome = "the new process serves"
	fresh     outcome = "the connections are closed, and the new process serves new ones"
	nobody    outcome = "everything is closed"
)

// TestEveryPoint kills or stops one of the processes at each point.
func TestEveryPoint(t *testing.T) {
	tests := []struct {
		plan string
		want outcome
	}{
		{"", newServes},
		{"new:hello:kill", oldServes},
		{"new:listeners:kill", oldServes},
		{"new:passed:kill", oldServes},
		{"new:prepared:kill", oldServes},
		{"new:final:kill", oldServes},
		{"new:built:kill", oldServes},
		{"new:ready:kill", oldServes},
		{"new:commit:kill", oldServes},
		{"new:passed:stop", oldServes},
		{"new:final:stop", oldServes},
		{"new:ready:stop", oldServes},
		{"new:commit:stop", oldServes},
		{"new:started:kill", nobody},
		{"old:passing:kill", fresh},
		{"old:frozen:kill", fresh},
		{"old:final:kill", newServes},
		{"old:ready:kill", newServes},
		{"old:committed:kill", newServes},
		{"old:started:kill", newServes},
		{"old:ready:stop", oldServes}, // once it goes on: the new one has ended by itself
	}
	for _, test := range tests {
		name := test.plan
		if name == "" {
			name = "undisturbed"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.plan)
			old := r.pid
			var clients []*client
			for range 20 {
				c := dial(t, r.address)
				if pid := c.ask(); pid != old {
					t.Fatalf("process %d answers, want %d", pid, old)
				}
				clients = append(clients, c)
			}
			r.give()
			if test.plan == "old:ready:stop" {
				// A commit that does not come ends the new process. When the old one goes on, it finds that.
				r.line("error")
				unix.Kill(old, unix.SIGCONT)
			}
			switch test.want {
			case oldServes:
				if l := r.line("gave"); strings.HasSuffix(l, "<nil>") {
					t.Fatalf("%q, want an error", l)
				}
			case nobody:
				r.cmd.Wait()
			default:
				r.served()
				if r.pid == old {
					t.Fatal("the new process is the old one")
				}
			}
			for i, c := range clients {
				want := map[outcome]int{oldServes: old, newServes: r.pid}[test.want]
				if pid := c.ask(); pid != want {
					t.Fatalf("client %d: process %d answers, want %d: %s", i, pid, want, test.want)
				}
			}
			switch test.want {
			case oldServes: // the next attempt succeeds
				r.give()
				r.served()
				for _, c := range clients {
					if pid := c.ask(); pid != r.pid || pid == old {
						t.Fatalf("process %d answers, want %d", pid, r.pid)
					}
				}
			case nobody:
				return
			}
			if pid := dial(t, r.address).ask(); pid != r.pid {
				t.Errorf("process %d answers a new client, want %d", pid, r.pid)
			}
		})
	}
}

// TestRefused has a new process that cannot take over: the old one names the reason, and serves.
func TestRefused(t *testing.T) {
	for _, test := range []struct{ name, env, want string }{
		{"configuration", envNeeds + "=a protocol that is off", "the new process refuses: a protocol that is off is not supported"},
		{"format", envLeast + "=2", "handover: the new process (new) takes formats 2 to 3, and not 1, which this one (old) has"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, "", test.env)
			c := dial(t, r.address)
			r.give()
			if l := r.line("gave"); !strings.HasSuffix(l, test.want) {
				t.Errorf("%q, want %q", l, test.want)
			}
			if pid := c.ask(); pid != r.pid {
				t.Errorf("process %d answers, want %d", pid, r.pid)
			}
		})
	}
}

// TestNoNewProcess tries what is no new process.
func TestNoNewProcess(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	want := errors.New("the operator has changed his mind")
	time.AfterFunc(50*time.Millisecond, func() { cancel(want) })
	if _, err := Give(ctx, exec.Command("sleep", "60"), newToy(), DefaultPatience); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if _, err := Give(context.Background(), exec.Command("true"), newToy(), DefaultPatience); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want that it has ended", err)
	}
	if _, err := Give(context.Background(), exec.Command("/nowhere/sluice"), newToy(), DefaultPatience); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that it is not there", err)
	}
}
