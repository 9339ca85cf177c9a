package loop

import "time"

// A pacer spreads over time what makes clients reconnect, so that they do not all come back at once: one
// turn for each client. It is a bucket of turns. A few, paceLeast, are there at once; then as many come in
// each second as are needed for all clients within the time that is configured, and paceLeast at least. It
// knows no connection, and holds no timer: what waits for a turn asks again after wait.
type pacer struct {
	over time.Duration // in which all clients have a turn; 0: nobody waits

	// turns are there at the time at. Zero: paceLeast are.
	turns float64
	at    time.Time
}

const (
	// paceLeast is how many turns there are in a second at least, and at once after a pause.
	paceLeast = 100
	// paceStep is the least time between two looks at who has a turn.
	paceStep = 50 * time.Millisecond
)

// rate returns the turns in a second if there are so many clients.
func (p *pacer) rate(clients int) float64 { return max(paceLeast, float64(clients)/p.over.Seconds()) }

// take takes a turn, if there is one. The time does not go back.
func (p *pacer) take(now time.Time, clients int) bool {
	if p.over <= 0 {
		return true
	}
	if p.at.IsZero() {
		p.turns = paceLeast
	} else {
		p.turns = min(p.turns+now.Sub(p.at).Seconds()*p.rate(clients), max(paceLeast, p.rate(clients)*paceStep.Seconds()))
	}
	if p.at = now; p.turns < 1 {
		return false
	}
	p.turns--
	return true
}

// wait returns after which time there is a turn again, where take has found none.
func (p *pacer) wait(clients int) time.Duration {
	return max(time.Duration((1-p.turns)/p.rate(clients)*float64(time.Second)), paceStep)
}
