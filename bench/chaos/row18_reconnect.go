package main

import (
	"slices"
	"strings"
	"time"

	"sluice/bench/sys"
)

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
		{"plain", Param(r, "clients", 400, 10_000), false, 5 * time.Second},
		{"TLS", Param(r, "clients_tls", 100, 3000), true, 10 * time.Second},
	} {
		r.Phase(s.name + " after a kill")
		r.killed(s, times)
		r.Phase(s.name + " after a cut")
		r.cut(s, times)
	}
	return nil
}

// killed: the gateway is killed and started again, so that its channels begin anew:
// every client has to be told.
func (r *Run) killed(s storm, times int) {
	g, clients, gate := r.stormy(s)
	var took []time.Duration
	for range times {
		r.publishSome(g)
		g.Kill()
		r.atTheGate(clients)
		g = must(r.Start(append(s.flags(g.Secure), "--listen", g.Public)...))
		took = append(took, r.back(clients, gate))
	}
	r.publishSome(g)
	r.returned(s, "kill", took)
	noError(r.JudgeClients(g))
	told := 0
	for _, c := range clients {
		told += c.account.ends(Gap, -1)
	}
	r.Check("notified of the restart", told == times*len(clients), "%d gap records for %d restarts and %d clients", told, times, len(clients))
	g.Kill()
}

// cut: all connections are reset while publishing goes on, so that everybody has
// missed something, which the gateway still has.
func (r *Run) cut(s storm, times int) {
	rate := Param(r, "messages_per_second", 20.0, 2.0)
	away := Param(r, "away", 300*time.Millisecond, 3*time.Second)
	g, clients, gate := r.stormy(s)
	var took []time.Duration
	p := r.Publish(g, "row", rate, 128)
	for range times {
		noError(r.Pause(away))
		for _, c := range clients {
			c.Cut()
		}
		r.atTheGate(clients)
		noError(r.Pause(away))
		took = append(took, r.back(clients, gate))
	}
	must(r.StopPublishing(p))
	r.Settle(backWithin)
	r.returned(s, "cut", took)
	noError(r.Judge(g))
	gaps := slices.ContainsFunc(clients, func(c *Client) bool { return c.account.gaps() })
	r.Check("recovered", !gaps, "%d clients reconnected %d times, with a gap: %v", len(clients), times, gaps)
	g.Kill()
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
func (r *Run) stormy(s storm) (*Gateway, []*Client, *Gate) {
	g := must(r.Start(s.flags("")...))
	gate := NewGate()
	return g, must(r.Join(g, s.n, ClientOptions{Name: s.name, Channel: "row", ComeBack: true, TLS: s.tls, Gate: gate})), gate
}

// publishSome publishes a little and waits until all have it.
func (r *Run) publishSome(g *Gateway) {
	p := r.Publish(g, "row", 20, 128)
	err := r.Pause(100 * time.Millisecond)
	must(r.StopPublishing(p))
	r.Settle(backWithin)
	noError(err)
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
	overflows := sys.ListenOverflows()
	begin, first := time.Now(), 0
	gate.Open()
	all := r.Await(backWithin, func() bool {
		for first < len(clients) && clients[first].places.Load() > before[first] {
			first++
		}
		return first == len(clients)
	})
	gate.Shut()
	r.result.Counts["listen_overflows"] += float64(sys.ListenOverflows() - overflows)
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
