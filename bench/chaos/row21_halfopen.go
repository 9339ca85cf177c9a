package chaos

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

func init() {
	register(Row{Number: 21, Name: "half-open", Run: halfOpen,
		What: "peers vanish as if a cable had been pulled; their connections are soon closed, and their file descriptors are freed"})
}

// vanishedWithin is how long the gateway may hold a peer that is not there any more.
const vanishedWithin = 40 * time.Second

func halfOpen(r *Run) error {
	peers := Size(r, "peers", 100, 10_000)
	flags := Param(r, "gateway", []string{"--ping-interval", "2s", "--pong-timeout", "2s", "--close-timeout", "1s"}, nil)
	within := Param(r, "gone_within", 10*time.Second, vanishedWithin)
	island, err := r.newIsland()
	if err != nil {
		return err
	}
	defer island.end()
	g, err := r.StartBy(Launch{Listen: island.here + ":0"}, append(flags,
		"--max-per-address", "off", "--address-rate", "off", "--message-rate", "off", "--control-rate", "off")...)
	if err != nil {
		return err
	}
	if _, err := g.Counters(); err != nil { // so that its connection is there in both counts
		return err
	}
	before, err := g.descriptors()
	if err != nil {
		return err
	}
	island.run(r.Bin, "bench", "storm", "--url", "ws://"+g.Addr, "--path", "/ws/row", "--connections", fmt.Sprint(peers), "--hold", "1h")
	connections := func() float64 {
		c, err := g.Counters()
		if err != nil {
			return -1
		}
		return c["connections"]
	}
	if !r.Await(30*time.Second, func() bool { return connections() == float64(peers) }) {
		return fmt.Errorf("%.0f of %d peers are connected; their program wrote: %s", connections(), peers, island.said())
	}
	r.Say("%d peers are connected from another network; now the cable is pulled", peers)
	if err := island.pullCable(); err != nil {
		return err
	}
	begin := time.Now()
	left := func() int { n, _ := g.descriptors(); return n - before }                   // ignored: the next check tells of a process that has gone
	gone := r.Await(2*within, func() bool { return connections() == 0 && left() <= 0 }) // longer, to tell how late it is
	took := time.Since(begin)
	r.Count("gone_after_seconds", took.Seconds())
	r.Check("all are gone", gone && took <= within, "%.0f connections and %d file descriptors of %d peers are left after %.1f s, at most %v allowed", connections(), left(), peers, took.Seconds(), within)
	c, err := g.Counters()
	if err != nil {
		return err
	}
	r.Check("C6 closed", c["connections_closed_total"] == float64(peers), "%d peers, %.0f counted: %.0f no_pong, %.0f reset, %.0f write_timeout", peers,
		c["connections_closed_total"], c["connections_closed_total{no_pong}"], c["connections_closed_total{reset}"], c["connections_closed_total{write_timeout}"])
	return nil
}

// island is a network of its own with one process in it, which ends with that process, and
// a cable (a veth pair) to it.
type island struct {
	here   string // address at this end of the cable
	cable  string // name of the interface at this end
	cmd    *exec.Cmd
	orders io.WriteCloser
	log    string // path
	done   chan struct{}
}

// newIsland makes a network. Its process is a shell that waits for a command to become.
func (r *Run) newIsland() (*island, error) {
	if os.Geteuid() != 0 {
		return nil, skipped{"creating a network for the peers needs root: run it as root"}
	}
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, skipped{tool + " is missing: install iproute2 and util-linux"}
		}
	}
	// 198.18.0.0/15 is for tests of networks (RFC 2544): nobody is there.
	a, b := r.random.IntN(256), r.random.IntN(64)*4
	here, there := fmt.Sprintf("198.18.%d.%d", a, b+1), fmt.Sprintf("198.18.%d.%d", a, b+2)
	n := &island{here: here, cable: fmt.Sprintf("sluice%d", os.Getpid()%1e6), log: r.Dir + "/island.log", done: make(chan struct{})}
	// The peers answer to nobody when the row has ended: they die with this process.
	n.cmd = exec.Command("sh", "-c", `read -r go && ip addr add `+there+`/30 dev cable && ip link set cable up && read -r line && eval "exec $line"`)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	file, err := os.Create(n.log)
	if err != nil {
		return nil, err
	}
	defer file.Close() // ignored: the process has its own descriptor
	n.cmd.Stdout, n.cmd.Stderr = file, file
	if n.orders, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, skipped{fmt.Sprintf("cannot create a network for the peers: %v; run it as root, with CAP_SYS_ADMIN", err)}
	}
	go func() {
		defer close(n.done)
		n.cmd.Wait() // ignored: it is killed
	}()
	for _, line := range []string{
		fmt.Sprintf("link add %s type veth peer name cable netns %d", n.cable, n.cmd.Process.Pid),
		fmt.Sprintf("addr add %s/30 dev %s", here, n.cable),
		fmt.Sprintf("link set %s up", n.cable),
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			n.end()
			return nil, skipped{fmt.Sprintf("cannot connect to the peers' network: ip %s: %s", line, out)}
		}
	}
	fmt.Fprintln(n.orders, "go") // ignored: then its process does not connect, which is told
	return n, nil
}

// run makes the island's process become a program.
func (n *island) run(words ...string) {
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	fmt.Fprintln(n.orders, strings.Join(words, " ")) // ignored: as for the first order
}

// said returns what the process wrote.
func (n *island) said() string {
	text, _ := os.ReadFile(n.log) // ignored: then there is nothing to quote
	return fmt.Sprintf("%.500s", text)
}

// pullCable takes the far end down, so that nothing arrives there and nobody here
// is told.
func (n *island) pullCable() error {
	out, err := exec.Command("nsenter", "-t", fmt.Sprint(n.cmd.Process.Pid), "-n", "ip", "link", "set", "cable", "down").CombinedOutput()
	if err != nil {
		return fmt.Errorf("pull the cable: %w: %s", err, out)
	}
	return nil
}

// end ends the process, and with it the network and the cable.
func (n *island) end() {
	n.orders.Close()     // ignored: it has been given all
	n.cmd.Process.Kill() // ignored: it has ended
	<-n.done
	exec.Command("ip", "link", "del", n.cable).Run() // ignored: it goes with the network, which takes a moment
}
