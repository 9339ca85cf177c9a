package doctor

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench/clienttls"
	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// NewHealth returns `sluice health`, for containers and supervisors without an
// HTTP client.
func NewHealth(cfg *serve.Settings, opts *option.Options, env []string) *cobra.Command {
	var (
		ready   bool
		where   string
		timeout time.Duration
		secure  clienttls.Flags
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
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return cli.OptionUsage("timeout", " %v: must be greater than 0, such as 2s", timeout)
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			p, err := healthPlace(cfg, opts, env, where, ready)
			if err != nil {
				return err
			}
			if p.URL.Path == "" || p.URL.Path == "/" {
				p = p.Below(path)
			}
			if p.TLS, err = secure.Config(); err != nil {
				return cli.Usagef("%w", err)
			}
			a, err := p.Ask(cmd.Context(), timeout, http.MethodGet)
			if err == nil && a.Status != http.StatusOK {
				err = p.Refused(a)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&ready, "ready", false, "check readiness to accept clients (/readyz on the internal listener) instead of health (/healthz on the public one)")
	f.StringVar(&where, "url", "", "check this `URL`, http, https or unix:/path; without a path, /healthz or /readyz is added")
	f.DurationVar(&timeout, "timeout", 2*time.Second, "wait at most `TIME` for the response")
	secure.AddFlags(f)
	cli.BindEnv(cmd, env, clienttls.Names...)
	opts.Register(cmd, "listen", "tls-listen", "internal-listen", "config")
	cli.SetHelp(cmd, cli.Flags("Check", "ready", "timeout"),
		cli.Flags("Address", "url", "listen", "tls-listen", "internal-listen", "config"),
		cli.Flags("TLS (https)", clienttls.Names...))
	return cmd
}

// healthPlace returns the listener to check.
func healthPlace(s *serve.Settings, opts *option.Options, env []string, where string, ready bool) (Place, error) {
	if where == "" {
		if err := opts.LookUp(env, "listen", "tls-listen", "internal-listen"); err != nil {
			return Place{}, cli.Usagef("%w", err)
		}
		if ready && s.InternalListen == "off" {
			return Place{}, opts.Explain(cli.OptionUsage("internal-listen", " off: there is no internal listener to check; remove --ready, or use --url"))
		}
	}
	return PlaceOf(s, opts, where, ready)
}
