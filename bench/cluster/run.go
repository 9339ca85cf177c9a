package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sluice/bench"
	"sluice/bench/child"
)

// Options are the settings of a run.
type Options struct {
	Short    bool
	Rounds   int           // 5, with Short 1
	Bin      string        // the gateway's binary
	NATSBin  string        // the NATS server's; this program when empty
	Dir      string        // for logs and data; a temporary one when empty
	Profile  string        // for profiles; none when empty
	Deadline time.Duration // of one figure; 15 minutes, with Short 2
	Progress io.Writer     // gets a line for each step; none when nil
}

// Run is one figure under way.
type Run struct {
	Options
	ctx    context.Context
	result *Result
	began  time.Time

	gateways []*child.Process // all so far, by their number
	servers  []*child.NATS
	dirs     int
	working  sync.WaitGroup // profiles
}

// Measure measures one figure. The error says that it could not be started; a gateway that does not
// hold a bound is a result with the verdict FAIL.
func Measure(ctx context.Context, f Figure, o Options) (*Result, error) {
	if o.Rounds == 0 {
		o.Rounds = 5
		if o.Short {
			o.Rounds = 1
		}
	}
	if o.Deadline == 0 {
		o.Deadline = 15 * time.Minute
		if o.Short {
			o.Deadline = 2 * time.Minute
		}
	}
	kept := o.Dir != ""
	var err error
	if kept {
		o.Dir = filepath.Join(o.Dir, f.Name)
		err = os.MkdirAll(o.Dir, 0o755)
	} else {
		o.Dir, err = os.MkdirTemp("", "sluice-cluster-"+f.Name+"-")
	}
	if err == nil && o.Profile != "" {
		err = os.MkdirAll(o.Profile, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("create a directory: %w; specify --dir", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Deadline, fmt.Errorf("it took longer than %v", o.Deadline))
	defer cancel()
	r := &Run{Options: o, ctx: ctx, result: newResult(f, o), began: time.Now()}
	r.Say("%s: files in %s", f.Name, o.Dir)
	err = r.run(f)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = errors.Join(cause, err)
	}
	r.result.settle(err)
	r.end()
	if r.result.Verdict != Fail && !kept {
		r.result.Dir = ""
		os.RemoveAll(o.Dir) // ignored: a temporary directory
	}
	return r.result, nil
}

// stop is what must and noError panic with, on the figure's own goroutine.
type stop struct{ error }

// must returns v, and ends the figure if there is an error.
func must[T any](v T, err error) T {
	noError(err)
	return v
}

// noError ends the figure if there is an error.
func noError(err error) {
	if err != nil {
		panic(stop{err})
	}
}

// run measures the figure and returns the error that has ended it.
func (r *Run) run(f Figure) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stop:
			err = p.error
		default:
			panic(p)
		}
	}()
	f.Run(r)
	return r.ctx.Err()
}

// Say writes a line of progress.
func (r *Run) Say(format string, args ...any) {
	if r.Progress != nil {
		fmt.Fprintf(r.Progress, "%7.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// Param notes a parameter and returns it: the first in the short form, else the second.
func Param[T any](r *Run, name string, short, long T) T {
	v := long
	if r.Short {
		v = short
	}
	r.result.Parameters[name] = fmt.Sprint(v)
	return v
}

// Pause is time that belongs to the figure: a load that lasts.
func (r *Run) Pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
		noError(context.Cause(r.ctx))
	}
}

// Await waits until a condition holds, and ends the figure if it does not within a time. It looks
// every few milliseconds, because what it waits for is in another process.
func (r *Run) Await(what string, within time.Duration, condition func() bool) time.Duration {
	begin := time.Now()
	for !condition() {
		if time.Since(begin) > within {
			noError(fmt.Errorf("not within %v: %s", within, what))
		}
		r.Pause(5 * time.Millisecond)
	}
	return time.Since(begin)
}

// subdir returns a new directory of the run's.
func (r *Run) subdir(name string) string {
	r.dirs++
	dir := filepath.Join(r.Dir, fmt.Sprintf("%s-%d", name, r.dirs))
	noError(os.MkdirAll(dir, 0o700))
	return dir
}

// Gateway starts a gateway with these flags, on free ports where they name none.
func (r *Run) Gateway(flags ...string) *child.Process {
	p, err := child.Serve(r.Bin, flags...)
	if err != nil {
		noError(fmt.Errorf("%w (is --bin right?)", err))
	}
	r.gateways = append(r.gateways, p)
	r.Await("a gateway whose engine is ready", 30*time.Second, func() bool {
		_, err := p.Get("/readyz")
		if p.HasEnded() {
			noError(fmt.Errorf("the gateway has ended:\n%s", p.Log.String()))
		}
		return err == nil
	})
	r.Say("gateway %d has pid %d, flags %q", len(r.gateways), p.PID(), flags)
	return p
}

// storing returns the flags of a gateway that stores in a directory.
func storing(dir string, flags ...string) []string {
	return append([]string{"--data-dir", dir}, flags...)
}

// sharing returns the flags of a gateway of a cluster. The servers have room for 4 GB.
func sharing(servers []*child.NATS, flags ...string) []string {
	return append([]string{"--nats-url", child.URLs(servers), "--data-max", "2GiB"}, flags...)
}

// Crowd connects a crowd to gateways. It is closed by the caller.
func (r *Run) Crowd(o bench.CrowdOptions, gateways ...*child.Process) *bench.Crowd {
	o.URL = gateways[0].URL("ws", "")
	for _, g := range gateways[1:] {
		o.Nodes = append(o.Nodes, g.URL("ws", ""))
	}
	begin := time.Now()
	c := must(bench.Gather(r.ctx, o))
	r.Say("%d clients have connected in %.1f s", o.Clients+o.Publishers, time.Since(begin).Seconds())
	return c
}

// profile writes a CPU profile of a gateway from now on, if profiles are wanted.
func (r *Run) profile(g *child.Process, name string, d time.Duration) {
	if r.Profile == "" {
		return
	}
	r.working.Go(func() {
		body, err := g.Get(fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(int(d.Seconds()), 1)))
		if err == nil {
			err = os.WriteFile(filepath.Join(r.Options.Profile, r.result.Name+"-"+name+".pprof"), body, 0o644)
		}
		if err != nil {
			r.Say("no profile: %v", err)
		}
	})
}

// end leaves no process and no goroutine.
func (r *Run) end() {
	for i, g := range r.gateways {
		g.Kill()
		if err := os.WriteFile(filepath.Join(r.Dir, fmt.Sprintf("gateway-%d.log", i+1)), []byte(g.Log.String()), 0o644); err != nil {
			r.Say("no log: %v", err)
		}
	}
	for i, s := range r.servers {
		s.Kill()
		if err := os.WriteFile(filepath.Join(r.Dir, fmt.Sprintf("nats-%d.log", i+1)), []byte(s.Log.String()), 0o644); err != nil {
			r.Say("no log: %v", err)
		}
	}
	r.working.Wait()
}

// median returns the middle of some values.
func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
