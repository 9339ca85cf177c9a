package main

import (
	"fmt"
	"strings"

	"sluice/bench/sys"
	"sluice/bench/trial"
)

// Gateway is a gateway that a row has started, as a process of its own.
type Gateway struct{ *trial.Gateway }

// Start starts a gateway with additional flags, on free loopback ports where they name none.
func (r *Run) Start(flags ...string) (*Gateway, error) { return r.StartBy(nil, flags...) }

// StartBy is Start through a command that runs the command after its arguments.
func (r *Run) StartBy(by []string, flags ...string) (*Gateway, error) {
	g, err := r.Gateway(by, flags...)
	return &Gateway{g}, err
}

// Counters returns the gateway's counters and gauges, without the prefix sluice_: for each name
// the sum over its labels, and as name{value} the metric of each label value.
func (g *Gateway) Counters() (map[string]float64, error) {
	metrics, err := g.Metrics()
	if err != nil {
		return nil, err
	}
	counters := map[string]float64{}
	for name, family := range metrics {
		name, ours := strings.CutPrefix(name, "sluice_")
		if !ours {
			continue
		}
		for _, series := range family.GetMetric() {
			v := series.GetCounter().GetValue() + series.GetGauge().GetValue()
			counters[name] += v
			for _, label := range series.GetLabel() {
				if label.GetName() != "loop" {
					counters[name+"{"+label.GetValue()+"}"] += v
				}
			}
		}
	}
	return counters, nil
}

// memory returns a line of the process's memory in bytes: VmRSS, or VmHWM for its peak so far.
func (g *Gateway) memory(line string) float64 {
	n, err := sys.Bytes(sys.Status(g.PID()), line)
	if err != nil {
		noError(fmt.Errorf("the gateway has exited: %w", err))
	}
	return float64(n)
}
