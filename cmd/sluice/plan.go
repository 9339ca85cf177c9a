package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"sluice/gateway"
)

// plan is what `serve` is about to do: its settings, checked as far as possible
// without opening a listener.
type plan struct {
	public   []endpoint // with TLS and without
	internal *endpoint  // nil when it is off
	apiKey   string     // empty without --api-key-file
	secure   secure
	access   access
}

// plan checks the settings together and derives what depends on several of them. It
// reports every fault at once, each with the source of its value.
func (s *settings) plan(opts *options) (plan, error) {
	public, internal, faults := s.endpoints()
	allowed, more := s.checkAccess(public)
	faults = append(faults, more...)
	faults = append(faults, s.uselessHistory(opts))
	s.gateway.Raw = s.rawFor(public, allowed.keyed)
	s.gateway.NoPage = s.page == "off"
	s.gateway.FieldName, s.certificate.FieldName = opts.flagOf, opts.flagOf
	s.gateway.MemoryLimit = int64(s.memoryLimit)
	if s.refuse == "close" {
		s.gateway.Refuse = gateway.RefuseClose
	}
	for _, f := range opts.faultsOf(s.gateway.Validate()) {
		faults = append(faults, usageError{f})
	}
	key, err := s.apiKey()
	faults = append(faults, err, s.checkWebRoot())
	secure, more := s.checkTLS(opts, public)
	faults = append(faults, more...)
	if internal != nil && internal.address != "" && !internal.local && s.apiKeyFile == "" {
		faults = append(faults, optionUsage(internal.flag, " %s needs --api-key-file, because other machines can reach it and it allows publishing and profiling; add a key file, or listen on 127.0.0.1", internal.text))
	}
	return plan{public, internal, key, secure, allowed}, joinFaults(opts, faults)
}

// endpoints parses the addresses; internal is nil when it is off.
func (s *settings) endpoints() (public []endpoint, internal *endpoint, faults []error) {
	parse := func(flag, text string) endpoint {
		e, err := parseEndpoint(flag, text)
		if err != nil {
			faults = append(faults, err)
		}
		return e
	}
	add := func(flag, text string) {
		e := parse(flag, text)
		if e.address != "" && slices.ContainsFunc(public, e.same) {
			faults = append(faults, optionUsage(flag, " %s is specified twice: remove one", e.text))
		}
		e.tls = flag == "tls-listen"
		public = append(public, e)
	}
	if slices.Equal(s.tlsListen, []string{"off"}) {
		s.tlsListen = nil
	}
	if slices.Contains(s.tlsListen, "off") {
		faults = append(faults, optionUsage("tls-listen", " %s: off cannot be combined with an address; remove one of them", strings.Join(s.tlsListen, ",")))
	}
	switch off := slices.Contains(s.listen, "off"); {
	case off && len(s.listen) > 1:
		faults = append(faults, optionUsage("listen", " %s: off cannot be combined with an address; remove one of them", strings.Join(s.listen, ",")))
	case off && len(s.tlsListen) == 0:
		faults = append(faults, optionUsage("listen", " off leaves no listener for clients: add --tls-listen, or use an address"))
	case !off:
		for _, text := range s.listen {
			add("listen", text)
		}
	}
	for _, text := range s.tlsListen {
		if text != "off" {
			add("tls-listen", text)
		}
	}
	if s.internalListen != "off" {
		e := parse("internal-listen", s.internalListen)
		internal = &e
		if i := slices.IndexFunc(public, e.same); e.address != "" && i >= 0 {
			faults = append(faults, optionUsage("internal-listen", " %s is also a --%s address: use another port, or off", e.text, public[i].flag))
		}
	}
	return public, internal, faults
}

// apiKey reads the internal listener's key; it is empty without a file.
func (s *settings) apiKey() (string, error) {
	if s.apiKeyFile == "" {
		return "", nil
	}
	fault := func(format string, args ...any) error {
		return optionUsage("api-key-file", " %s: %w", s.apiKeyFile, fmt.Errorf(format, args...))
	}
	data, err := os.ReadFile(s.apiKeyFile)
	if err != nil {
		return "", fault("%w; use a file with the key on one line", bareError(err))
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
func (s *settings) checkWebRoot() error {
	dir := s.gateway.WebRoot
	if dir == "" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return optionUsage("web-root", " %s: %w; use a readable directory", dir, bareError(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.IsDir() {
		return optionUsage("web-root", " %s: not a directory; use the directory with index.html", dir)
	}
	if _, err = f.ReadDir(1); err != nil && err != io.EOF {
		return optionUsage("web-root", " %s: %w; use a readable directory", dir, bareError(err))
	}
	return nil
}

// joinFaults joins all faults, each with the source of its value. The result is a usage
// error if all of them are.
func joinFaults(opts *options, faults []error) error {
	usage := true
	var told []error
	for _, err := range faults {
		if err != nil {
			usage = usage && errors.As(err, new(usageError))
			told = append(told, opts.explain(err))
		}
	}
	err := errors.Join(told...)
	if err != nil && usage {
		return usageError{err}
	}
	return err
}
