package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"sluice/bench/sys"
	"sluice/bench/trial"
)

const (
	// refusedWithin is how long a client that finds no room may wait for its answer or
	// reset, and how long the gateway may take to let somebody in again.
	refusedWithin = time.Second
	// restingMost is the gateway's CPU while it has no descriptors, of one core.
	restingMost = 0.10
	// knockWithin ends the wait of a client that gets neither.
	knockWithin = 10 * time.Second
)

func noDescriptors(r *Run) error {
	descriptors := Param(r, "descriptors", 300, 300)
	rounds := Param(r, "rounds", 2, 20)
	dials := Param(r, "dials", 220, 1000)
	hold := Param(r, "hold", 200*time.Millisecond, 3*time.Second)
	// The gateway keeps as many descriptors back as it plans for, so it should never run
	// out of them. In every other round the row takes away from it what it has planned with.
	spare := Param(r, "descriptors_left_in_every_other_round", 100, 100)
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		return trial.Skipped("prlimit, which changes the gateway's limit while it runs, is missing: install util-linux")
	}
	g := must(r.StartBy([]string{"sh", "-c", `ulimit -n "$0" && exec "$@"`, fmt.Sprint(descriptors)},
		"--max-handshakes", "16", "--max-per-address", "off", "--address-rate", "off"))
	var worst struct{ refused, back, cpu [2]float64 }
	var unanswered, refusals int
	for i := range rounds {
		kind, limit := i%2, descriptors
		if kind == 1 {
			open := must(g.descriptors())
			limit = open + spare
		}
		if out, err := exec.Command(prlimit, "--pid", fmt.Sprint(g.PID()), fmt.Sprintf("--nofile=%d:", limit)).CombinedOutput(); err != nil {
			return fmt.Errorf("change the gateway's limit: %w: %s", err, out)
		}
		round := r.knocks(g, dials, hold)
		r.Say("round %d, limit %d: %s", i, limit, round)
		worst.refused[kind] = max(worst.refused[kind], round.refused.Seconds())
		worst.back[kind] = max(worst.back[kind], round.back.Seconds())
		worst.cpu[kind] = max(worst.cpu[kind], round.cpu)
		unanswered += round.answers["nothing"]
		refusals += dials - round.answers["101"]
	}
	c := must(g.Counters())
	exhausted := c["descriptors_exhausted_total"]
	r.Count("descriptors_exhausted", exhausted)
	r.Check("the fault happened", refusals > 0 && exhausted > 0, "%d clients refused, %.0f times out of file descriptors", refusals, exhausted)
	r.Check("alive", !g.HasEnded(), "the gateway is still running")
	for kind, name := range []string{"planned", "exhausted"} {
		if kind >= rounds {
			break
		}
		r.Count(name+"_refused_seconds", worst.refused[kind])
		r.Count(name+"_back_seconds", worst.back[kind])
		r.Count(name+"_cpu_of_a_core", worst.cpu[kind])
		if r.judgesSpeed() {
			r.Check(name+": refused", worst.refused[kind] <= refusedWithin.Seconds(), "after at most %.3f s, %v allowed", worst.refused[kind], refusedWithin)
			r.Check(name+": back", worst.back[kind] <= refusedWithin.Seconds(), "after at most %.3f s, %v allowed", worst.back[kind], refusedWithin)
			r.Check(name+": CPU", worst.cpu[kind] <= restingMost, "at most %.1f %% of a core, %.0f %% allowed", 100*worst.cpu[kind], 100*restingMost)
		}
	}
	if r.judgesSpeed() {
		r.Check("every client gets a response", unanswered == 0, "%d clients got no response within %v", unanswered, knockWithin)
	}
	return nil
}

// descriptors counts what the process has open.
func (g *Gateway) descriptors() (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.PID()))
	return len(entries), err
}

// cpu returns the CPU time that the process has used.
func (g *Gateway) cpu() time.Duration {
	used, err := sys.CPU(g.PID())
	if err != nil {
		noError(fmt.Errorf("the gateway has exited: %w", err))
	}
	return used
}

// round is what many clients at once came to.
type round struct {
	answers map[string]int
	refused time.Duration // the longest wait for a refusal
	back    time.Duration // until somebody was let in again
	cpu     float64       // of one core
}

func (o round) String() string {
	return fmt.Sprintf("%v, refused after at most %v, %.1f %% of a core, accepting again after %v", o.answers, o.refused.Round(time.Millisecond), 100*o.cpu, o.back.Round(time.Millisecond))
}

// knocks has n clients ask to be let in at once, and those who are go after a time.
func (r *Run) knocks(g *Gateway, n int, hold time.Duration) (o round) {
	o.answers = map[string]int{}
	var mu sync.Mutex // guards o and inside
	var inside []net.Conn
	var all sync.WaitGroup
	before := g.cpu()
	begin := time.Now()
	for range n {
		all.Go(func() {
			conn, answer, took := knock(g.Public, knockWithin)
			mu.Lock()
			defer mu.Unlock()
			if o.answers[answer]++; conn != nil {
				inside = append(inside, conn)
			} else {
				o.refused = max(o.refused, took)
			}
		})
	}
	all.Wait()
	noError(r.Pause(hold))
	o.cpu = (g.cpu() - before).Seconds() / time.Since(begin).Seconds()
	for _, c := range inside {
		reset(c.(*net.TCPConn))
	}
	released := time.Now()
	if !r.Await(knockWithin, func() bool {
		conn, _, _ := knock(g.Public, refusedWithin)
		if conn != nil {
			reset(conn.(*net.TCPConn))
		}
		return conn != nil
	}) {
		noError(errors.New("no client is accepted after all have left"))
	}
	o.back = time.Since(released)
	return o
}

// knock asks for an upgrade. It returns the connection when it is let in, and the
// answer: a status, reset for an end without one, nothing.
func knock(addr string, within time.Duration) (conn net.Conn, answer string, took time.Duration) {
	begin := time.Now()
	conn, _, _, err := ws.Dialer{Timeout: within}.Dial(context.Background(), "ws://"+addr+"/ws/row")
	took = time.Since(begin)
	var status ws.StatusError
	var timeout net.Error
	switch {
	case err == nil:
		return conn, "101", took
	case errors.As(err, &status):
		return nil, strconv.Itoa(int(status)), took
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, "nothing", took
	}
	return nil, "reset", took
}
