package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/bench/child"
	"sluice/bench/trial"
)

// Cluster is gateways that share their channels over NATS servers, or one gateway on its own.
type Cluster struct {
	run      *Run
	Gateways []*Gateway // as they are now: a gateway that was started again is another one
	Servers  []*child.NATS
	flags    [][]string // of each gateway, with the addresses that it has from then on
	started  []*Gateway // as they were at the beginning: their addresses stay
}

// Channels of these names keep a history; the order of the others is each node's own.
func historyChannels(n int) []string { return numberedNames("row-", n) }
func liveChannels(n int) []string    { return numberedNames("live:row-", n) }

func numberedNames(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint(prefix, i))
	}
	return names
}

// clusterNamespaces is the file of namespaces of a cluster's gateways: what is not in "live" keeps a
// history of so many publications.
const clusterNamespaces = `{"without_namespace": {"history_size": %d, "history_ttl": "10m", "force_recovery": true,
  "allow_history_for_client": true, "allow_history_for_anonymous": true, %[2]s},
 "namespaces": [{"name": "live", %[2]s}]}`

const everybodyMay = `"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true, "allow_publish_for_anonymous": true`

// natsBinary returns the nats-server to use: the one that --nats-bin or SLUICE_CHAOS_NATS names, or one of
// those that there are, the module's and Debian's, which is the oldest that is supported.
func (r *Run) natsBinary() string {
	if path := cmp.Or(r.NATSBin, os.Getenv("SLUICE_CHAOS_NATS")); path != "" {
		return path
	}
	all := []string{r.NATSBinary()}
	if found, err := exec.LookPath("nats-server"); err == nil && !r.newNATS {
		all = append(all, found)
	}
	return all[r.random.IntN(len(all))]
}

// StartCluster starts NATS servers and gateways that use them, with additional flags. Without servers it
// is one gateway on its own.
func (r *Run) StartCluster(gateways, servers, history int, flags ...string) *Cluster {
	c := r.startServers(child.NATSOptions{Servers: servers})
	if servers > 0 {
		flags = append(flags[:len(flags):len(flags)], "--nats-url", child.URLs(c.Servers))
	}
	c.startGateways(gateways, history, func(int) []string { return flags })
	return c
}

// startServers starts the NATS servers of a cluster.
func (r *Run) startServers(o child.NATSOptions) *Cluster {
	c := &Cluster{run: r}
	r.clusters = append(r.clusters, c)
	if o.Servers > 0 {
		o.Binary = r.natsBinary()
		c.Servers = r.NATS(o)
	}
	return c
}

// startGateways starts the gateways of a cluster, each with flags of its own, with a history of so many
// publications.
func (c *Cluster) startGateways(n, history int, flags func(i int) []string) {
	r := c.run
	namespaces := filepath.Join(r.Dir, fmt.Sprintf("namespaces-%d.json", len(r.clusters)))
	noError(os.WriteFile(namespaces, fmt.Appendf(nil, clusterNamespaces, history, everybodyMay), 0o644))
	for i := range n {
		words := append(slices.Clone(flags(i)), "--namespaces", namespaces)
		g := must(r.Start(words...))
		c.Gateways = append(c.Gateways, g)
		c.flags = append(c.flags, append(words, "--listen", g.Public, "--internal-listen", g.Internal))
	}
	for _, g := range c.Gateways {
		r.AwaitReady(g.Process)
	}
	c.started = slices.Clone(c.Gateways)
}

// KillGateway kills a gateway and returns when it has ended.
func (c *Cluster) KillGateway(i int) {
	c.run.Say("kill -9 of %s", c.Gateways[i].Name)
	c.Gateways[i].Kill()
}

// StartGateway starts a gateway again, where it listened.
func (c *Cluster) StartGateway(i int) { c.Gateways[i] = must(c.run.Start(c.flags[i]...)) }

// KillServer kills a nats-server and returns when it has ended.
func (c *Cluster) KillServer(i int) {
	c.run.Say("kill -9 of nats-server %d", i)
	c.Servers[i].Kill()
}

// StartServer starts a nats-server again.
func (c *Cluster) StartServer(i int) { noError(c.Servers[i].Again()) }

// freezeProcess stops a process for a time.
func (r *Run) freezeProcess(what string, p *child.Process, d time.Duration) error {
	r.Say("SIGSTOP of %s for %v", what, d)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop %s: %w", what, err)
	}
	err := r.Pause(d)
	if again := p.Signal(syscall.SIGCONT); err == nil {
		err = again
	}
	return err
}

// end kills the cluster.
func (c *Cluster) end() {
	for _, g := range c.Gateways {
		g.Kill()
	}
	for _, s := range c.Servers {
		s.Kill()
	}
}

// currentWithin bounds the wait for all to be as before after a fault.
const currentWithin = 90 * time.Second

// AwaitCurrent waits until all servers are healthy, and each client is connected and has something that
// was published since then. It returns how long the clients took, and ends the row if that does not
// happen.
func (c *Cluster) AwaitCurrent(clients []*Client) time.Duration {
	r := c.run
	healthy := r.Await(currentWithin, func() bool {
		return !slices.ContainsFunc(c.Servers, func(s *child.NATS) bool { return !s.Healthy() })
	})
	if !healthy {
		noError(errors.New("a nats-server is not healthy long after the fault"))
	}
	since := int64(time.Since(r.began))
	behind := func(c *Client) bool { return !c.connected.Load() || c.newest.Load() < since }
	begun, first := time.Now(), 0
	for r.Await(currentWithin, func() bool {
		for first < len(clients) && !behind(clients[first]) {
			first++
		}
		return first == len(clients)
	}) {
		if first = max(slices.IndexFunc(clients, behind), 0); first == 0 && !behind(clients[0]) { // those that were first may have been cut off since
			took := time.Since(begun)
			r.Say("all are current after %v", took.Round(time.Millisecond))
			return took
		}
	}
	n := 0
	for _, c := range clients {
		if behind(c) {
			n++
		}
	}
	r.Check("current", false, "%d of %d clients are not current %v after the fault, such as %s", n, len(clients), currentWithin, clients[first].account.Name)
	noError(errors.New("clients do not become current"))
	return 0
}

// Judge ends the crew, whose authors published to the cluster, and the clients, and has the ledgers
// judged. Where histories were lost, publications may be that had a receipt.
func (c *Cluster) Judge(crew *Crew, lossy bool) {
	r := c.run
	noError(crew.Finish())
	r.settleMany()
	l := r.ledger()
	counts := map[string]int{}
	examples := map[string][]string{}
	fault := func(check, format string, args ...any) {
		if counts[check]++; len(examples[check]) < 3 {
			examples[check] = append(examples[check], fmt.Sprintf(format, args...))
		}
	}
	l.Orders, l.Unseen = r.mergedOrders(fault)
	l.Numbers, l.Written = r.allNumbers(), r.allWritten()
	r.orders = l.Orders // for the ledger of a failure
	received := uint64(0)
	for channel, authors := range l.Written {
		received += judgeNumbers(authors, l.Numbers[channel], fault)
	}
	for _, check := range Judge(l) {
		if strings.HasPrefix(check.Name, "C6") || check.Name == "whole" {
			continue // no gateway had a part in all, and nobody is spared
		}
		if n := counts[check.Name]; n > 0 {
			check.Verdict = trial.Fail
			check.Detail += fmt.Sprintf("; %d more times, for example %q", n, examples[check.Name])
		}
		r.note(check)
	}
	r.Check("acknowledged and not delivered", l.Unseen == 0 || lossy, "%d publications with a receipt that no client has seen", l.Unseen)
	r.tell(l)
	r.Count("received_without_history", float64(received))
	r.countAuthors()
}

// settleMany waits until each client that is connected has the last publication of each author. Clients
// that do not get it are the concern of Judge.
func (r *Run) settleMany() {
	authors := map[string][]*author{} // by channel
	for _, a := range r.authors {
		authors[a.channel] = append(authors[a.channel], a)
	}
	r.Await(30*time.Second, func() bool {
		return !slices.ContainsFunc(r.clients, func(c *Client) bool {
			return c.options.Many && c.connected.Load() && !c.hasLasts(authors[c.account.Channel])
		})
	})
}

// mergedOrders returns the orders of all channels that have one.
func (r *Run) mergedOrders(fault func(check, format string, args ...any)) (orders []*Order, unseen uint64) {
	channels := map[string]bool{}
	for _, c := range r.clients {
		if c.witness != nil {
			channels[c.account.Channel] = true
		}
	}
	for channel := range channels {
		all, n := r.witness(channel).merged(channel, r.authors, fault)
		orders, unseen = append(orders, all...), unseen+n
	}
	return orders, unseen
}

// allNumbers returns what clients have of channels whose order is each node's own, by channel.
func (r *Run) allNumbers() map[string][]*Numbers {
	all := map[string][]*Numbers{}
	for _, c := range r.clients {
		if c.numbers != nil {
			n := len(c.account.Events)
			c.numbers.Stayed = n > 0 && c.account.Events[n-1].Kind == Stayed
			all[c.account.Channel] = append(all[c.account.Channel], c.numbers)
		}
	}
	return all
}

// allWritten returns what was published to them.
func (r *Run) allWritten() map[string][]*written {
	all := map[string][]*written{}
	numbers := r.allNumbers()
	for _, a := range r.authors {
		if numbers[a.channel] != nil {
			all[a.channel] = append(all[a.channel], newWritten(a.name, a.hashes, a.acked))
		}
	}
	return all
}

// countAuthors notes the figures of the authors and of the clients that came back.
func (r *Run) countAuthors() {
	var tried, acked int
	var longest, silent time.Duration
	for _, a := range r.authors {
		t, n := a.counts()
		tried, acked = tried+t, acked+n
		longest, silent = max(longest, a.longest), max(silent, a.silent)
	}
	r.Count("published", float64(acked))
	r.Count("published_without_receipt", float64(tried-acked))
	r.Count("longest_publish_seconds", longest.Seconds())
	r.Count("longest_without_receipt_seconds", silent.Seconds())
	recovered, gaps := r.resumptions()
	r.Count("recovered", float64(recovered))
	r.Count("recovered_share", share(recovered, gaps))
	r.Count("back_p50_seconds", float64(r.returns.ValueAtPercentile(50))/1000)
	r.Count("back_p99_seconds", float64(r.returns.ValueAtPercentile(99))/1000)
}

// resumptions counts how clients of channels with history came back: with all that they had missed, or
// with a gap.
func (r *Run) resumptions() (recovered, gaps int) {
	for _, c := range r.clients {
		if c.numbers != nil {
			continue
		}
		resumed := false
		for _, e := range c.account.Events {
			switch {
			case e.Kind == Resumed:
				resumed = true
			case resumed && e.Kind == Position, resumed && e.Kind == Got:
				recovered++
				resumed = false
			case resumed && e.Kind == Gap:
				gaps++
				resumed = false
			}
		}
	}
	return recovered, gaps
}
