package main

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// newHealthCommand returns `sluice health`, for containers and supervisors without an
// HTTP client.
func newHealthCommand(cfg *settings, opts *options, env []string) *cobra.Command {
	var (
		ready   bool
		where   string
		timeout time.Duration
		secure  clientTLS
	)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Check a running gateway's health: exit code 0 or 1",
		Example: `  sluice health
  sluice health --ready --timeout 500ms
  sluice health --url https://push.example.com --cacert ca.pem`,
		Long: `Prints nothing and exits with 0 when the gateway is healthy. The address comes
from the same environment and file as for 'sluice serve'. If serve was started
with listener flags, pass the same flags here, or use --url.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return optionUsage("timeout", " %v: must be greater than 0, such as 2s", timeout)
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			p, err := cfg.healthPlace(opts, env, where, ready)
			if err != nil {
				return err
			}
			if p.url.Path == "" || p.url.Path == "/" {
				p = p.below(path)
			}
			if p.tls, err = secure.config(); err != nil {
				return err
			}
			a, err := p.ask(cmd.Context(), timeout, http.MethodGet)
			if err == nil && a.status != http.StatusOK {
				err = p.refused(a)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&ready, "ready", false, "check readiness to accept clients (/readyz on the internal listener) instead of health (/healthz on the public one)")
	f.StringVar(&where, "url", "", "check this `URL`, http, https or unix:/path; without a path, /healthz or /readyz is added")
	f.DurationVar(&timeout, "timeout", 2*time.Second, "wait at most `TIME` for the response")
	secure.register(cmd)
	bindEnv(cmd, env, clientTLSNames...)
	opts.register(cmd, "listen", "tls-listen", "internal-listen", "config")
	setHelp(cmd, flagGroup{"Check", []string{"ready", "timeout"}},
		flagGroup{"Address", []string{"url", "listen", "tls-listen", "internal-listen", "config"}},
		flagGroup{"TLS (https)", clientTLSNames})
	return cmd
}

// healthPlace returns the listener to check.
func (s *settings) healthPlace(opts *options, env []string, where string, ready bool) (place, error) {
	if where == "" {
		if err := opts.lookUp(env, "listen", "tls-listen", "internal-listen"); err != nil {
			return place{}, usageError{err}
		}
		if ready && s.internalListen == "off" {
			return place{}, opts.explain(optionUsage("internal-listen", " off: there is no internal listener to check; remove --ready, or use --url"))
		}
	}
	return s.place(opts, where, ready)
}
