package trial

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"sluice/bench/child"
)

// natsServer is the name of the program.
const natsServer = "nats-server"

// Gateway is a gateway that a trial has started, as a process of its own.
type Gateway struct {
	*child.Process
	Name string
}

// Gateway starts a gateway with additional flags, on free loopback ports where they name none, through
// a command that runs the command after its arguments, if there is one.
func (r *Run) Gateway(by []string, flags ...string) (*Gateway, error) {
	words := slices.Concat(by, []string{r.Bin}, child.Arguments(flags...))
	p, err := child.Start(exec.Command(words[0], words[1:]...))
	if err == nil {
		err = p.Ready()
	}
	if err != nil {
		return nil, fmt.Errorf("%w (is --bin right?)", err)
	}
	g := &Gateway{p, fmt.Sprintf("gateway-%d", len(r.gateways))}
	r.gateways = append(r.gateways, g)
	r.Say("%s has pid %d, flags %q", g.Name, g.PID(), flags)
	return g, nil
}

// startWithin bounds the wait for what was started.
const startWithin = 90 * time.Second

// AwaitReady waits until a gateway says that it is ready: its engine is there.
func (r *Run) AwaitReady(g *child.Process) {
	r.Until("the gateway is ready", startWithin, func() bool {
		if g.HasEnded() {
			NoError(fmt.Errorf("the gateway has ended:\n%s", &g.Log))
		}
		_, err := g.Get("/readyz")
		return err == nil
	})
}

// NATSBinary returns the nats-server of the options, else the module's, which is beside the gateway's
// binary or is built.
func (r *Run) NATSBinary() string {
	if r.NATSBin != "" {
		return r.NATSBin
	}
	built := filepath.Join(r.Dir, natsServer)
	for _, path := range []string{filepath.Join(filepath.Dir(r.Bin), natsServer), built} {
		if _, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	NoError(child.BuildNATS(r.Context, built))
	return built
}

// NATS starts NATS servers with JetStream, of one cluster if there are several: those of NATSBinary if
// the options name none.
func (r *Run) NATS(o child.NATSOptions) []*child.NATS {
	if o.Binary == "" {
		o.Binary = r.NATSBinary()
	}
	r.Result.Parameters["nats_server"] = o.Binary
	o.Dir = r.Subdir("cluster")
	all := Must(child.StartNATS(o))
	r.servers = append(r.servers, all...)
	for _, s := range all {
		r.Say("nats-server %s has pid %d", s.URL, s.PID())
	}
	return all
}

// Subdir returns a new directory in the trial's own.
func (r *Run) Subdir(name string) string { return Must(os.MkdirTemp(r.Dir, name+"-")) }

// dump leaves a gateway's goroutines and metrics beside its log.
func (r *Run) dump(g *Gateway) {
	g.Signal(syscall.SIGCONT) // ignored: it is not stopped, or has ended
	for name, path := range map[string]string{"goroutines.txt": "/debug/pprof/goroutine?debug=2", "metrics.txt": "/metrics"} {
		if body, err := g.Get(path); err == nil {
			r.WriteFile(g.Name+"-"+name, body)
		} else if !g.HasEnded() {
			r.Say("%s: no %s: %v", g.Name, name, err)
		}
	}
	if g.HasEnded() {
		state, _ := g.Wait()
		r.Say("%s has ended: %v", g.Name, state)
	}
}

// endChildren ends all processes and keeps their logs.
func (r *Run) endChildren() {
	for _, g := range r.gateways {
		g.Kill()
		r.WriteFile(g.Name+".log", []byte(g.Log.String()))
	}
	for i, s := range r.servers {
		s.Kill()
		r.WriteFile(fmt.Sprintf("nats-%d.log", i), []byte(s.Log.String()))
		os.RemoveAll(s.Dir) // ignored: what it has stored
	}
}
