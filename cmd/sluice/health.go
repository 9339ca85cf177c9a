package main

import (
	"net/http"
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
		secure  clientTLS
	)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running gateway whether it is well: exit code 0 or 1",
		Example: `  sluice health
  sluice health --ready --timeout 500ms
  sluice health --url https://push.example.com --cacert ca.pem`,
		Long: `It asks where the same environment and file tell 'sluice serve' to listen. Flags
that serve was started with are not seen: give them here too, or --url. All is
well when nothing is printed.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usagef("--timeout %v must be more than 0: give a time such as 2s", timeout)
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
	f.BoolVar(&ready, "ready", false, "ask the internal listener whether clients are let in (/readyz), not the public one whether the loops turn (/healthz)")
	f.StringVar(&where, "url", "", "ask this `URL`; without a path, /healthz or /readyz is added; or unix:/path")
	f.DurationVar(&timeout, "timeout", 2*time.Second, "`TIME` for the whole answer")
	secure.register(cmd)
	bindEnv(cmd, env, clientTLSNames...)
	opts.register(cmd, "listen", "tls-listen", "internal-listen", "config")
	setHelp(cmd, flagGroup{"Question", []string{"ready", "timeout"}},
		flagGroup{"Where", []string{"url", "listen", "tls-listen", "internal-listen", "config"}},
		flagGroup{"TLS, for https://", clientTLSNames})
	return cmd
}

// healthPlace finds whom to ask about health.
func (s *settings) healthPlace(opts *options, env []string, where string, ready bool) (place, error) {
	if where == "" {
		if err := opts.lookUp(env, "listen", "tls-listen", "internal-listen"); err != nil {
			return place{}, usageError{err}
		}
		if ready && s.internalListen == "off" {
			return place{}, opts.explain(usagef("--internal-listen off leaves nobody to ask: leave --ready out, or give --url"))
		}
	}
	return s.place(opts, where, ready)
}
