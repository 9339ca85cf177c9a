package main

import (
	"testing"

	"sluice/bench/hostile"
	"sluice/bench/trial/trialtest"
	"sluice/poller/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// The short form of every row, with fewer seconds and clients than the long one but
// the same judge. The long forms are `go run ./bench/chaos --row all`.
func TestFaultsLoseNothingSilently(t *testing.T) {
	p := program(&Options{slow: trialtest.Race})
	for _, row := range rows {
		if row.Slow {
			again := row.trial(&Options{Policy: "skip"})
			again.Name += " with skip"
			p.Trials = append(p.Trials, again)
		}
	}
	p.Trials = append(p.Trials, hostileResets.trial(new(Options)))
	trialtest.Short(t, p, "churn", "stalled readers", "stalled readers with skip", "killed node", "join race")
}

// hostileResets is the attack that no row makes.
var hostileResets = Row{Name: "hostile resets", Run: func(r *Run) error {
	g, err := r.Start()
	if err != nil {
		return err
	}
	res, err := hostile.Resets(r.ctx, r.hostile(g, 5000))
	return r.attacked(res, err, 5000)
}}

func TestPageListsTheRows(t *testing.T) { trialtest.Page(t, newCommand(), "../README.md") }

func TestChaosFailsWhereNoGatewayStarts(t *testing.T) { trialtest.NoGateway(t, newCommand(), "8") }

func TestChaosUsageErrorsComeBeforeAnythingRuns(t *testing.T) {
	trialtest.Usage(t, newCommand, map[string]string{
		"":                                    "no row given",
		"--row 8,6":                           "6: no such row; use one of 1, 2, ",
		"rows":                                "rows: no such row",
		"--row 8 --policy drop":               "--policy drop: use close or skip",
		"--row 8 --deadline -1s":              "--deadline -1s is out of range",
		"hostile":                             "no attack given",
		"hostile frames --count -1":           "--count is -1",
		"hostile resets --speak french":       `--speak is "french"`,
		"hostile frames --max-message 8":      "--max-message is 8",
		"hostile handshakes --concurrency -1": "--concurrency is -1",
		"hostile handshakes --fail-if lost>0": `handshakes has no metric "lost"`,
	})
}
