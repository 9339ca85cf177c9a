package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"sluice/bench/child"
)

// vanishedWithin is how long the gateway may hold a peer that is not there any more.
const vanishedWithin = 40 * time.Second

func halfOpen(r *Run) error {
	peers := Param(r, "peers", 100, 10_000)
	flags := Param(r, "gateway", []string{"--ping-interval", "2s", "--pong-timeout", "2s", "--close-timeout", "1s"}, nil)
	within := Param(r, "gone_within", 10*time.Second, vanishedWithin)
	island := r.newIsland()
	defer island.end()
	g := must(r.Start(append(flags, "--listen", island.here+":0",
		"--max-per-address", "off", "--address-rate", "off", "--message-rate", "off", "--control-rate", "off")...))
	must(g.Counters()) // so that its connection is there in both counts
	before := must(g.descriptors())
	island.run(r.Bin, "bench", "storm", "--url", "ws://"+g.Public, "--path", "/ws/row", "--connections", fmt.Sprint(peers), "--hold", "1h")
	connections := func() float64 {
		c, err := g.Counters()
		if err != nil {
			return -1
		}
		return c["connections"]
	}
	if !r.Await(30*time.Second, func() bool { return connections() == float64(peers) }) {
		return fmt.Errorf("%.0f of %d peers are connected; their program wrote: %.500s", connections(), peers, island.Log.String())
	}
	r.Say("%d peers are connected from another network; now the cable is pulled", peers)
	island.pullCable()
	begin := time.Now()
	left := func() int { n, _ := g.descriptors(); return n - before }                   // ignored: the next check tells of a process that has gone
	gone := r.Await(2*within, func() bool { return connections() == 0 && left() <= 0 }) // longer, to tell how late it is
	took := time.Since(begin)
	r.Count("gone_after_seconds", took.Seconds())
	r.Check("all are gone", gone && took <= within, "%.0f connections and %d file descriptors of %d peers are left after %.1f s, at most %v allowed", connections(), left(), peers, took.Seconds(), within)
	c := must(g.Counters())
	r.Check("C6 closed", c["connections_closed_total"] == float64(peers), "%d peers, %.0f counted: %.0f no_pong, %.0f reset, %.0f write_timeout", peers,
		c["connections_closed_total"], c["connections_closed_total{no_pong}"], c["connections_closed_total{reset}"], c["connections_closed_total{write_timeout}"])
	return nil
}

// island is a network of its own with one process in it, which ends with that process, and
// a cable (a veth pair) to it.
type island struct {
	here   string // address at this end of the cable
	cable  string // name of the interface at this end
	orders io.WriteCloser
	*child.Process
}

// newIsland makes a network. Its process is a shell that waits for a command to become.
func (r *Run) newIsland() *island {
	if os.Geteuid() != 0 {
		noError(skipped{"creating a network for the peers needs root: run it as root"})
	}
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			noError(skipped{tool + " is missing: install iproute2 and util-linux"})
		}
	}
	// 198.18.0.0/15 is for tests of networks (RFC 2544): nobody is there.
	a, b := r.random.IntN(256), r.random.IntN(64)*4
	here, there := fmt.Sprintf("198.18.%d.%d", a, b+1), fmt.Sprintf("198.18.%d.%d", a, b+2)
	n := &island{here: here, cable: fmt.Sprintf("sluice%d", os.Getpid()%1e6)}
	// The peers answer to nobody when the row has ended: they die with this process.
	cmd := exec.Command("sh", "-c", `read -r go && ip addr add `+there+`/30 dev cable && ip link set cable up && read -r line && eval "exec $line"`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	n.orders = must(cmd.StdinPipe())
	var err error
	if n.Process, err = child.Start(cmd); err != nil {
		noError(skipped{fmt.Sprintf("cannot create a network for the peers: %v; run it as root, with CAP_SYS_ADMIN", err)})
	}
	for _, line := range []string{
		fmt.Sprintf("link add %s type veth peer name cable netns %d", n.cable, n.PID()),
		fmt.Sprintf("addr add %s/30 dev %s", here, n.cable),
		fmt.Sprintf("link set %s up", n.cable),
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			n.end()
			noError(skipped{fmt.Sprintf("cannot connect to the peers' network: ip %s: %s", line, out)})
		}
	}
	fmt.Fprintln(n.orders, "go") // ignored: then its process does not connect, which is told
	return n
}

// run makes the island's process become a program.
func (n *island) run(words ...string) {
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	fmt.Fprintln(n.orders, strings.Join(words, " ")) // ignored: as for the first order
}

// pullCable takes the far end down, so that nothing arrives there and nobody here
// is told.
func (n *island) pullCable() {
	out, err := exec.Command("nsenter", "-t", fmt.Sprint(n.PID()), "-n", "ip", "link", "set", "cable", "down").CombinedOutput()
	if err != nil {
		noError(fmt.Errorf("pull the cable: %w: %s", err, out))
	}
}

// end ends the process, and with it the network and the cable.
func (n *island) end() {
	n.orders.Close() // ignored: it has been given all
	n.Kill()
	exec.Command("ip", "link", "del", n.cable).Run() // ignored: it goes with the network, which takes a moment
}
