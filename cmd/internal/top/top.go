package top

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench/clienttls"
	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/doctor"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// topSorts are the orders that the gateway supports; the first letter is the key for it
// on the terminal.
var topSorts = []string{"pending", "lag", "age", "id"}

// limitUnbound is how many connections are shown when the output is not a terminal.
const limitUnbound = 50

// top is one call of the command.
type top struct {
	place    doctor.Place
	sort     string
	limit    int // 0: as many as fit
	interval time.Duration
	timeout  time.Duration
	color    bool
	once     bool
	json     bool
	close    string // id of a connection
}

// NewCommand returns `sluice top`.
func NewCommand(cfg *serve.Settings, opts *option.Options, env []string) *cobra.Command {
	var (
		t      top
		where  string
		secure clienttls.Flags
	)
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the connections of a running gateway, worst first",
		Example: `  sluice top --sort lag
  sluice top --once --limit 10
  sluice top --close 8813299279671066641`,
		Long: `On a terminal, the table refreshes until you press q; p, l, a and i sort by
pending bytes, lag, age and ID. If the output is not a terminal, top prints one
table and exits. The address of the internal listener comes from the same
environment and file as for 'sluice serve'. NO_COLOR turns colors off.

--close closes a connection with code 1008 (3503 for the Centrifugo protocol).
'sluice sub' and 'sluice pub' do not reconnect after that. A web page may.`,
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.check(cmd.Flags().Changed); err != nil {
				return err
			}
			var err error
			if t.place, err = inspector(cfg, opts, env, where); err != nil {
				return err
			}
			if t.place.TLS, err = secure.Config(); err != nil {
				return cli.Usagef("%w", err)
			}
			t.color = cli.LookUpEnv(env, "NO_COLOR") == ""
			return t.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cli.LookUpEnv(env, "TERM"))
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&t.sort, "sort", topSorts[0], "sort by `WORD`: pending (bytes), lag (publications behind), age (of the oldest unsent byte) or id")
	f.IntVar(&t.limit, "limit", 0, fmt.Sprintf("show at most `N` connections; by default as many as fit the terminal, or %d", limitUnbound))
	f.DurationVar(&t.interval, "interval", time.Second, "refresh the table every `TIME`")
	f.BoolVar(&t.once, "once", false, "print one table and exit, as when the output is not a terminal")
	f.BoolVar(&t.json, "json", false, "print the gateway's JSON response and exit")
	f.StringVar(&t.close, "close", "", "close the connection with this `ID` and exit")
	f.StringVar(&where, "url", "", "`URL` of the internal listener: http, https or unix:/path")
	f.DurationVar(&t.timeout, "timeout", 2*time.Second, "wait at most `TIME` for a response")
	secure.AddFlags(f)
	cli.BindEnv(cmd, env, clienttls.Names...)
	opts.Register(cmd, "internal-listen", "api-key-file", "config")
	// Fails only for a flag that does not exist or has words already.
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(topSorts, cobra.ShellCompDirectiveNoFileComp))
	cli.SetHelp(cmd, cli.Flags("Table", "sort", "limit", "interval", "once", "json"),
		cli.Flags("Action", "close"),
		cli.Flags("Address", "url", "timeout", "internal-listen", "api-key-file", "config"),
		cli.Flags("TLS (https)", clienttls.Names...))
	return cmd
}

// check validates the flags, of which changed reports whether one was set; its errors are
// usage errors.
func (t *top) check(changed func(flag string) bool) error {
	const intervalMin = 100 * time.Millisecond
	_, notID := strconv.ParseUint(t.close, 10, 64)
	switch {
	case !slices.Contains(topSorts, t.sort):
		return cli.OptionUsage("sort", " %s: must be one of %s", t.sort, strings.Join(topSorts, ", "))
	case changed("limit") && t.limit < 1:
		return cli.OptionUsage("limit", " %d: must be at least 1; omit it to fill the terminal", t.limit)
	case t.interval < intervalMin:
		return cli.OptionUsage("interval", " %v: must be at least %v, because each refresh costs the gateway CPU", t.interval, intervalMin)
	case t.timeout <= 0:
		return cli.OptionUsage("timeout", " %v: must be greater than 0, such as 2s", t.timeout)
	case changed("close") && (t.json || t.once):
		return cli.OptionUsage("close", " prints no table: remove --once and --json")
	case changed("close") && notID != nil:
		return cli.OptionUsage("close", " %q: must be a connection ID from the table, such as 8813299279671066641", t.close)
	}
	return nil
}

// inspector returns the internal listener to ask about connections, with its API key.
func inspector(s *serve.Settings, opts *option.Options, env []string, where string) (doctor.Place, error) {
	names := []string{"api-key-file"}
	if where == "" {
		names = append(names, "internal-listen")
	}
	if err := opts.LookUp(env, names...); err != nil {
		return doctor.Place{}, cli.Usagef("%w", err)
	}
	if where == "" && s.InternalListen == "off" {
		return doctor.Place{}, opts.Explain(cli.OptionUsage("internal-listen", " off: there is no internal listener to query; use --url"))
	}
	p, err := doctor.PlaceOf(s, opts, where, true)
	if err != nil {
		return doctor.Place{}, err
	}
	if p.APIKey, err = s.APIKey(); err != nil {
		return doctor.Place{}, opts.Explain(err)
	}
	return p, nil
}

// run does what the flags say.
func (t *top) run(ctx context.Context, stdin io.Reader, stdout io.Writer, terminal string) error {
	if t.close != "" {
		return t.closeConnection(ctx, stdout)
	}
	screen := newScreen(stdin, stdout)
	if t.json || t.once || screen == nil || terminal == "dumb" {
		return t.print(ctx, stdout)
	}
	first, err := t.look(ctx, t.fitting(screen.size())) // an error at the start is a message, not a picture
	if err != nil {
		return err
	}
	if err := screen.enter(); err != nil {
		return err
	}
	defer screen.leave()
	return t.watch(ctx, screen, first)
}

// print writes one table, or the answer itself.
func (t *top) print(ctx context.Context, stdout io.Writer) error {
	limit := cmp.Or(t.limit, limitUnbound)
	var text []byte
	if t.json {
		body, err := t.connections(ctx, t.sort, limit)
		if err != nil {
			return err
		}
		text = append(bytes.TrimSuffix(body, []byte("\n")), '\n')
	} else {
		v, err := t.look(ctx, limit)
		if err != nil {
			return err
		}
		text = []byte(strings.Join(append(append(v.totals(), ""), v.table(false)...), "\n") + "\n")
	}
	if _, err := stdout.Write(text); err != nil {
		return fmt.Errorf("standard output: %w", cli.BareError(err))
	}
	return nil
}

// look requests everything that the table shows.
func (t *top) look(ctx context.Context, limit int) (view, error) {
	v := view{sort: t.sort}
	body, err := t.connections(ctx, v.sort, limit)
	if err != nil {
		return v, err
	}
	p := t.place.Below(inspectorPath)
	if err := v.connections.read(body); err != nil {
		return v, fmt.Errorf("%s: unexpected response: %w; is this a gateway's internal listener?", p, err)
	}
	p = t.place.Below("/metrics")
	if body, err = t.ask(ctx, p); err != nil {
		return v, err
	}
	v.at = time.Now()
	if v.figures, err = readFigures(body); err != nil {
		return v, fmt.Errorf("%s: unexpected response: %w; is this a gateway's internal listener?", p, err)
	}
	return v, nil
}

const inspectorPath = "/api/connections"

// connections requests the worst connections.
func (t *top) connections(ctx context.Context, sort string, limit int) ([]byte, error) {
	p := t.place.Below(inspectorPath)
	p.URL.RawQuery = url.Values{"sort": {sort}, "limit": {strconv.Itoa(limit)}}.Encode()
	return t.ask(ctx, p)
}

// ask returns the body of an answer of 200.
func (t *top) ask(ctx context.Context, p doctor.Place) ([]byte, error) {
	a, err := p.Ask(ctx, t.timeout, http.MethodGet)
	if err == nil && a.Status != http.StatusOK {
		err = refused(p, a)
	}
	return a.Body, err
}

// refused returns the error for an answer that is not 200, with what the user can
// do about it.
func refused(p doctor.Place, a doctor.Answer) error {
	switch a.Status {
	case http.StatusUnauthorized:
		return fmt.Errorf("%s: missing or wrong API key; specify the gateway's key with --api-key-file", p)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return fmt.Errorf("%s: not found; this is not a gateway's internal listener (use --url), or the gateway is older than this command", p)
	}
	return p.Refused(a)
}

// closeConnection asks the gateway to close one connection.
func (t *top) closeConnection(ctx context.Context, stdout io.Writer) error {
	p := t.place.Below(inspectorPath + "/" + t.close + "/close")
	a, err := p.Ask(ctx, t.timeout, http.MethodPost)
	switch {
	case err != nil:
		return err
	case a.Status == http.StatusOK:
		_, err := fmt.Fprintf(stdout, "closed connection %s\n", t.close)
		return err
	case a.Status != http.StatusNotFound:
		return refused(p, a)
	}
	// There is no such connection, or the server does not know connections at all.
	if _, err := t.connections(ctx, topSorts[0], 1); err != nil {
		return err
	}
	return errors.New("no connection " + t.close + ": it may have ended; 'sluice top' lists the open ones")
}
