package top

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench/clienttls"
	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/client"
	"sluice/cmd/internal/doctor"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// reload is `sluice reload`.
type reload struct {
	place   doctor.Place
	timeout time.Duration
	json    bool
	revoke  bool
}

// NewReloadCommand returns `sluice reload`.
func NewReloadCommand(cfg *serve.Settings, opts *option.Options, env []string) *cobra.Command {
	var (
		r      reload
		where  string
		secure clienttls.Flags
	)
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Apply changed configuration files to a running gateway",
		Example: `  sluice check --config /etc/sluice.conf && sluice reload
  sluice reload --revoke`,
		Long: fmt.Sprintf(`Makes a running gateway read its configuration file anew, and the files that it
names: namespaces, hooks, keys. All of it is checked, and then it replaces the
current configuration completely, or nothing changes. Connections stay open.
Subscriptions that are not allowed any more end.

SIGHUP does the same. If a change needs a restart, nothing is reloaded, and the
settings are named; 'sluice upgrade' applies them without closing connections.
Exit codes: 0 reloaded, %d the configuration has faults, %d a restart is needed,
1 every other failure.`, cli.ExitUsage, cli.ExitRestart),
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.timeout <= 0 {
				return cli.OptionUsage("timeout", " %v: must be greater than 0, such as 1m", r.timeout)
			}
			var err error
			if r.place, err = inspector(cfg, opts, env, where); err != nil {
				return err
			}
			if r.place.TLS, err = secure.Config(); err != nil {
				return cli.Usagef("%w", err)
			}
			r.place = r.place.Below("/api/reload")
			return r.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&r.revoke, "revoke", false, "close the connections of tokens that were signed by a removed key; without it, they stay until they expire")
	f.BoolVar(&r.json, "json", false, "print the gateway's JSON response, also when it refuses")
	f.StringVar(&where, "url", "", "`URL` of the internal listener: http, https or unix:/path")
	f.DurationVar(&r.timeout, "timeout", time.Minute, "wait at most `TIME` for the response")
	secure.AddFlags(f)
	cli.BindEnv(cmd, env, clienttls.Names...)
	opts.Register(cmd, "internal-listen", "api-key-file", "config")
	cli.SetHelp(cmd, cli.Flags("Reload", "revoke", "json"),
		cli.Flags("Address", "url", "timeout", "internal-listen", "api-key-file", "config"),
		cli.Flags("TLS (https)", clienttls.Names...))
	return cmd
}

// run reloads, and prints the report.
func (r *reload) run(ctx context.Context, stdout, stderr io.Writer) error {
	if r.revoke {
		r.place.URL.RawQuery = url.Values{"revoke": {"true"}}.Encode()
	}
	a, err := r.place.Ask(ctx, r.timeout, http.MethodPost)
	if err != nil {
		return err
	}
	var refusal error
	text := string(a.Body)
	if a.Status != http.StatusOK {
		if refusal = r.refused(a, stderr); !r.json || !json.Valid(a.Body) {
			return refusal
		}
	} else if !r.json {
		var report serve.ReloadReport
		if json.Unmarshal(a.Body, &report) != nil || report.Changed == nil {
			return fmt.Errorf("%s: unexpected response; is this a gateway's internal listener?", r.place)
		}
		text = reloadText(&report)
	}
	if _, err := io.WriteString(stdout, text); err != nil {
		return fmt.Errorf("standard output: %w", cli.BareError(err))
	}
	return refusal
}

// refused prints why the gateway has not reloaded, a line for each fault, and returns the error.
func (r *reload) refused(a doctor.Answer, stderr io.Writer) error {
	var code cli.ExitCode
	switch client.InternalErrorCode(a.Body) {
	case "invalid":
		code = cli.ExitUsage
	case "needs_restart":
		code = cli.ExitRestart
	case "upgrade_running", "shutting_down", "no_reload":
		return fmt.Errorf("not reloaded: %s", cli.Cell(client.InternalError(a.Body)))
	default:
		return refused(r.place, a)
	}
	for line := range strings.Lines(client.InternalError(a.Body)) {
		fmt.Fprintf(stderr, "sluice: not reloaded: %s\n", cli.Line(line)) // ignored: the exit code says it, too
	}
	return code
}

// reloadText is the report for people. Its texts come from outside.
func reloadText(r *serve.ReloadReport) string {
	took := r.Took.Round(time.Millisecond)
	if len(r.Changed)+r.Unsubscribed+r.Disconnected == 0 {
		return fmt.Sprintf("reloaded in %s: nothing has changed\n", took)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "reloaded in %s\n", took)
	for _, x := range r.Changed {
		fmt.Fprintf(&b, "  %s\n", cli.Line(x.String()))
	}
	if r.Unsubscribed+r.Disconnected > 0 {
		fmt.Fprintf(&b, "  ended: %s subscriptions, %s\n", cli.FormatCount(r.Unsubscribed), connections(r.Disconnected))
	}
	return b.String()
}
