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

// plan is what `serve` is about to do: its settings, checked as far as that goes
// without opening a listener.
type plan struct {
	public   []endpoint // with TLS and without
	internal *endpoint  // nil when it is off
	apiKey   string     // empty without a file
	secure   secure
	access   access
}

// plan checks the settings together and settles what depends on several of them.
// It reports every fault at once, each with the source of its value.
func (s *settings) plan(opts *options) (plan, error) {
	public, internal, faults := s.endpoints()
	allowed, more := s.checkAccess(public)
	faults = append(faults, more...)
	faults = append(faults, s.uselessHistory(opts))
	s.gateway.Raw = s.rawFor(public, allowed.keyed)
	s.gateway.NoPage = s.page == "off"
	s.gateway.MemoryLimit = int64(s.memoryLimit)
	if s.refuse == "close" {
		s.gateway.Refuse = gateway.RefuseClose
	}
	faults = append(faults, usageLines(s.gateway.Validate())...)
	key, err := s.apiKey()
	faults = append(faults, err, s.lookAtWebRoot())
	secure, more := s.checkTLS(public)
	faults = append(faults, more...)
	if internal != nil && internal.address != "" && !internal.local && s.apiKeyFile == "" {
		faults = append(faults, usagef("--%s %s needs --api-key-file: others can reach it, and it publishes and profiles: give a key or 127.0.0.1", internal.flag, internal.text))
	}
	return plan{public, internal, key, secure, allowed}, joinFaults(opts, faults)
}

// endpoints takes the addresses apart; internal is nil when it is off.
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
			faults = append(faults, usagef("--%s %s is given twice: leave one out", flag, e.text))
		}
		e.tls = flag == "tls-listen"
		public = append(public, e)
	}
	if slices.Equal(s.tlsListen, []string{"off"}) {
		s.tlsListen = nil
	}
	if slices.Contains(s.tlsListen, "off") {
		faults = append(faults, usagef("--tls-listen %s: off and an address: leave one of them out", strings.Join(s.tlsListen, ",")))
	}
	switch off := slices.Contains(s.listen, "off"); {
	case off && len(s.listen) > 1:
		faults = append(faults, usagef("--listen %s: off and an address: leave one of them out", strings.Join(s.listen, ",")))
	case off && len(s.tlsListen) == 0:
		faults = append(faults, usagef("--listen off leaves no way in for clients: give --tls-listen, or an address"))
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
			faults = append(faults, usagef("--internal-listen %s is a --%s address too: give it a port of its own, or off", e.text, public[i].flag))
		}
	}
	return public, internal, faults
}

// apiKey reads the internal listener's key; empty without a file.
func (s *settings) apiKey() (string, error) {
	if s.apiKeyFile == "" {
		return "", nil
	}
	fault := func(format string, args ...any) error {
		return usagef("--api-key-file %s: %w", s.apiKeyFile, fmt.Errorf(format, args...))
	}
	data, err := os.ReadFile(s.apiKeyFile)
	if err != nil {
		return "", fault("%w: give a file with the key in one line", bareError(err))
	}
	key := strings.TrimSpace(string(data))
	switch {
	case key == "":
		return "", fault("the file is empty: put a key there, such as the output of 'openssl rand -hex 32'")
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fault("the key has white space or other characters that no header can carry: put one word of ASCII there")
	}
	return key, nil
}

// lookAtWebRoot finds out whether there are files to serve: a page that is
// missing should not be found by the first visitor.
func (s *settings) lookAtWebRoot() error {
	dir := s.gateway.WebRoot
	if dir == "" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return usagef("--web-root %s: %w: give a directory of files that may be read", dir, bareError(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.IsDir() {
		return usagef("--web-root %s: not a directory: give the one that holds index.html", dir)
	}
	if _, err = f.ReadDir(1); err != nil && err != io.EOF {
		return usagef("--web-root %s: %w: give a directory of files that may be read", dir, bareError(err))
	}
	return nil
}

// usageLines takes the faults of gateway.Config.Validate apart, a line each. A
// line that names no flag is a further fault of the one before it.
func usageLines(err error) (faults []error) {
	if err == nil {
		return nil
	}
	flag := ""
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "--") {
			line = flag + " " + line
		}
		flag, _, _ = strings.Cut(line, " ")
		faults = append(faults, usageError{errors.New(line)})
	}
	return faults
}

// joinFaults makes one error of all, each with the source of its value: a usage
// error if every one of them is.
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
