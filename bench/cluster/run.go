package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sluice/bench"
	"sluice/bench/child"
	"sluice/bench/trial"
)

// Options are the settings of figures.
type Options struct {
	Rounds  int    // 0: the figure's own number, with Short 1
	Profile string // directory for profiles; none when empty
}

// Run is one figure under way.
type Run struct {
	*trial.Run
	Options
	repeated  int // loads, because the tester was late
	profiling sync.WaitGroup
}

// trial returns the figure as a trial with these options, when it is run.
func (f Figure) trial(o *Options) trial.Trial {
	return trial.Trial{Name: f.Name, What: f.What, Run: func(t *trial.Run) error {
		r := &Run{Run: t, Options: *o}
		t.AtEnd(r.profiling.Wait)
		if f.Rounds > 0 {
			r.Rounds = Param(r, "rounds", cmp.Or(r.Rounds, 1), cmp.Or(r.Rounds, f.Rounds))
		}
		f.Run(r)
		return nil
	}}
}

// must and noError are those of package trial, and so is Param.
func must[T any](v T, err error) T { return trial.Must(v, err) }
func noError(err error)            { trial.NoError(err) }

// Param notes a parameter and returns it.
func Param[T any](r *Run, name string, short, long T) T { return trial.Param(r.Run, name, short, long) }

// Pause is time that belongs to the figure: a load that lasts.
func (r *Run) Pause(d time.Duration) { noError(r.Run.Pause(d)) }

// Gateway starts a gateway with these flags, on free ports where they name none, and waits until its
// engine is ready.
func (r *Run) Gateway(flags ...string) *child.Process {
	g := must(r.Run.Gateway(nil, flags...))
	r.AwaitReady(g.Process)
	return g.Process
}

// storing returns the flags of a gateway that stores in a new directory.
func (r *Run) storing(flags ...string) []string {
	return append([]string{"--data-dir", r.Subdir("data")}, flags...)
}

// sharing returns the flags of a gateway of a cluster. The servers have room for 4 GB.
func sharing(servers []*child.NATS, flags ...string) []string {
	return append([]string{"--nats-url", child.URLs(servers), "--data-max", "2GiB"}, flags...)
}

// urls returns where clients connect to gateways.
func urls(gateways []*child.Process) (all []string) {
	for _, g := range gateways {
		all = append(all, g.URL("ws", ""))
	}
	return all
}

// Crowd connects a crowd to gateways. It is closed by the caller.
func (r *Run) Crowd(o bench.CrowdOptions, gateways ...*child.Process) *bench.Crowd {
	all := urls(gateways)
	o.URL, o.Nodes = all[0], all[1:]
	begin := time.Now()
	c := must(bench.Gather(r.Context, o))
	r.Say("%d clients have connected in %.1f s", o.Clients+o.Publishers, time.Since(begin).Seconds())
	return c
}

// profile writes a CPU profile of a gateway from now on, if profiles are wanted.
func (r *Run) profile(g *child.Process, name string, d time.Duration) {
	if r.Profile == "" {
		return
	}
	r.profiling.Go(func() {
		body, err := g.Get(fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(int(d.Seconds()), 1)))
		if err == nil {
			err = os.WriteFile(filepath.Join(r.Profile, r.Result.Name+"-"+name+".pprof"), body, 0o644)
		}
		if err != nil {
			r.Say("no profile: %v", err)
		}
	})
}
