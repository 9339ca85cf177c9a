package top

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench/clienttls"
	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/client"
	"sluice/cmd/internal/doctor"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// upgrade is `sluice upgrade`.
type upgrade struct {
	place   doctor.Place
	timeout time.Duration
	json    bool
	abort   bool
}

// NewUpgradeCommand returns `sluice upgrade`.
func NewUpgradeCommand(cfg *serve.Settings, opts *option.Options, env []string) *cobra.Command {
	var (
		u      upgrade
		where  string
		secure clienttls.Flags
	)
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace a running gateway without closing connections",
		Example: `  install -m 0755 sluice-new /usr/local/bin/sluice && sluice upgrade
  sluice upgrade --abort`,
		Long: `Makes a running gateway execute its program anew, with the same arguments, and
hand over to that process its listeners, channels and connections. Clients
notice nothing, except that those with TLS are told to reconnect. If it fails,
the gateway goes on as it was. The new process reads its configuration anew.

SIGUSR2 does the same. The gateway refuses as process 1 of a container, and if
the new configuration would not accept what is live. To end an upgrade that is
under way, use --abort: interrupting this command does not.`,
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if u.timeout <= 0 {
				return cli.OptionUsage("timeout", " %v: must be greater than 0, such as 1m", u.timeout)
			}
			var err error
			if u.place, err = inspector(cfg, opts, env, where); err != nil {
				return err
			}
			if u.place.TLS, err = secure.Config(); err != nil {
				return cli.Usagef("%w", err)
			}
			u.place = u.place.Below("/api/upgrade")
			if u.abort {
				return u.runAbort(cmd.Context())
			}
			return u.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&u.abort, "abort", false, "end an upgrade that is under way; the gateway goes on as it was")
	f.BoolVar(&u.json, "json", false, "print the gateway's JSON response")
	f.StringVar(&where, "url", "", "`URL` of the internal listener: http, https or unix:/path")
	f.DurationVar(&u.timeout, "timeout", time.Minute, "wait at most `TIME` for the end of the upgrade")
	secure.AddFlags(f)
	cli.BindEnv(cmd, env, clienttls.Names...)
	opts.Register(cmd, "internal-listen", "api-key-file", "config")
	cli.SetHelp(cmd, cli.Flags("Upgrade", "abort", "json"),
		cli.Flags("Address", "url", "timeout", "internal-listen", "api-key-file", "config"),
		cli.Flags("TLS (https)", clienttls.Names...))
	return cmd
}

// upgradeReport is the answer of POST /api/upgrade. Its text comes from outside.
type upgradeReport struct {
	From    string        `json:"from"`
	To      string        `json:"to"`
	PID     int           `json:"pid"`
	Moved   int           `json:"moved"`
	Secure  int           `json:"secure"`
	Copied  int           `json:"copied"`
	Records int           `json:"records"`
	Frozen  time.Duration `json:"frozen_ns"`
	Took    time.Duration `json:"took_ns"`
}

// progressEvery is how often a line says that the upgrade is still awaited.
const progressEvery = 2 * time.Second

// ask asks for the upgrade, and waits for its end.
func (u *upgrade) ask(ctx context.Context, stderr io.Writer, every time.Duration) (a doctor.Answer, err error) {
	began, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		a, err = u.place.Ask(ctx, u.timeout, http.MethodPost)
	}()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return a, err
		case <-tick.C:
			fmt.Fprintf(stderr, "after %v, the new process has not taken over yet; 'sluice upgrade --abort' ends the attempt\n", time.Since(began).Round(time.Second)) // ignored: nobody looks
		}
	}
}

// run upgrades the gateway, and prints the report.
func (u *upgrade) run(ctx context.Context, stdout, stderr io.Writer) error {
	a, err := u.ask(ctx, stderr, progressEvery)
	if err == nil && a.Status != http.StatusOK {
		err = u.failed(a)
	}
	if err != nil {
		return err
	}
	text := string(a.Body)
	if !u.json {
		var r upgradeReport
		if json.Unmarshal(a.Body, &r) != nil || r.PID == 0 {
			return fmt.Errorf("%s: unexpected response; is this a gateway's internal listener?", u.place)
		}
		text = r.text()
	}
	if _, err := io.WriteString(stdout, text); err != nil {
		return fmt.Errorf("standard output: %w", cli.BareError(err))
	}
	return nil
}

// failed returns the error for an upgrade that the gateway has refused, or that has failed.
func (u *upgrade) failed(a doctor.Answer) error {
	why := cli.Cell(client.InternalError(a.Body))
	switch client.InternalErrorCode(a.Body) {
	case "upgrade_failed", "aborted", "process_1":
		return fmt.Errorf("not upgraded, the gateway goes on as it was: %s", why)
	case "upgrade_running", "shutting_down", "upgrade_lost", "no_upgrade":
		return fmt.Errorf("not upgraded: %s", why)
	}
	return refused(u.place, a)
}

// text is the report for people.
func (r *upgradeReport) text() string {
	frozen := r.Frozen.Round(10 * time.Microsecond)
	s := fmt.Sprintf("upgraded from %s to %s: process %d serves\n", cli.Cell(r.From), cli.Cell(r.To), r.PID)
	s += fmt.Sprintf("  moved    %s in %s; nobody was served for %s of that\n",
		connections(r.Moved), r.Took.Round(time.Millisecond), frozen)
	if r.Secure > 0 {
		s += fmt.Sprintf("  drained  %s with TLS, which cannot move: each client is asked to reconnect\n", connections(r.Secure))
	}
	return s + fmt.Sprintf("  copied   %s before these %s, and %s in them\n", cli.AboutSize(r.Copied), frozen, cli.AboutSize(r.Records))
}

// connections returns a number of connections in words.
func connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return cli.FormatCount(n) + " connections"
}

// runAbort ends an upgrade that is under way.
func (u *upgrade) runAbort(ctx context.Context) error {
	a, err := u.place.Ask(ctx, u.timeout, http.MethodDelete)
	switch {
	case err != nil:
		return err
	case a.Status == http.StatusNoContent:
		return nil
	case a.Status == http.StatusConflict:
		return errors.New("no upgrade is under way")
	}
	return refused(u.place, a)
}
