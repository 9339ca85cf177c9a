package main

import (
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
	"unicode"

	"github.com/spf13/cobra"
)

// `sluice top` shows what the internal listener of a gateway reports about its
// connections: refreshed on a terminal, otherwise once. top.go has the command and the
// requests, top_answer.go the parsing of answers, top_table.go the text, top_screen.go
// the terminal.

// topSorts are the orders that the gateway supports; the first letter is the key for it
// on the terminal.
var topSorts = []string{"pending", "lag", "age", "id"}

// limitUnbound is how many connections are shown when the output is not a terminal.
const limitUnbound = 50

// top is one call of the command.
type top struct {
	place    place
	sort     string
	limit    int // 0: as many as fit
	interval time.Duration
	timeout  time.Duration
	color    bool
	once     bool
	json     bool
	close    string // id of a connection
}

// newTopCommand returns `sluice top`.
func newTopCommand(cfg *settings, opts *options, env []string) *cobra.Command {
	var (
		t      top
		where  string
		secure clientTLS
	)
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the connections of a running gateway, worst first",
		Example: `  sluice top --sort lag
  sluice top --once --limit 10
  sluice top --close 17`,
		Long: `On a terminal, the table refreshes until you press q; p, l, a and i sort by
pending bytes, lag, age and ID. If the output is not a terminal, top prints one
table and exits. The address of the internal listener comes from the same
environment and file as for 'sluice serve'. NO_COLOR turns colors off.

--close closes a connection with code 1008 (3503 for the Centrifugo protocol).
'sluice sub' and 'sluice pub' do not reconnect after that. A web page may.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.check(cmd.Flags().Changed("limit")); err != nil {
				return err
			}
			var err error
			if t.place, err = cfg.inspector(opts, env, where); err != nil {
				return err
			}
			if t.place.tls, err = secure.config(); err != nil {
				return err
			}
			t.color = lookUpEnv(env, "NO_COLOR") == ""
			return t.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), lookUpEnv(env, "TERM"))
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
	f.Lookup("limit").DefValue = "" // help would show 0 as the default, which is not accepted
	secure.register(cmd)
	bindEnv(cmd, env, clientTLSNames...)
	opts.register(cmd, "internal-listen", "api-key-file", "config")
	// Fails only for a flag that does not exist or has words already.
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(topSorts, cobra.ShellCompDirectiveNoFileComp))
	setHelp(cmd, flagGroup{"Table", []string{"sort", "limit", "interval", "once", "json"}},
		flagGroup{"Action", []string{"close"}},
		flagGroup{"Address", []string{"url", "timeout", "internal-listen", "api-key-file", "config"}},
		flagGroup{"TLS (https)", clientTLSNames})
	return cmd
}

// check validates the flags; its errors are usage errors.
func (t *top) check(limited bool) error {
	const intervalMin = 100 * time.Millisecond
	notInID := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' }
	switch {
	case !slices.Contains(topSorts, t.sort):
		return optionUsage("sort", " %s: must be one of %s", t.sort, strings.Join(topSorts, ", "))
	case limited && t.limit < 1:
		return optionUsage("limit", " %d: must be at least 1; omit it to fill the terminal", t.limit)
	case t.interval < intervalMin:
		return optionUsage("interval", " %v: must be at least %v, because each refresh costs the gateway CPU", t.interval, intervalMin)
	case t.timeout <= 0:
		return optionUsage("timeout", " %v: must be greater than 0, such as 2s", t.timeout)
	case t.close != "" && (t.json || t.once):
		return optionUsage("close", " prints no table: remove --once and --json")
	case strings.ContainsFunc(t.close, notInID):
		return optionUsage("close", " %q: must be a connection ID from the table, such as 17", t.close)
	}
	return nil
}

// inspector returns the internal listener to ask about connections, with its API key.
func (s *settings) inspector(opts *options, env []string, where string) (place, error) {
	names := []string{"api-key-file"}
	if where == "" {
		names = append(names, "internal-listen")
	}
	if err := opts.lookUp(env, names...); err != nil {
		return place{}, usageError{err}
	}
	if where == "" && s.internalListen == "off" {
		return place{}, opts.explain(optionUsage("internal-listen", " off: there is no internal listener to query; use --url"))
	}
	p, err := s.place(opts, where, true)
	if err != nil {
		return place{}, err
	}
	if p.apiKey, err = s.apiKey(); err != nil {
		return place{}, opts.explain(err)
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
	limit := t.limit
	if limit == 0 {
		limit = limitUnbound
	}
	var text []byte
	if t.json {
		body, err := t.connections(ctx, t.sort, limit)
		if err != nil {
			return err
		}
		text = body
		if n := len(text); n == 0 || text[n-1] != '\n' {
			text = append(text, '\n')
		}
	} else {
		v, err := t.look(ctx, limit)
		if err != nil {
			return err
		}
		text = []byte(strings.Join(append(append(v.totals(), ""), v.table(false)...), "\n") + "\n")
	}
	if _, err := stdout.Write(text); err != nil {
		return fmt.Errorf("standard output: %w", bareError(err))
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
	p := t.place.below(inspectorPath)
	if err := v.connections.read(body); err != nil {
		return v, fmt.Errorf("%s: unexpected response: %w; is this a gateway's internal listener?", p, err)
	}
	p = t.place.below("/metrics")
	a, err := p.ask(ctx, t.timeout, http.MethodGet)
	switch {
	case err != nil:
		return v, err
	case a.status != http.StatusOK:
		return v, p.inspectorRefused(a)
	}
	v.at = time.Now()
	v.figures = readFigures(string(a.body))
	return v, nil
}

const inspectorPath = "/api/connections"

// connections requests the worst connections.
func (t *top) connections(ctx context.Context, sort string, limit int) ([]byte, error) {
	p := t.place.below(inspectorPath)
	p.url.RawQuery = url.Values{"sort": {sort}, "limit": {strconv.Itoa(limit)}}.Encode()
	a, err := p.ask(ctx, t.timeout, http.MethodGet)
	switch {
	case err != nil:
		return nil, err
	case a.status != http.StatusOK:
		return nil, p.inspectorRefused(a)
	}
	return a.body, nil
}

// inspectorRefused returns the error for an answer that is not 200, with what the user can
// do about it.
func (p place) inspectorRefused(a answer) error {
	switch a.status {
	case http.StatusUnauthorized:
		return fmt.Errorf("%s: missing or wrong API key; specify the gateway's key with --api-key-file", p)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return fmt.Errorf("%s: not found; this is not a gateway's internal listener (use --url), or the gateway is older than this command", p)
	}
	return p.refused(a)
}

// closeConnection asks the gateway to close one connection.
func (t *top) closeConnection(ctx context.Context, stdout io.Writer) error {
	p := t.place.below(inspectorPath + "/" + t.close + "/close")
	a, err := p.ask(ctx, t.timeout, http.MethodPost)
	switch {
	case err != nil:
		return err
	case a.status == http.StatusOK:
		_, err := fmt.Fprintf(stdout, "closed connection %s\n", t.close)
		return err
	case a.status != http.StatusNotFound:
		return p.inspectorRefused(a)
	}
	// There is no such connection, or the server does not know connections at all.
	if _, err := t.connections(ctx, topSorts[0], 1); err != nil {
		return err
	}
	return errors.New("no connection " + t.close + ": it may have ended; 'sluice top' lists the open ones")
}

// lookUpEnv returns the value of a variable in an environment, or "".
func lookUpEnv(env []string, name string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
