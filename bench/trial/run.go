package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"sluice/bench/child"
)

// Options are the settings of a trial.
type Options struct {
	Short    bool              // seconds and hundreds of clients instead of minutes and thousands
	Set      map[string]string // parameters that differ
	Bin      string            // the gateway's binary
	NATSBin  string            // the NATS server's; see Run.NATSBinary
	Dir      string            // for logs and data; a temporary one when empty, which is kept only after a failure
	Deadline time.Duration     // of one trial; 40 minutes, with Short 2
	Progress io.Writer         // gets a line for each step; none when nil
}

// Run is one trial under way.
type Run struct {
	Options
	Context context.Context // ends with the deadline
	Result  *Result
	Began   time.Time

	gateways []*Gateway    // all so far
	servers  []*child.NATS // all so far
	atEnd    []func()
}

// Do runs one trial. The error says that it could not be started; a gateway that misbehaves is a
// result with the verdict FAIL.
func (p Program) Do(ctx context.Context, t Trial, o Options) (*Result, error) {
	if o.Deadline == 0 {
		o.Deadline = 40 * time.Minute
		if o.Short {
			o.Deadline = 2 * time.Minute
		}
	}
	kept := o.Dir != ""
	var err error
	if kept {
		o.Dir = filepath.Join(o.Dir, t.word())
		err = os.MkdirAll(o.Dir, 0o755)
	} else {
		o.Dir, err = os.MkdirTemp("", "sluice-"+p.Name+"-"+t.word()+"-")
	}
	if err != nil {
		return nil, fmt.Errorf("create a directory: %w; specify --dir", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Deadline, fmt.Errorf("it took longer than %v", o.Deadline))
	defer cancel()
	r := &Run{Options: o, Context: ctx, Result: p.newResult(t, o), Began: time.Now()}
	r.Say("%s: files in %s", r.Result.title, o.Dir)
	err = r.run(t)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	r.Result.settle(err)
	r.end()
	if r.Result.Verdict != Fail && !kept {
		r.Result.Dir = ""
		os.RemoveAll(o.Dir) // ignored: a temporary directory
	}
	return r.Result, nil
}

// stop is what NoError panics with, on the trial's own goroutine.
type stop struct{ error }

// Must returns v, and ends the trial if there is an error.
func Must[T any](v T, err error) T {
	NoError(err)
	return v
}

// NoError ends the trial if there is an error.
func NoError(err error) {
	if err != nil {
		panic(stop{err})
	}
}

// Skipped is the error of a trial that cannot run on this machine, which is no failure: why.
type Skipped string

func (s Skipped) Error() string { return "skipped: " + string(s) }

// run runs the trial and returns the error that has ended it.
func (r *Run) run(t Trial) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stop:
			err = p.error
		default:
			panic(p)
		}
	}()
	return t.Run(r)
}

// AtEnd has f called when the verdict is known and the gateways are still there.
func (r *Run) AtEnd(f func()) { r.atEnd = append(r.atEnd, f) }

// end leaves no process and no goroutine, and after a failure the files that help to understand it.
func (r *Run) end() {
	failed := r.Result.Verdict == Fail
	if failed {
		for _, g := range r.gateways {
			r.dump(g)
		}
		r.WriteFile("result.json", Must(json.Marshal(r.Result))) // of plain values: it cannot fail
		r.Say("kept in %s: logs, and the gateways' goroutines and metrics", r.Dir)
	}
	for _, f := range r.atEnd {
		f()
	}
	r.endChildren()
}

// WriteFile writes a file about the trial into its directory.
func (r *Run) WriteFile(name string, content []byte) {
	if err := os.WriteFile(filepath.Join(r.Dir, name), content, 0o644); err != nil {
		r.Say("the files about the trial are incomplete: %v", err)
	}
}

// Say writes a line of progress.
func (r *Run) Say(format string, args ...any) {
	if r.Progress != nil {
		fmt.Fprintf(r.Progress, "%7.1fs  %s\n", time.Since(r.Began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// Param notes a parameter and returns it: the first in the short form, else the second, unless the
// options set another one.
func Param[T any](r *Run, name string, short, long T) T {
	v := long
	if r.Short {
		v = short
	}
	if text, ok := r.Set[name]; ok {
		NoError(setParam(&v, name, text))
	}
	r.Result.Parameters[name] = fmt.Sprint(v)
	return v
}

// setParam reads a number or a time.
func setParam(v any, name, text string) (err error) {
	if d, ok := v.(*time.Duration); ok {
		*d, err = time.ParseDuration(text)
	} else {
		_, err = fmt.Sscan(text, v)
	}
	if err != nil {
		return fmt.Errorf("--set %s=%s: %w", name, text, err)
	}
	return nil
}

// Pause is time that belongs to the trial: a load that lasts, a fault that lasts.
func (r *Run) Pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-r.Context.Done():
		return context.Cause(r.Context)
	}
}

// Await waits until a condition holds: false when it did not in that time. It is looked at every
// 20 ms, because what is waited for is in another process.
func (r *Run) Await(within time.Duration, condition func() bool) bool {
	end := time.Now().Add(within)
	for !condition() {
		if time.Now().After(end) || r.Pause(20*time.Millisecond) != nil {
			return false
		}
	}
	return true
}

// Until is Await for a condition without which the trial cannot go on. It returns how long that took.
func (r *Run) Until(what string, within time.Duration, condition func() bool) time.Duration {
	begun := time.Now()
	if !r.Await(within, condition) {
		if cause := context.Cause(r.Context); cause != nil {
			NoError(fmt.Errorf("%w, before this: %s", cause, what))
		}
		NoError(fmt.Errorf("not within %v: %s", within, what))
	}
	return time.Since(begun)
}
