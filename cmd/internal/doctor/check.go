package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
	"sluice/gateway"
	"sluice/gateway/setting"
)

// NewCheck returns `sluice check`, which reports everything that would keep
// `serve` from starting, and the limits of the machine that it would hit later.
func NewCheck(cfg *serve.Settings, opts *option.Options, env []string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check settings, the store, limits of this machine, and ports",
		Example: `  sluice check
  sluice check --config /etc/sluice.conf --max-connections 100000`,
		Long: `Use the same flags, environment and file as for 'sluice serve'. Each line of the
output is a finding: ok, warning, fault, or unknown if it cannot be checked from
here. The exit code is 1 if there is a fault. While the gateway is running, its
ports are in use, which is reported as a fault.

` + option.Layers,
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := check(cfg, opts, env, os.DirFS("/"))
			printed := findings.print
			if asJSON {
				printed = findings.printJSON
			}
			if err := printed(cmd.OutOrStdout()); err != nil {
				return err
			}
			if findings.count(isFault) > 0 {
				return cli.ExitCode(cli.ExitFailed)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: the findings, each with its verdict and text")
	opts.Register(cmd)
	cli.SetHelp(cmd, append([]cli.Group{cli.Flags("Output", "json")}, opts.Groups()...)...)
	return cmd
}

// verdict is how bad a finding is.
type verdict int

const (
	isOK      verdict = iota
	isUnknown         // cannot be checked from here
	isWarning         // works, until the named situation occurs
	isFault           // does not work
)

func (v verdict) String() string {
	return [...]string{"ok", "unknown", "warning", "fault"}[v]
}

// finding is one line of `sluice check`: what, why and how to fix it.
type finding struct {
	verdict verdict
	text    string
	about   string // a field of gateway.Config, or "memory"; often empty
}

type findings []finding

func (f *findings) add(v verdict, format string, args ...any) {
	f.addAbout("", v, format, args...)
}

func (f *findings) addAbout(about string, v verdict, format string, args ...any) {
	*f = append(*f, finding{v, fmt.Sprintf(format, args...), about})
}

// faults adds one finding for each line of an error.
func (f *findings) faults(err error) {
	if err == nil {
		return
	}
	for _, line := range cli.Lines(err) {
		f.add(isFault, "%s", line)
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

// printJSON prints the findings for a program.
func (f findings) printJSON(w io.Writer) error {
	type one struct {
		Verdict string `json:"verdict"`
		Text    string `json:"text"`
	}
	out := struct {
		Findings []one `json:"findings"`
	}{[]one{}}
	for _, found := range f {
		out.Findings = append(out.Findings, one{found.verdict.String(), found.text})
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // texts are read by people, too
	return e.Encode(out)
}

// check checks everything. files is the root of the file system, for the kernel's
// limits.
func check(s *serve.Settings, opts *option.Options, env []string, files fs.FS) (f findings) {
	if err := opts.Resolve(env); err != nil {
		f.faults(err)
		f.add(isUnknown, "limits and ports: not checked, because the settings could not be read")
		return f
	}
	p, err := s.Plan(opts)
	f.faults(err)
	if err == nil {
		f.settingsFound(opts)
		f.permissions(p, s)
		f.certificates(p, time.Now())
		f.exemptions(opts)
		f.proxies(s.Gateway)
		f.slowRules(s.Gateway.SlowPolicy)
		f.store(s.Gateway, opts)
		f.hooks(p)
		f.limits(p, s, opts, files)
	} else {
		f.add(isUnknown, "limits: not checked, because the settings are invalid")
	}
	f.ports(p, opts, s.Gateway.SendBuffer)
	return f
}

// settingsFound reports where the settings come from.
func (f *findings) settingsFound(opts *option.Options) {
	count := map[option.SourceKind]int{}
	for _, opt := range opts.List {
		count[opt.Source.Kind]++
	}
	f.add(isOK, "settings: %d from flags, %d from the environment, %d from a file, %d defaults",
		count[option.FromFlag], count[option.FromEnv], count[option.FromFile], count[option.FromDefault])
	for _, opt := range opts.List {
		if what := map[string]string{"api-key-file": "contains a key", "web-root": "is readable"}[opt.Name]; what != "" && opt.Text != "" {
			f.add(isOK, "--%s %s: %s", opt.Name, opt.Text, what)
		}
	}
}

// limits starts a gateway without listeners, which knows best what it needs.
func (f *findings) limits(p serve.Plan, s *serve.Settings, opts *option.Options, files fs.FS) {
	cfg := s.Gateway
	cfg.Logger = nil            // its warnings are findings
	cfg.Store = gateway.Store{} // store looks at it
	need := demand{
		connections: cfg.MaxConnections, asked: cfg.MaxConnections > 0, buffered: cfg.MaxBuffered, pageBytes: os.Getpagesize(),
	}
	hooks, err := p.Hooks.Build()
	f.faults(err)
	if hooks != nil {
		defer hooks.Close()
		cfg.Hooks = hooks.Hooks
	}
	server, err := gateway.New(cfg)
	if err != nil {
		f.faults(opts.ExplainAll(err))
	} else {
		l := server.Limits()
		f.warnings(server.Warnings(), opts, cfg.MaxBuffered, l.MaxBuffered)
		need.connections, need.buffered = l.MaxConnections, l.MaxBuffered
		f.add(isOK, "file descriptors: the limit of %s allows %s connections", cli.FormatCount(l.DescriptorLimit), cli.FormatCount(l.MaxConnections))
		f.messages(l)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		f.faults(server.Shutdown(ctx))
	}
	if need.connections > 0 {
		f.kernel(files, need)
		f.memoryUnder(files, need, int(cfg.MemoryLimit), cfg.MaxBuffered)
	}
}

// warnings reports what the gateway finds doubtful. --max-buffered is wanted, and maxBuffered
// is what it is in effect.
func (f *findings) warnings(warnings gateway.Faults, opts *option.Options, wanted, maxBuffered int) {
	for _, w := range warnings {
		text := w.Text(opts.FlagOf)
		if w.Field == "MaxBuffered" {
			text += fmt.Sprintf(" (from %s, to %s)", setting.FormatSize(wanted), setting.FormatSize(maxBuffered))
		}
		f.addAbout(w.Field, isWarning, "%s", text)
	}
}

// tlsRecord is what a TLS connection holds while its socket is full: one record.
const tlsRecord = 16 << 10

// messages reports how large a message the buffers allow, and for how many clients. Its
// bytes are in the channel's log once, whatever the number of subscribers; only what is
// encrypted for a connection is held per connection.
func (f *findings) messages(l gateway.Limits) {
	f.add(isOK, "messages: --channel-buffer %s allows messages of up to %s to any number of subscribers; the buffers have room for %s full channel logs or, over TLS, for the pending records of %s connections whose sockets are full",
		setting.FormatSize(l.ChannelBuffer), setting.FormatSize(l.ChannelBuffer/2-1024),
		cli.FormatCount(l.MaxBuffered/8*3/l.ChannelBuffer), cli.FormatCount(l.MaxBuffered/2/tlsRecord))
}

// ports opens all listeners as serve does, and closes them.
func (f *findings) ports(p serve.Plan, opts *option.Options, sendBuffer int) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			l.Close() // error ignored: no client has connected
		}
	}()
	endpoints := p.Public
	if p.Internal != nil {
		endpoints = append(endpoints, *p.Internal)
	}
	for _, e := range endpoints {
		if e.Address == "" { // already reported as a fault
			continue
		}
		if e.Network == "unix" {
			if stale, err := e.StaleSocket(); err == nil && stale {
				f.add(isOK, "--%s %s: free; serve will replace the stale socket file", e.Flag, e.Text)
				continue
			}
		}
		l, err := e.Listen(sendBuffer)
		if err != nil {
			f.faults(opts.Explain(err))
			continue
		}
		open = append(open, l)
		f.add(isOK, "--%s %s: free", e.Flag, e.Text)
	}
}
