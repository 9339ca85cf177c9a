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

// `sluice top` shows what the internal listener of a gateway tells about its
// connections: again and again on a terminal, else once. top.go has the command and
// the questions, top_answer.go what is made of the answers, top_table.go the text,
// top_screen.go the terminal.

// topSorts are the orders that the gateway knows; a key of the terminal is the
// first letter.
var topSorts = []string{"pending", "lag", "age", "id"}

// limitUnbound is how many connections are shown where no terminal is to be filled.
const limitUnbound = 50

// top is one call of the command.
type top struct {
	place    place
	sort     string
	limit    int // 0: as many as fit
	interval time.Duration
	timeout  time.Duration
	colour   bool
	once     bool
	json     bool
	close    string // id of a connection
}

// newTopCommand gives `sluice top`.
func newTopCommand(cfg *settings, opts *options, env []string) *cobra.Command {
	var (
		t      top
		where  string
		secure clientTLS
	)
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the connections of a running gateway, the worst first",
		Example: `  sluice top --sort lag
  sluice top --once --limit 10
  sluice top --close 17`,
		Long: `It asks the internal listener, where the same environment and file tell 'sluice
serve' to have it. On a terminal it goes on until q; p, l, a and i sort by
pending bytes, lag, age and id. Elsewhere it prints one table. NO_COLOR keeps
colours away.

--close ends a connection for good: 'sluice sub' and 'sluice pub' do not come
back after it (close code 1008). A page may.`,
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
			t.colour = lookUpEnv(env, "NO_COLOR") == ""
			return t.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), lookUpEnv(env, "TERM"))
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&t.sort, "sort", topSorts[0], "the `WORD` to sort by: pending (bytes), lag (publications behind), age (of the oldest unsent byte) or id")
	f.IntVar(&t.limit, "limit", 0, fmt.Sprintf("`N` connections at most: as many as fit the terminal, or %d", limitUnbound))
	f.DurationVar(&t.interval, "interval", time.Second, "`TIME` from one look to the next")
	f.BoolVar(&t.once, "once", false, "print one table, as where there is no terminal")
	f.BoolVar(&t.json, "json", false, "print the gateway's answer as it is, once")
	f.StringVar(&t.close, "close", "", "close the connection with this `ID` and show nothing")
	f.StringVar(&where, "url", "", "`URL` of the internal listener; or unix:/path")
	f.DurationVar(&t.timeout, "timeout", 2*time.Second, "`TIME` for an answer")
	f.Lookup("limit").DefValue = "" // help would call 0 the default, which is not taken
	secure.register(cmd)
	bindEnv(cmd, env, clientTLSNames...)
	opts.register(cmd, "internal-listen", "api-key-file", "config")
	// Fails only for a flag that does not exist or has words already.
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(topSorts, cobra.ShellCompDirectiveNoFileComp))
	setHelp(cmd, flagGroup{"Table", []string{"sort", "limit", "interval", "once", "json"}},
		flagGroup{"Action", []string{"close"}},
		flagGroup{"Where", []string{"url", "timeout", "internal-listen", "api-key-file", "config"}},
		flagGroup{"TLS, for https://", clientTLSNames})
	return cmd
}

// check looks at the flags; its errors are usage errors.
func (t *top) check(limited bool) error {
	const intervalMin = 100 * time.Millisecond
	notInID := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' }
	switch {
	case !slices.Contains(topSorts, t.sort):
		return usagef("--sort %s: not known: give one of %s", t.sort, strings.Join(topSorts, ", "))
	case limited && t.limit < 1:
		return usagef("--limit %d: must be at least 1: leave it out for as many as fit", t.limit)
	case t.interval < intervalMin:
		return usagef("--interval %v: must be at least %v: each look costs the gateway some time", t.interval, intervalMin)
	case t.timeout <= 0:
		return usagef("--timeout %v must be more than 0: give a time such as 2s", t.timeout)
	case t.close != "" && (t.json || t.once):
		return usagef("--close shows nothing: leave --once and --json out")
	case strings.ContainsFunc(t.close, notInID):
		return usagef("--close %q: not an id: give one as the table shows it, such as 17", t.close)
	}
	return nil
}

// inspector finds whom to ask about connections, and the key for it.
func (s *settings) inspector(opts *options, env []string, where string) (place, error) {
	names := []string{"api-key-file"}
	if where == "" {
		names = append(names, "internal-listen")
	}
	if err := opts.lookUp(env, names...); err != nil {
		return place{}, usageError{err}
	}
	if where == "" && s.internalListen == "off" {
		return place{}, opts.explain(usagef("--internal-listen off leaves nobody to ask: give --url"))
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
	first, err := t.look(ctx, t.fitting(screen.size())) // an error that lasts is a line, not a picture
	if err != nil {
		return err
	}
	if err := screen.enter(); err != nil {
		return err
	}
	defer screen.leave()
	return t.watch(ctx, screen, first)
}

// print writes one table, or the answer as it is.
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

// look asks for everything that a table shows.
func (t *top) look(ctx context.Context, limit int) (view, error) {
	v := view{sort: t.sort}
	body, err := t.connections(ctx, v.sort, limit)
	if err != nil {
		return v, err
	}
	p := t.place.below(inspectorPath)
	if err := v.connections.read(body); err != nil {
		return v, fmt.Errorf("%s: the answer is not what a gateway gives: %w: is --url its internal listener?", p, err)
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

// connections asks for the worst of them.
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

// inspectorRefused is the error of an answer that is not 200, with what the user
// can do about it.
func (p place) inspectorRefused(a answer) error {
	switch a.status {
	case http.StatusUnauthorized:
		return fmt.Errorf("%s: the API key is missing or wrong: give the gateway's with --api-key-file", p)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return fmt.Errorf("%s: there is no such thing: the gateway is older than this sluice, or this is not its internal listener: update it, or give --url", p)
	}
	return p.refused(a)
}

// closeConnection has the gateway close one connection.
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
	// No connection, or nothing that knows connections at all.
	if _, err := t.connections(ctx, topSorts[0], 1); err != nil {
		return err
	}
	return errors.New("connection " + t.close + ": there is none: it may have ended: see 'sluice top' for those that are")
}

// lookUpEnv gives a variable of an environment, or "".
func lookUpEnv(env []string, name string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
