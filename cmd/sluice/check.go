package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/gateway"
)

// newCheckCommand gives `sluice check`: everything that `serve` would stumble
// over, and what the machine would do to it later.
func newCheckCommand(cfg *settings, opts *options, env []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check settings, descriptor and kernel limits, memory and ports",
		Example: `  sluice check
  sluice check --config /etc/sluice.conf --max-connections 100000`,
		Long: `Give it what 'sluice serve' will get. Each line of its output is a finding: ok,
warning, fault, or unknown where this process cannot see. Exit code 1 says that
there is a fault. The ports of a gateway that is running are in use: faults.

` + layersText,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := cfg.check(opts, env, os.DirFS("/"))
			if err := findings.print(cmd.OutOrStdout()); err != nil {
				return err
			}
			if findings.count(isFault) > 0 {
				return exitCode(exitFailed)
			}
			return nil
		},
	}
	opts.register(cmd)
	setHelp(cmd, opts.groups()...)
	return cmd
}

// verdict is what a finding means.
type verdict int

const (
	isOK      verdict = iota
	isUnknown         // cannot be seen from here
	isWarning         // works, until something happens that it names
	isFault           // does not work
)

func (v verdict) String() string {
	return [...]string{"ok", "unknown", "warning", "fault"}[v]
}

// finding is one line of `sluice check`: what, why and how to mend it.
type finding struct {
	verdict verdict
	text    string
}

type findings []finding

func (f *findings) add(v verdict, format string, args ...any) {
	*f = append(*f, finding{v, fmt.Sprintf(format, args...)})
}

// faults adds an error, a finding for each of its lines.
func (f *findings) faults(err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			f.add(isFault, "%s", line)
		}
	}
}

func (f findings) count(v verdict) (n int) {
	for _, one := range f {
		if one.verdict == v {
			n++
		}
	}
	return n
}

func (f findings) print(w io.Writer) error {
	for _, one := range f {
		if _, err := fmt.Fprintf(w, "%-7v  %s\n", one.verdict, one.text); err != nil {
			return err
		}
	}
	return nil
}

// check looks at everything. files is the root of the file system, for the
// kernel's limits.
func (s *settings) check(opts *options, env []string, files fs.FS) (f findings) {
	if err := opts.resolve(env); err != nil {
		f.faults(err)
		f.add(isUnknown, "limits and ports: looked at once the settings can be read")
		return f
	}
	p, err := s.plan(opts)
	f.faults(err)
	if err == nil {
		f.settingsFound(opts)
		f.rights(p.access, s)
		f.certificates(p, time.Now())
		f.exemptions(opts)
		f.proxies(s.gateway)
		f.slowRules(s.gateway.SlowPolicy)
		s.checkLimits(&f, opts, files)
	} else {
		f.add(isUnknown, "limits: looked at once the settings have no fault")
	}
	f.ports(p, opts, s.gateway.SendBuffer)
	return f
}

// settingsFound tells what the settings were read from.
func (f *findings) settingsFound(opts *options) {
	count := map[sourceKind]int{}
	for _, opt := range opts.list {
		count[opt.source.kind]++
	}
	f.add(isOK, "settings: %d by flags, %d by the environment, %d by a file, %d left to their defaults",
		count[fromFlag], count[fromEnv], count[fromFile], count[fromDefault])
	for _, opt := range opts.list {
		if what := map[string]string{"api-key-file": "holds a key", "web-root": "can be read"}[opt.name]; what != "" && opt.text != "" {
			f.add(isOK, "--%s %s: %s", opt.name, opt.text, what)
		}
	}
}

// checkLimits starts a gateway without listeners: it knows best what it needs.
func (s *settings) checkLimits(f *findings, opts *options, files fs.FS) {
	cfg := s.gateway
	cfg.Logger = slog.New(warningsTo{f})
	need := demand{
		connections: cfg.MaxConnections, asked: cfg.MaxConnections > 0, buffered: cfg.MaxBuffered, pageBytes: os.Getpagesize(),
	}
	server, err := gateway.New(cfg)
	if err != nil {
		f.faults(opts.explain(err))
	} else {
		l := server.Limits()
		need.connections, need.buffered = l.MaxConnections, l.MaxBuffered
		f.add(isOK, "descriptors: the limit of %s allows %s connections", formatCount(l.DescriptorLimit), formatCount(l.MaxConnections))
		f.messages(l)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		f.faults(server.Shutdown(ctx))
	}
	if need.connections > 0 {
		f.kernel(files, need)
		f.memoryUnder(files, need, s.memoryLimit, cfg.MaxBuffered)
	}
}

// tlsRecord is what a connection over TLS holds while its socket is full: a record.
const tlsRecord = 16 << 10

// messages reports how large a message the buffers allow, and to how many: its bytes lie in the
// channel's log however many read it, so only what is encrypted for a connection counts for each.
func (f *findings) messages(l gateway.Limits) {
	f.add(isOK, "messages: --channel-buffer %s allows up to %s to any number of subscribers; the buffers hold %s full logs, and over TLS %s connections whose sockets are full at the same moment",
		formatSize(l.ChannelBuffer), formatSize(l.ChannelBuffer/2-1024),
		formatCount(l.MaxBuffered/8*3/l.ChannelBuffer), formatCount(l.MaxBuffered/2/tlsRecord))
}

// ports opens every listener as serve does, all at a time, and closes them.
func (f *findings) ports(p plan, opts *options, sendBuffer int) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			l.Close() // ignored: nobody has connected
		}
	}()
	endpoints := p.public
	if p.internal != nil {
		endpoints = append(endpoints, *p.internal)
	}
	for _, e := range endpoints {
		if e.address == "" { // a fault that was told
			continue
		}
		if e.network == "unix" {
			if stale, err := e.staleSocket(); err == nil && stale {
				f.add(isOK, "--%s %s: free: nobody listens on the socket that is there, serve replaces it", e.flag, e.text)
				continue
			}
		}
		l, err := e.listen(sendBuffer)
		if err != nil {
			f.faults(opts.explain(err))
			continue
		}
		open = append(open, l)
		f.add(isOK, "--%s %s: free", e.flag, e.text)
	}
}

// warningsTo makes findings of what the gateway logs as a warning.
type warningsTo struct{ f *findings }

func (h warningsTo) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (h warningsTo) WithAttrs([]slog.Attr) slog.Handler               { return h }
func (h warningsTo) WithGroup(string) slog.Handler                    { return h }
func (h warningsTo) Handle(_ context.Context, r slog.Record) error {
	var about []string
	r.Attrs(func(a slog.Attr) bool {
		about = append(about, a.Key+" "+a.Value.String())
		return true
	})
	text := r.Message
	if len(about) > 0 {
		text += " (" + strings.Join(about, ", ") + ")"
	}
	h.f.add(isWarning, "%s", text)
	return nil
}
