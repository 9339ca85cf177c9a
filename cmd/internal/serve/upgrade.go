package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/gateway"
)

// A new version of the program takes over without a client noticing: this process executes it, and hands
// everything over (gateway.Server.Upgrade).

// executable returns the path of this program as it was called, not that of the file that runs: an upgrade executes
// what has that name then.
func executable() (string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return "", fmt.Errorf("the program cannot be found again: %w", err)
	}
	return filepath.Abs(path)
}

// upgradeOnSignal hands the gateway over on SIGUSR2, until ctx ends.
func (s *service) upgradeOnSignal(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.upgrade:
			s.handOver(context.WithoutCancel(ctx)) // ignored: it is logged
		}
	}
}

// handOver hands the gateway over to a new process.
func (s *service) handOver(ctx context.Context) (report gateway.UpgradeReport, err error) {
	s.upgrading(1) // after a reload that is under way
	defer s.upgrading(-1)
	if err = s.selfErr; err == nil {
		s.log.Info("upgrading", "program", s.self)
		s.supervisor.reloading("upgrading")
		report, err = s.server.Upgrade(ctx, s.newProcess(s.current.Load().cfg.UpgradeTLS))
		if err != nil && !errors.Is(err, gateway.ErrUpgradeLost) { // else READY=1 is the new process's
			s.supervisor.reloaded()
		}
	}
	switch {
	case errors.Is(err, gateway.ErrUpgradeLost):
		s.lost <- err
	case errors.Is(err, gateway.ErrUpgradeRunning):
		s.log.Warn("upgrade refused", "error", err.Error())
	case err != nil:
		s.log.Error("the upgrade has failed, and this process goes on", "error", err.Error())
	default:
		s.log.Info("handed over to a new process", "pid", report.PID, "from", report.From, "to", report.To, "connections", report.Moved, "secure", report.Secure,
			"frozen", report.Frozen.String(), "took", report.Took.String())
		close(s.moved)
	}
	return report, err
}

// newProcess returns how the new process is started, and what it takes.
func (s *service) newProcess(retire time.Duration) gateway.Upgrade {
	cmd := exec.Command(s.self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	u := gateway.Upgrade{Command: cmd, Listeners: make(map[string]net.Listener), Retire: retire, Started: s.supervisor.replace}
	for _, l := range s.publicListeners {
		u.Listeners[l.name] = l.Listener
	}
	if s.internalListener != nil {
		u.Listeners[s.internalName] = s.internalListener
	}
	return u
}

// upgrading counts upgrades that are under way: meanwhile, nothing is reloaded.
func (s *service) upgrading(n int) {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.upgrades += n
}

// hasMoved reports whether another process has everything.
func (s *service) hasMoved() bool {
	select {
	case <-s.moved:
		return true
	default:
		return false
	}
}

// refuse tells the process that has started this one, if it is to be taken over, why that fails.
func refuse(why error) {
	inherited, err := gateway.Inherited()
	if inherited == nil || err != nil {
		return
	}
	gateway.TakeOver(inherited, gateway.Takeover{Build: func(*gateway.Inheritance) (*gateway.Server, error) { return nil, why }}) // ignored: it is why
}

// takeOver takes the gateway over from the process that has started this one, and runs it. planned is what is wrong with
// the settings.
func (s *service) takeOver(ctx context.Context, planned error, inherited *os.File) error {
	c := s.current.Load()
	p := c.plan
	taken, failed := make(chan struct{}), make(chan error, 1)
	begun := make(chan struct{})
	t := gateway.Takeover{Version: cli.ReadBuild().Version}
	t.Build = func(in *gateway.Inheritance) (*gateway.Server, error) {
		addresses := in.Addresses
		c.cfg.Gateway.Inherited = in
		if planned != nil {
			return nil, planned
		}
		if err := s.open(p, c.cfg.Gateway.SendBuffer, addresses); err != nil {
			return nil, c.opts.Explain(err)
		}
		publishAt := publishURL(s.internalListener)
		if at, ok := addresses[s.internalName]; ok {
			publishAt = publishURLAt(at)
		}
		err := s.build(ctx, publishAt)
		return s.server, err
	}
	t.Serve = func(listeners map[string]net.Listener, connections int, took bool) {
		for name, l := range listeners {
			if u, ok := l.(*net.UnixListener); ok && strings.HasSuffix(name, activatedMark) {
				u.SetUnlinkOnClose(false)
			}
		}
		for i := range s.publicListeners {
			if l := &s.publicListeners[i]; l.Listener == nil {
				l.Listener = listeners[l.name]
				delete(listeners, l.name)
			}
		}
		if l := listeners[s.internalName]; l != nil && p.Internal != nil {
			s.internalListener = l
			delete(listeners, s.internalName)
		}
		for name, l := range listeners {
			s.log.Info("a listener of the previous process is not configured any more", "listener", name)
			l.Close() // ignored: nobody is served there
		}
		if took {
			s.log.Info("took over from another process", "connections", connections)
		} else {
			s.log.Error("the previous process has died during the upgrade: its connections are lost")
		}
		close(begun)
	}
	go func() {
		if err := gateway.TakeOver(inherited, t); err != nil {
			failed <- err
		}
		close(taken)
	}()
	select {
	case err := <-failed:
		s.log.Error("this process does not take over, exiting", "error", err.Error())
		return cli.ExitCode(cli.ExitFailed)
	case <-begun:
		return s.run(ctx, taken)
	}
}
