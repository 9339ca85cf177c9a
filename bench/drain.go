package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// DrainOptions are the settings of [Drain]. Zero means the default; Protocol must be one of
// Centrifugo's. PID is the process that is stopped, and its CPU is not measured.
type DrainOptions struct {
	Options
	Nodes       []string      // further nodes, which share the channels of URL
	Connections int           // 10,000
	Rate        float64       // publications per second of all channels; 10
	Size        int           // payload bytes; 64
	Baseline    time.Duration // for which latency is measured before; 10 s, negative: not at all
	Within      time.Duration // in which all clients must have come back; 2 min

	stop func() error // stops the node
}

// Defaults of Drain's durations.
const (
	DefaultBaseline = 10 * time.Second
	DefaultWithin   = 2 * time.Minute
)

// leastSpread is the least time over which connections are closed for that to be called even or not.
const leastSpread = 3 * time.Second

// drain is a run under way.
type drain struct {
	DrainOptions
	*Run
	crowd *Crowd
	begin int64 // on the clock: the signal

	closes []time.Duration // after the signal, ascending
}

// Drain connects clients to one node, stops that node with SIGINT, and measures how evenly it closes its
// connections, until all clients are back on other nodes. Meanwhile publishers on the other nodes go on, and it
// checks that every client gets every message. The error is as of [Fanout].
func Drain(ctx context.Context, o DrainOptions) (*Result, error) {
	setDefault(&o.Protocol, Centrifugo)
	setDefault(&o.Connections, 10_000)
	setDefault(&o.Rate, 10)
	setDefault(&o.Size, 64)
	setDefault(&o.Baseline, DefaultBaseline)
	setDefault(&o.Within, DefaultWithin)
	setDefault(&o.Channels, 1)
	if o.stop == nil {
		o.stop = o.interrupt
	}
	crowd := CrowdOptions{Options: o.Options, Nodes: o.Nodes, Clients: o.Connections, Publishers: o.Channels, Rate: o.Rate, Size: o.Size, OnFirst: true, NoteCuts: true, scenario: "drain", more: o.check}
	crowd.PID = 0 // it ends
	c, err := Gather(ctx, crowd)
	if err != nil {
		return nil, err
	}
	defer c.Close() // ignored: the figures have been taken
	d := &drain{DrainOptions: o, Run: c.run, crowd: c}
	return d.End(ctx, d.run(ctx))
}

func (o *DrainOptions) check(f *Faults) {
	if o.PID <= 0 {
		f.Add("--pid is missing: it is the process that is stopped, the server at --url")
	}
	if len(o.Nodes) == 0 {
		f.Add("--node is missing: it is the URL of another node, to which clients reconnect")
	}
	f.AtLeast("--connections", o.Connections, 1)
	if !(o.Rate > 0) {
		f.Add("--rate must be above zero")
	}
	if o.Within < 0 {
		f.Add("--within is %v: use a time above zero", o.Within)
	}
}

// interrupt sends SIGINT to the process.
func (o *DrainOptions) interrupt() error {
	p, err := os.FindProcess(o.PID)
	if err == nil {
		err = p.Signal(os.Interrupt)
	}
	return err
}

func (d *drain) run(ctx context.Context) error {
	c := d.crowd
	c.Publish()
	d.Show(func() string { return "measuring the baseline" })
	before := d.Usage()
	began := time.Now()
	wait(ctx, d.Baseline)
	d.Result.setTimes("baseline_", c.Report().Latency)
	if early := d.cuts(); len(early) > 0 {
		return fmt.Errorf("%d connections were closed before the server was stopped", len(early))
	}
	c.ResetTimes()

	d.begin = c.fleet.clock.now()
	if err := d.stop(); err != nil {
		return fmt.Errorf("stop --pid %d: %w", d.PID, err)
	}
	d.Show(func() string {
		return fmt.Sprintf("stopped: %d of %d clients are connected", c.Connected(), d.Connections+len(c.authors))
	})
	end := time.Now().Add(d.Within)
	for ctx.Err() == nil && time.Now().Before(end) {
		if d.closes = d.cuts(); len(d.closes) >= d.Connections {
			break
		}
		wait(ctx, 20*time.Millisecond)
	}
	current := c.Await(ctx, time.Until(end)) // publishers go on: those that come back catch up with them
	c.Pause(ctx)
	current = c.Await(ctx, max(time.Until(end), d.Timeout)) && current
	d.SetUsage(d.Since(before), time.Since(began), "", 0)
	d.report()
	if n := len(d.closes); n < d.Connections && ctx.Err() == nil {
		return fmt.Errorf("the server has closed %d of %d connections after %v: is --pid the process at --url, and has it room to drain (--drain-duration)?", n, d.Connections, d.Within)
	}
	if rep := c.Report(); !current && ctx.Err() == nil {
		d.Result.noteFailure(rep.Failure)
		return fmt.Errorf("after %v, %d of %d clients are connected, or some have not got everything", d.Within, rep.Connected, rep.Clients)
	}
	return c.fleet.err()
}

// cuts returns when connections were closed, ascending.
func (d *drain) cuts() (all []time.Duration) {
	for _, l := range d.crowd.fleet.loops {
		l.do(func() {
			for _, at := range l.journal.cuts {
				all = append(all, time.Duration(at-d.begin))
			}
		})
	}
	slices.Sort(all)
	return all
}

// mostWithin returns the most of ascending times that lie within a window of time.
func mostWithin(all []time.Duration, window time.Duration) (most int) {
	first := 0
	for i := range all {
		for all[i]-all[first] >= window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func (d *drain) report() {
	res, rep := d.Result, d.crowd.Report()
	res.SetCounts(map[string]int64{
		"connections": int64(d.Connections), "closed": int64(len(d.closes)), "returned": rep.Back.Count, "published": rep.Acknowledged,
		"delivered": rep.Delivered, "lost": rep.Missing + rep.Lost, "told": rep.Told, "repeated": rep.Repeated, "reordered": rep.Reordered,
		"recovered": rep.Recovered, "unrecovered": rep.Unrecovered + rep.Outside,
	})
	if n := len(d.closes); n > 0 {
		first, last := d.closes[0], d.closes[n-1]
		took := last - first
		most, mean := mostWithin(d.closes, time.Second), float64(n)/max(took, time.Second).Seconds()
		res.Set("first_close", first.Seconds())
		res.Set("last_close", last.Seconds())
		res.Set("closes_most", float64(most))
		res.Set("closes_mean", mean)
		if took >= leastSpread {
			res.Set("closes_ratio", float64(most)/mean)
		} else { // one second is the average, or nearly so, however uneven it is
			res.Notes = append(res.Notes, fmt.Sprintf("all connections were closed within %v, so that closes_ratio was not measured: is the server's drain off, or too short?", took.Round(time.Millisecond)))
		}
	}
	res.setTimes("back_", rep.Back)
	res.setTimes("", rep.Latency)
	for _, l := range d.crowd.fleet.loops {
		l.do(func() { res.addCloses(l.closes) })
	}
	if rep.Told+rep.Unrecovered > 0 {
		res.Notes = append(res.Notes, "clients were told that they may have missed messages: do the nodes share their channels, and do the channels keep a history?")
	}
}
