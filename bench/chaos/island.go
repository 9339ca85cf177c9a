package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"sluice/bench/child"
	"sluice/bench/trial"
)

// island is a network of its own with one process in it, which ends with that process, and cables (veth
// pairs) to it.
type island struct {
	cables []*cable
	orders io.WriteCloser
	*child.Process
}

// cable is a connection of two networks.
type cable struct {
	island      *island
	here, there string // addresses of its two ends
	near, far   string // the names of its interfaces
}

// islands numbers the cables of this process.
var islands int

// newIsland makes a network with cables to it. Its process is a shell that waits for a command to become.
func (r *Run) newIsland(cables int) *island {
	if os.Geteuid() != 0 {
		noError(trial.Skipped("creating a network needs root: run it as root"))
	}
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			noError(trial.Skipped(tool + " is missing: install iproute2 and util-linux"))
		}
	}
	n := new(island)
	// Its processes answer to nobody when the row has ended: they die with this process.
	cmd := exec.Command("sh", "-c", `read -r line && eval "exec $line"`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	n.orders = must(cmd.StdinPipe())
	var err error
	if n.Process, err = child.Start(cmd); err != nil {
		noError(trial.Skipped(fmt.Sprintf("cannot create a network: %v; run it as root, with CAP_SYS_ADMIN", err)))
	}
	lines := []string{n.inside("link set lo up")}
	for i := range cables {
		// 198.18.0.0/15 is for tests of networks (RFC 2544): nobody is there.
		a, b := r.random.IntN(256), r.random.IntN(64)*4
		c := &cable{n, fmt.Sprintf("198.18.%d.%d", a, b+1), fmt.Sprintf("198.18.%d.%d", a, b+2), fmt.Sprintf("slu%dx%d", os.Getpid(), islands), fmt.Sprint("cable", i)}
		islands++
		n.cables = append(n.cables, c)
		lines = append(lines,
			fmt.Sprintf("ip link add %s type veth peer name %s netns %d", c.near, c.far, n.PID()),
			fmt.Sprintf("ip addr add %s/30 dev %s", c.here, c.near),
			fmt.Sprintf("ip link set %s up", c.near),
			n.inside("addr add %s/30 dev %s", c.there, c.far),
			n.inside("link set %s up", c.far))
	}
	for _, line := range lines {
		if err := command(line); err != nil {
			n.end()
			noError(trial.Skipped(fmt.Sprintf("cannot connect to the other network: %v", err)))
		}
	}
	return n
}

// inside returns a command of ip that is run in the island.
func (n *island) inside(format string, args ...any) string {
	return strings.Join(n.words(), " ") + " ip " + fmt.Sprintf(format, args...)
}

// words are before the words of a command that is run in the island.
func (n *island) words() []string { return []string{"nsenter", "-t", fmt.Sprint(n.PID()), "-n"} }

// command runs a command.
func command(line string) error {
	words := strings.Fields(line)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}

// run makes the island's process become a program.
func (n *island) run(words ...string) {
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	fmt.Fprintln(n.orders, strings.Join(words, " ")) // ignored: then it ends, which is noticed
}

// pull takes the far end of a cable down, so that nothing arrives there and this end does not notice.
func (c *cable) pull() { noError(command(c.island.inside("link set %s down", c.far))) }

// plug ends what pull has begun.
func (c *cable) plug() { noError(command(c.island.inside("link set %s up", c.far))) }

// nobody is a hardware address that no interface has.
const nobody = "02:00:00:00:00:01"

// loseTo loses all that is sent to the island, until restore is called: it is sent to a hardware address
// that the far end does not have, so neither end notices. loseFrom loses what is sent from there.
func (c *cable) loseTo() {
	noError(command(fmt.Sprintf("ip neigh replace %s lladdr %s dev %s nud permanent", c.there, nobody, c.near)))
}

func (c *cable) loseFrom() {
	noError(command(c.island.inside("neigh replace %s lladdr %s dev %s nud permanent", c.here, nobody, c.far)))
}

// restore ends what loseTo and loseFrom have begun.
func (c *cable) restore() {
	command(fmt.Sprintf("ip neigh del %s dev %s", c.there, c.near)) // ignored: it may not be there
	command(c.island.inside("neigh del %s dev %s", c.here, c.far))  // ignored: as above
}

// end ends the process, and with it the network and the cables.
func (n *island) end() {
	n.orders.Close() // ignored: it has been given all
	n.Kill()
	for _, c := range n.cables {
		command("ip link del " + c.near) // ignored: it goes with the network, which takes a moment
	}
}
