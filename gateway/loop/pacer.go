package loop

import "time"

// A pacer spreads over time what makes clients reconnect, so that they do not all come back at once: one
// turn for each client. It is a bucket of turns: as many come in each second as are needed for all clients within the
// time that is configured, and paceLeast at least. Of those that nobody took, only a few are kept. It
// knows no connection, and holds no timer: what waits for a turn asks again after wait.
type pacer struct {
	over time.Duration // in which all clients have a turn; 0: nobody waits

	// burst is how many turns there are at once at first, and after a pause.
	burst float64
	// turns are there at the time at. Zero: burst are.
	turns float64
	at    time.Time
}

const (
	// paceLeast is how many turns there are in a second at least.
	paceLeast = 100
	// paceStep is the least time between two looks at who has a turn.
	paceStep = 50 * time.Millisecond
	// paceLate is how late a look may be without making all later ones late.
	paceLate = 4 * paceStep
)

// rate returns the turns in a second if there are so many clients.
func (p *pacer) rate(clients int) float64 { return max(paceLeast, float64(clients)/p.over.Seconds()) }

// begin has the turns of a first step there, and no burst.
func (p *pacer) begin(now time.Time, clients int) {
	p.turns, p.at = p.rate(clients)*paceStep.Seconds(), now
}

// pause lets no turns come in the time until now.
func (p *pacer) pause(now time.Time) { p.at = now }

// take takes a turn, if there is one. The time does not go back.
func (p *pacer) take(now time.Time, clients int) bool {
	if p.over <= 0 {
		return true
	}
	if p.at.IsZero() {
		p.turns = p.burst
	} else {
		p.turns = min(p.turns+now.Sub(p.at).Seconds()*p.rate(clients), max(p.burst, p.rate(clients)*paceLate.Seconds()))
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

// An alarm posts a message to a loop after a time. It belongs to the loop.
type alarm struct {
	timer *time.Timer // made when first needed
	set   bool        // it has not rung yet; what it posts unsets it
}

// in has m posted after d, unless it was set before.
func (a *alarm) in(l *Loop, d time.Duration, m Message) {
	switch {
	case a.timer == nil:
		a.timer = time.AfterFunc(d, func() { l.Post(m) })
	case !a.set:
		a.timer.Reset(d)
	}
	a.set = true
}
