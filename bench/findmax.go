package bench

import (
	"context"
	"fmt"
	"time"
)

// Try is one rate that a search has tried.
type Try struct {
	Rate     float64 `json:"rate"` // messages per second
	Duration string  `json:"duration"`
	Held     bool    `json:"held"`
	Why      string  `json:"why,omitempty"` // it was not held
	P99      float64 `json:"p99"`           // seconds
	CatchUp  float64 `json:"catch_up"`      // seconds
}

// A search goes in three steps. It doubles the rate until one is not held,
// halves the gap until it is below searchPrecision, and then holds the rate for
// the whole duration, stepping down until that succeeds. The first two use
// short probes with half the bound for catching up. They tend to pass a rate
// that is a little too high, because a backlog needs time to grow; the third
// step finds that out, and its tries alone count.
const (
	searchPrecision = 1.06
	searchStepDown  = 0.9
	searchProbe     = 5 // a probe's part of the duration
)

// findMax looks for the highest rate that is held: nothing lost, nobody cut, in
// order, and all delivered within CatchUp after the last message was due.
func (r *fanout) findMax(ctx context.Context) error {
	probe := r.Duration / searchProbe
	low, high := 0.0, 0.0
	for rate := r.Rate; high == 0 || (low == 0 || high/low > searchPrecision); {
		_, held, err := r.try(ctx, rate, probe)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if held {
			low = rate
		} else {
			high = rate
		}
		switch {
		case high == 0:
			rate *= 2
		case low == 0:
			rate /= 2
			if rate*probe.Seconds() < 1 {
				return fmt.Errorf("the server cannot sustain even %.3g messages per second: try fewer --subscribers", high)
			}
		default:
			rate = (low + high) / 2
		}
		if rate*r.Duration.Seconds() > publicationsMax {
			r.Result.Notes = append(r.Result.Notes, "the search stopped at the largest number of messages that a run can have: use more --subscribers")
			break
		}
	}
	for rate := low; ; rate *= searchStepDown {
		a, held, err := r.try(ctx, rate, r.Duration)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if held {
			r.report(a)
			r.Result.Set("rate_held", rate)
			if r.lateTries > 0 && r.lateTries == r.failedTries {
				r.Result.invalidate("every higher rate failed because of the tester, not the server: give the tester more CPU, or use more --subscribers")
			}
			return nil
		}
		if rate*r.Duration.Seconds() < 1 {
			return fmt.Errorf("the server could not sustain any rate for %s: try fewer --subscribers", r.Duration)
		}
	}
}

// try reports whether a rate is held for a while. It leaves a fleet that is
// complete and quiet.
func (r *fanout) try(ctx context.Context, rate float64, d time.Duration) (*account, bool, error) {
	n := max(int(rate*d.Seconds()), 1)
	bound := r.CatchUp
	if d < r.Duration {
		bound /= 2
	}
	a, err := r.phase(ctx, "trying", rate, n, bound)
	if ctx.Err() != nil {
		return a, false, err
	}
	why := a.whyNotHeld(bound)
	if err != nil {
		why = err.Error() // a publisher that was cut is a rate that was not held
	}
	r.Result.Tries = append(r.Result.Tries, Try{
		Rate: rate, Duration: d.String(), Held: why == "", Why: why,
		P99: float64(a.latency.ValueAtPercentile(99)) / 1e6, CatchUp: a.catchUp().Seconds(),
	})
	if why != "" {
		r.failedTries++
		if err == nil && a.serverHeld(bound) {
			r.lateTries++
		}
	}
	switch {
	case err != nil || a.cut > 0:
		r.disconnect()
		return a, false, r.connect(ctx)
	case why != "":
		r.calm(ctx)
	}
	return a, why == "", nil
}

// calm waits until the server has got rid of its backlog: until a second
// passes without a message, a minute at most.
func (r *fanout) calm(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before := r.fleet.totalReads()
	for range 60 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := r.fleet.totalReads()
		if now == before {
			return
		}
		before = now
	}
}

// serverHeld tells that nothing but the generator's lateness was wrong.
func (a *account) serverHeld(bound time.Duration) bool {
	return a.cut == 0 && a.lost == 0 && a.repeated == 0 && a.reordered == 0 && a.catchUp() <= bound
}

// whyNotHeld returns a sentence, or nothing when the rate was held.
func (a *account) whyNotHeld(bound time.Duration) string {
	switch {
	case a.cut > 0:
		return fmt.Sprintf("%d connections closed", a.cut)
	case a.lost > 0:
		return fmt.Sprintf("%d deliveries missing %s after the last message was due", a.lost, bound)
	case a.catchUp() > bound:
		return fmt.Sprintf("%s behind after the last message was due", a.catchUp().Round(time.Millisecond))
	case a.lateShare() > lateShareMax:
		return fmt.Sprintf("the tester sent %.1f %% of the messages late", 100*a.lateShare()) // the rate was not offered
	case a.repeated > 0 || a.reordered > 0:
		return fmt.Sprintf("%d repeated, %d reordered", a.repeated, a.reordered)
	}
	return ""
}
