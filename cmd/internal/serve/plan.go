package serve

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
)

// Plan is what `serve` is about to do: its settings, checked as far as possible
// without opening a listener.
type Plan struct {
	Public   []Endpoint // with TLS and without
	Internal *Endpoint  // nil when it is off
	apiKey   string     // empty without --api-key-file
	Secure   Secure
	Access   Access
	Hooks    Hooks
	Warnings []string // about webhooks
}

// Plan checks the settings together and derives what depends on several of them. It
// reports every fault at once, each with the source of its value.
func (s *Settings) Plan(opts *option.Options) (Plan, error) { return s.plan(opts, nil) }

// plan is Plan for a gateway that runs already, nil for none. What cannot have changed since then is not looked at
// again: a certificate that is being renewed, or a name that cannot be resolved now, is no fault of the new settings.
func (s *Settings) plan(opts *option.Options, running *configured) (Plan, error) {
	listening, secured := running.same(opts, "listen", "tls-listen", "internal-listen"), running.same(opts, "tls-listen", "tls-cert", "tls-key", "tls-client-ca", "tls-self-signed")
	var public []Endpoint
	var internal *Endpoint
	var faults []error
	if listening {
		public, internal, s.TLSListen = running.plan.Public, running.plan.Internal, running.cfg.TLSListen
	} else {
		public, internal, faults = s.endpoints()
	}
	allowed, more := s.checkAccess(public)
	faults = append(faults, more...)
	faults = append(faults, s.uselessHistory(opts))
	hooks, more := s.checkHooks(opts)
	faults = append(faults, more...)
	warnings, more := s.checkWebhooks(opts)
	faults = append(faults, more...)
	s.Gateway.Raw = s.rawFor(public, allowed.Keyed || hooks.Keyed())
	s.Gateway.FieldName, s.Certificate.FieldName = opts.FlagOf, opts.FlagOf
	for _, f := range opts.FaultsOf(s.unhooked().Validate()) {
		faults = append(faults, cli.Usagef("%w", f))
	}
	key, err := s.APIKey()
	faults = append(faults, err, s.checkWebRoot())
	var secure Secure
	if secured {
		secure = running.plan.Secure
	} else {
		secure, more = s.checkTLS(opts, public)
		faults = append(faults, more...)
	}
	if internal != nil && internal.Address != "" && !internal.local && s.APIKeyFile == "" {
		faults = append(faults, cli.OptionUsage(internal.Flag, " %s needs --api-key-file, because other machines can reach it and it allows publishing and profiling; add a key file, or listen on 127.0.0.1", internal.Text))
	}
	faults = append(faults, s.checkDrain())
	return Plan{public, internal, key, secure, allowed, hooks, warnings}, joinFaults(opts, faults)
}

// checkDrain checks that all clients can be told to come back before they would be cut off.
func (s *Settings) checkDrain() error {
	delay, over := s.Gateway.DrainDelay, max(s.Gateway.DrainDuration, 0)
	if delay+over <= s.ShutdownTimeout {
		return nil
	}
	if delay == 0 {
		return cli.OptionUsage("drain-duration", " %v is longer than --shutdown-timeout %v: clients would be cut off; raise --shutdown-timeout, or lower --drain-duration", over, s.ShutdownTimeout)
	}
	if over == 0 {
		return cli.OptionUsage("drain-delay", " %v is longer than --shutdown-timeout %v: clients would be cut off; raise --shutdown-timeout, or lower --drain-delay", delay, s.ShutdownTimeout)
	}
	return cli.OptionUsage("drain-delay", " %v and --drain-duration %v are longer than --shutdown-timeout %v: clients would be cut off; raise --shutdown-timeout, or lower one of them", delay, over, s.ShutdownTimeout)
}

// endpoints parses the addresses; internal is nil when it is off.
func (s *Settings) endpoints() (public []Endpoint, internal *Endpoint, faults []error) {
	parse := func(flag, text string) Endpoint {
		e, err := ParseEndpoint(flag, text)
		if err != nil {
			faults = append(faults, err)
		}
		return e
	}
	add := func(flag, text string) {
		e := parse(flag, text)
		if e.Address != "" && slices.ContainsFunc(public, e.same) {
			faults = append(faults, cli.OptionUsage(flag, " %s is specified twice: remove one", e.Text))
		}
		e.tls = flag == "tls-listen"
		public = append(public, e)
	}
	if slices.Equal(s.TLSListen, []string{"off"}) {
		s.TLSListen = nil
	}
	if slices.Contains(s.TLSListen, "off") {
		faults = append(faults, cli.OptionUsage("tls-listen", " %s: off cannot be combined with an address; remove one of them", strings.Join(s.TLSListen, ",")))
	}
	switch off := slices.Contains(s.Listen, "off"); {
	case off && len(s.Listen) > 1:
		faults = append(faults, cli.OptionUsage("listen", " %s: off cannot be combined with an address; remove one of them", strings.Join(s.Listen, ",")))
	case off && len(s.TLSListen) == 0:
		faults = append(faults, cli.OptionUsage("listen", " off leaves no listener for clients: add --tls-listen, or use an address"))
	case !off:
		for _, text := range s.Listen {
			add("listen", text)
		}
	}
	for _, text := range s.TLSListen {
		if text != "off" {
			add("tls-listen", text)
		}
	}
	if s.InternalListen != "off" {
		e := parse("internal-listen", s.InternalListen)
		internal = &e
		if i := slices.IndexFunc(public, e.same); e.Address != "" && i >= 0 {
			faults = append(faults, cli.OptionUsage("internal-listen", " %s is also a --%s address: use another port, or off", e.Text, public[i].Flag))
		}
	}
	return public, internal, faults
}

// APIKey reads the internal listener's key; it is empty without a file.
func (s *Settings) APIKey() (string, error) {
	if s.APIKeyFile == "" {
		return "", nil
	}
	fault := func(format string, args ...any) error {
		return cli.OptionUsage("api-key-file", " %s: %w", s.APIKeyFile, fmt.Errorf(format, args...))
	}
	data, err := os.ReadFile(s.APIKeyFile)
	if err != nil {
		return "", fault("%w; use a file with the key on one line", cli.BareError(err))
	}
	key := strings.TrimSpace(string(data))
	switch {
	case key == "":
		return "", fault("the file is empty; write a key to it, such as the output of 'openssl rand -hex 32'")
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fault("the key contains spaces or characters that an HTTP header cannot carry; use one word of printable ASCII")
	}
	return key, nil
}

// checkWebRoot checks that there are files to serve, so that the first visitor does not
// find them missing.
func (s *Settings) checkWebRoot() error {
	dir := s.Gateway.WebRoot
	if dir == "" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return cli.OptionUsage("web-root", " %s: %w; use a readable directory", dir, cli.BareError(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.IsDir() {
		return cli.OptionUsage("web-root", " %s: not a directory; use the directory with index.html", dir)
	}
	if _, err = f.ReadDir(1); err != nil && err != io.EOF {
		return cli.OptionUsage("web-root", " %s: %w; use a readable directory", dir, cli.BareError(err))
	}
	return nil
}

// joinFaults joins all faults, each with the source of its value. The result is a usage
// error if all of them are.
func joinFaults(opts *option.Options, faults []error) error {
	usage := true
	var told []error
	for _, err := range faults {
		if err != nil {
			usage = usage && errors.As(err, new(cli.UsageError))
			told = append(told, opts.Explain(err))
		}
	}
	err := errors.Join(told...)
	if err != nil && usage {
		return cli.Usagef("%w", err)
	}
	return err
}
