package main

import (
	"os"
	"testing"

	"sluice/bench/trial/trialtest"
	"sluice/poller/leaktest"
)

// The figures start this program as bare publishers; in a test, that is the test's binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "bare-publisher" {
		main()
		return
	}
	leaktest.Main(m)
}

// Under the race detector are the figures in which the most happens at once.
func TestFigures(t *testing.T) {
	trialtest.Short(t, program(new(Options)), "durable-kill", "resume")
}

func TestPageListsTheFigures(t *testing.T) { trialtest.Page(t, newCommand(), "../README.md") }

func TestFigureFailsWhereNoGatewayStarts(t *testing.T) {
	trialtest.NoGateway(t, newCommand(), "durable-latency")
}

func TestUsageErrorsComeBeforeAnythingRuns(t *testing.T) {
	trialtest.Usage(t, newCommand, map[string]string{
		"":                    "no figure given",
		"rate speed":          "speed: no such figure; use one of durable-kill, ",
		"rate --rounds -1":    "--rounds -1 is out of range",
		"rate --deadline 25h": "--deadline 25h0m0s is out of range",
	})
}
