package bench

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"time"

	"sluice/bench/sys"
)

// Run is a scenario under way: its server, its result and its line of progress.
type Run struct {
	Result *Result

	target   target
	server   processes // nil: not measured
	progress *progress
}

// Begin checks the options, and with check the scenario's own, and begins a run that holds so many
// connections at a time. The error is a [UsageError] when options are invalid. The caller must
// call End.
func (o *Options) Begin(scenario string, connections int, check func(*Faults)) (*Run, error) {
	o.setDefaults()
	var f Faults
	r := &Run{target: o.resolve(&f)}
	check(&f)
	if err := f.err(); err != nil {
		return nil, err
	}
	var err error
	if r.server, err = watch(append([]int{o.PID}, o.PIDs...)...); err != nil {
		return nil, err
	}
	if err := checkDescriptors(connections); err != nil {
		return nil, err
	}
	r.Result, r.progress = newResult(scenario), newProgress(o.Progress)
	return r, nil
}

// End removes the line of progress, and settles the verdict of a run that returned err. It returns
// both. Errors of a run whose ctx has ended are ignored: it was interrupted.
func (r *Run) End(ctx context.Context, err error) (*Result, error) {
	r.progress.stop()
	r.Result.setHandshakes(r.target)
	return r.Result.end(ctx, err)
}

// Show sets what the line of progress says from now on.
func (r *Run) Show(line func() string) { r.progress.show(line) }

// URL returns the address at which clients upgrade.
func (r *Run) URL() *url.URL { return r.target.url }

// Dial opens the n-th TCP connection, from its source address.
func (r *Run) Dial(n int) (*net.TCPConn, error) {
	c, err := r.target.dial(context.Background(), n)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// Secure makes a connection one of TLS. c's deadline bounds the handshake.
func (r *Run) Secure(c net.Conn) (net.Conn, error) { return r.target.secured(c) }

// Usage is CPU time of the server and of the tester.
type Usage struct{ server, own time.Duration }

// Usage returns the CPU time used so far.
func (r *Run) Usage() Usage {
	own, _ := sys.CPU(0) // ignored: a process may always ask for its own time
	return Usage{r.server.cpu(), own}
}

// Since returns the CPU time used since before.
func (r *Run) Since(before Usage) Usage {
	now := r.Usage()
	return Usage{now.server - before.server, now.own - before.own}
}

// SetUsage reports the CPU time that was used within a time, the server's memory and, as the figure
// each, its CPU time for each of n.
func (r *Run) SetUsage(used Usage, took time.Duration, each string, n int64) {
	r.Result.Set("generator_cpu_percent", 100*used.own.Seconds()/took.Seconds())
	if r.server == nil {
		return
	}
	r.Result.Set("server_cpu", used.server.Seconds())
	r.Result.Set("server_cpu_percent", 100*used.server.Seconds()/took.Seconds())
	if each != "" && n > 0 {
		r.Result.Set(each, used.server.Seconds()/float64(n))
	}
	if _, ok := findMetric(r.Result.Scenario, "server_rss"); !ok {
		return
	}
	if rss, err := r.server.rss(); err == nil { // else it has died, and the figure is absent
		r.Result.Set("server_rss", float64(rss))
	}
}

// rss returns the server's memory, 0 where it is not measured.
func (r *Run) rss() (int64, error) {
	if r.server == nil {
		return 0, nil
	}
	n, err := r.server.rss()
	if err != nil {
		err = fmt.Errorf("the server has exited: %w", err)
	}
	return n, err
}

// dial opens connections, as the line of progress shows.
func (r *Run) dial(ctx context.Context, f *fleet, what string, d *dialing) error {
	r.Show(func() string { return fmt.Sprintf("%s %d of %d", what, d.done.Load(), d.connections) })
	return f.dial(ctx, d)
}
