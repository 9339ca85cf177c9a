package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// newHealthCommand gives `sluice health`, for containers and supervisors that
// have no HTTP client.
func newHealthCommand(cfg *settings, opts *options, env []string) *cobra.Command {
	var (
		ready   bool
		where   string
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running gateway whether it is well: exit code 0 or 1",
		Example: `  sluice health
  sluice health --ready --timeout 500ms`,
		Long: `It asks where the same environment and file tell 'sluice serve' to listen. Flags
that serve was started with are not seen: give them here too, or --url. All is
well when nothing is printed.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usagef("--timeout %v must be more than 0: give a time such as 2s", timeout)
			}
			if where == "" {
				if err := opts.lookUp(env, "listen", "internal-listen"); err != nil {
					return usageError{err}
				}
			}
			p, err := cfg.probe(opts, where, ready)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return p.ask(ctx, timeout)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&ready, "ready", false, "ask the internal listener whether clients are let in (/readyz), not the public one whether the process lives (/healthz)")
	f.StringVar(&where, "url", "", "ask this `URL`; without a path, /healthz or /readyz is added; or unix:/path")
	f.DurationVar(&timeout, "timeout", 2*time.Second, "`TIME` for the whole answer")
	opts.register(cmd, "listen", "internal-listen", "config")
	setHelp(cmd, flagGroup{"Question", []string{"ready", "timeout"}},
		flagGroup{"Where", []string{"url", "listen", "internal-listen", "config"}})
	return cmd
}

// probe is a question about health: what to ask, and whom.
type probe struct {
	url  string // for a Unix socket, with a host that means nothing
	unix string // the socket's path
	told string // how errors name it
	hint string // where its address comes from
}

// probe finds whom to ask: where, when it is given, else the first listener of
// the settings.
func (s *settings) probe(opts *options, where string, ready bool) (probe, error) {
	path := "/healthz"
	if ready {
		path = "/readyz"
	}
	if where != "" {
		return probeURL(where, path)
	}
	flag, text := "listen", ""
	hint := "SLUICE_LISTEN, --url"
	if ready {
		hint = "SLUICE_INTERNAL_LISTEN, --url"
		flag, text = "internal-listen", s.internalListen
		if text == "off" {
			return probe{}, opts.explain(usagef("--internal-listen off leaves nobody to ask: leave --ready out, or give --url"))
		}
	} else {
		text = s.listen[0]
	}
	e, err := parseEndpoint(flag, text)
	if err != nil {
		return probe{}, opts.explain(err)
	}
	if e.network == "unix" {
		return unixProbe(e.address, path, hint), nil
	}
	host, port, err := net.SplitHostPort(e.address)
	if err != nil {
		return probe{}, err
	}
	if port == "0" {
		return probe{}, opts.explain(usagef("--%s %s: the system chooses the port, so it is not known here: give --url", flag, text))
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6unspecified):
		host = "::1"
	}
	u := (&url.URL{Scheme: "http", Host: net.JoinHostPort(host, port), Path: path}).String()
	return probe{url: u, told: u, hint: hint}, nil
}

func probeURL(where, path string) (probe, error) {
	if socket, ok := strings.CutPrefix(where, "unix:"); ok && socket != "" {
		return unixProbe(socket, path, "--url"), nil
	}
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return probe{}, usagef("--url %s: not a URL to ask: give one such as http://127.0.0.1:8000, or unix:/path", where)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = path
	}
	return probe{url: u.String(), told: u.String(), hint: "--url"}, nil
}

func unixProbe(socket, path, hint string) probe {
	return probe{url: "http://localhost" + path, unix: socket, told: "unix:" + socket + " " + path, hint: hint}
}

// ask gives nil when the answer is 200.
func (p probe) ask(ctx context.Context, timeout time.Duration) error {
	transport := &http.Transport{DisableKeepAlives: true} // and no proxy: the question is about this one
	if p.unix != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.unix)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", p.told, err)
	}
	resp, err := transport.RoundTrip(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer within %v: the gateway is stuck or the machine too busy, or give a longer --timeout", p.told, timeout)
	case err != nil:
		return fmt.Errorf("%s: %w: is the gateway running, and is this its address? (%s)", p.told, bareNetError(err), p.hint)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	switch {
	case resp.StatusCode != http.StatusOK:
		why, _, _ := strings.Cut(string(bytes.TrimSpace(body)), "\n")
		if why == "" || len(why) > 200 || strings.HasPrefix(why, "<") { // a page of something else
			why = "this may not be a gateway"
		}
		return fmt.Errorf("%s: the answer is %s: %s", p.told, resp.Status, why)
	case err != nil:
		return fmt.Errorf("%s: the answer breaks off: %w", p.told, err)
	}
	return nil
}

// bareNetError strips what a line that names the address says already.
func bareNetError(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	return bareError(err)
}
