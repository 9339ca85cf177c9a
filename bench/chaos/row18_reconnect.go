package chaos

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

func init() {
	register(Row{Number: 18, Name: "reconnect storm", Run: reconnectStorm,
		What: "all clients reconnect at once, after a kill -9 and after their connections were cut; all are back soon, and each recovers the messages it missed or is notified of a gap"})
}

// storm is a kind of client that comes back, and how long all of them may take.
type storm struct {
	name   string
	n      int
	tls    bool
	within time.Duration
}

// backWithin ends the wait for clients that do not come back.
const backWithin = time.Minute

func reconnectStorm(r *Run) error {
	times := Param(r, "times_each", 1, 5)
	for _, s := range []storm{
		{"plain", Size(r, "clients", 400, 10_000), false, 5 * time.Second},
		{"TLS", Size(r, "clients_tls", 100, 3000), true, 10 * time.Second},
	} {
		r.Phase(s.name + " after a kill")
		if err := r.killed(s, times); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		r.Phase(s.name + " after a cut")
		if err := r.cut(s, times); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// killed: the gateway is killed and started again, so that its channels begin anew:
// every client has to be told.
func (r *Run) killed(s storm, times int) error {
	g, clients, gate, err := r.stormy(s)
	if err != nil {
		return err
	}
	var took []time.Duration
	for range times {
		if err := r.publishSome(g); err != nil {
			return err
		}
		g.Stop()
		r.atTheGate(clients)
		if g, err = r.StartBy(Launch{Listen: g.Addr}, s.flags(g.Secure)...); err != nil {
			return err
		}
		took = append(took, r.back(clients, gate))
	}
	if err := r.publishSome(g); err != nil {
		return err
	}
	r.returned(s, "kill", took)
	if err := r.JudgeClients(g); err != nil {
		return err
	}
	told := 0
	for _, c := range clients {
		told += c.account.ends(Gap, -1)
	}
	r.Check("notified of the restart", told == times*len(clients), "%d gap records for %d restarts and %d clients", told, times, len(clients))
	g.Stop()
	return nil
}

// cut: all connections are reset while publishing goes on, so that everybody has
// missed something, which the gateway still has.
func (r *Run) cut(s storm, times int) error {
	rate := Param(r, "messages_per_second", 20.0, 2.0)
	away := Param(r, "away", 300*time.Millisecond, 3*time.Second)
	g, clients, gate, err := r.stormy(s)
	if err != nil {
		return err
	}
	var took []time.Duration
	p := r.Publish(g, "row", rate, 128)
	for range times {
		if err := r.Pause(away); err != nil {
			return err
		}
		for _, c := range clients {
			c.Cut()
		}
		r.atTheGate(clients)
		if err := r.Pause(away); err != nil {
			return err
		}
		took = append(took, r.back(clients, gate))
	}
	if _, err := r.StopPublishing(p); err != nil {
		return err
	}
	r.Settle(backWithin)
	r.returned(s, "cut", took)
	if err := r.Judge(g); err != nil {
		return err
	}
	gaps := slices.ContainsFunc(clients, func(c *Client) bool { return c.account.gaps() })
	r.Check("recovered", !gaps, "%d clients reconnected %d times, with a gap: %v", len(clients), times, gaps)
	g.Stop()
	return nil
}

// flags are those of the gateway, with TLS on a port of its own.
func (s storm) flags(secure string) []string {
	flags := []string{"--history", "1000"}
	if !s.tls {
		return flags
	}
	if secure == "" {
		secure = "127.0.0.1:0"
	}
	return append(flags, "--tls-listen", secure, "--tls-self-signed")
}

// stormy starts a gateway, with clients that come back when the gate opens.
func (r *Run) stormy(s storm) (*Gateway, []*Client, *Gate, error) {
	g, err := r.Start(s.flags("")...)
	if err != nil {
		return nil, nil, nil, err
	}
	gate := NewGate()
	clients, err := r.Join(g, s.n, ClientOptions{Name: s.name, Channel: "row", ComeBack: true, TLS: s.tls, Gate: gate})
	return g, clients, gate, err
}

// publishSome publishes a little and waits until all have it.
func (r *Run) publishSome(g *Gateway) error {
	p := r.Publish(g, "row", 20, 128)
	err := r.Pause(100 * time.Millisecond)
	if _, wrong := r.StopPublishing(p); wrong != nil {
		return wrong
	}
	r.Settle(backWithin)
	return err
}

// atTheGate waits until no client is connected, and all wait for the gate.
func (r *Run) atTheGate(clients []*Client) {
	r.Await(backWithin, func() bool { return !slices.ContainsFunc(clients, (*Client).Connected) })
	r.Pause(2 * comeBackAfter) // ignored: the next step fails
}

// back opens the gate and returns the time in which all have come to their first
// record; more than backWithin if they did not.
func (r *Run) back(clients []*Client, gate *Gate) time.Duration {
	before := make([]int64, len(clients))
	for i, c := range clients {
		before[i] = c.places.Load()
	}
	overflows := listenOverflows()
	begin, first := time.Now(), 0
	gate.Open()
	all := r.Await(backWithin, func() bool {
		for first < len(clients) && clients[first].places.Load() > before[first] {
			first++
		}
		return first == len(clients)
	})
	gate.Shut()
	r.result.Counts["listen_overflows"] += float64(listenOverflows() - overflows)
	took := time.Since(begin)
	if !all {
		took += backWithin
	}
	return took
}

// returned judges how long the clients took. In the short form it only tells it.
func (r *Run) returned(s storm, after string, took []time.Duration) {
	worst := slices.Max(took)
	r.Count(strings.ToLower(s.name)+"_back_after_"+after+"_seconds", worst.Seconds())
	within := s.within
	if !r.judgesSpeed() {
		within = backWithin
	}
	r.Check("back", worst <= within, "%d clients in %v, at most %v", s.n, took, within)
	if overflows := r.result.Counts["listen_overflows"]; r.judgesSpeed() { // else other programs' may be among them
		r.Check("listen overflows", overflows == 0, "%.0f", overflows)
	}
}

// listenOverflows returns how many connects so far found the queue of a listener full,
// of any program in this network namespace; 0 where the kernel does not tell.
func listenOverflows() (n int64) {
	text, _ := os.ReadFile("/proc/net/netstat") // ignored: see above
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if i := slices.Index(names, "ListenOverflows"); i >= 0 && i < len(fields) {
			n, _ = strconv.ParseInt(fields[i], 10, 64) // ignored: the kernel writes numbers
			return n
		}
		names = fields
	}
	return 0
}
