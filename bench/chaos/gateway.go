package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"sluice/bench/child"
	"sluice/bench/sys"
)

// Gateway is a gateway that a row has started, as a process of its own.
type Gateway struct {
	*child.Process
	run  *Run
	name string
}

// Start starts a gateway with additional flags, on free loopback ports where they name none.
func (r *Run) Start(flags ...string) (*Gateway, error) { return r.StartBy(nil, flags...) }

// StartBy is Start through a command that runs the command after its arguments.
func (r *Run) StartBy(by []string, flags ...string) (*Gateway, error) {
	words := slices.Concat(by, []string{r.Bin}, child.Arguments(flags...))
	p, err := child.Start(exec.Command(words[0], words[1:]...))
	if err == nil {
		err = p.Ready()
	}
	if err != nil {
		return nil, fmt.Errorf("%w (is --bin right?)", err)
	}
	g := &Gateway{p, r, fmt.Sprintf("gateway-%d", len(r.gateways))}
	r.gateways = append(r.gateways, g)
	r.Say("%s has pid %d, flags %q", g.name, g.PID(), flags)
	return g, nil
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

// dump leaves the gateway's goroutines and metrics beside its log.
func (g *Gateway) dump() {
	g.Signal(syscall.SIGCONT) // ignored: it is not stopped, or has ended
	for name, path := range map[string]string{"goroutines.txt": "/debug/pprof/goroutine?debug=2", "metrics.txt": "/metrics"} {
		body, err := g.Get(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(g.run.Dir, g.name+"-"+name), body, 0o644)
		}
		if err != nil && !g.HasEnded() {
			g.run.Say("%s: no %s: %v", g.name, name, err)
		}
	}
	if g.HasEnded() {
		state, _ := g.Wait()
		g.run.Say("%s has ended: %v", g.name, state)
	}
}
