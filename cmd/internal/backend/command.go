package backend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench/clienttls"
	"sluice/cmd/internal/cli"
	"sluice/gateway/hook"
	"sluice/gateway/hook/config"
	"sluice/gateway/hook/proxy"
)

// NewCommand returns `sluice hook`.
func NewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hook COMMAND",
		Short: "Try an application's backend for hooks",
		Example: `  sluice hook test http://127.0.0.1:3000/connect --event connect
  sluice hook test https://app.example.com/hook --user 42`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Usagef("missing command: use test; see '%s --help'", cmd.CommandPath())
			}
			return cli.UnknownCommand(cmd, args[0], "")
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // never reached
	}
	cli.SetHelp(cmd)
	cmd.AddCommand(newTestCommand())
	return cmd
}

// test are the flags of `sluice hook test`.
type test struct {
	clienttls.Flags
	events                []string
	user, channel, method string
	data, meta            string
	headers               []string
	timeout               time.Duration
	binary, asJSON        bool

	endpoint  string
	dataGiven bool
	who       hook.Identity // before the client is known
}

func newTestCommand() *cobra.Command {
	var t test
	cmd := &cobra.Command{
		Use:   "test URL",
		Short: "Send each event to a backend, and say what its answers mean",
		Example: `  sluice hook test http://127.0.0.1:3000/connect --header 'Cookie: sid=1'
  sluice hook test https://app.example.com/hook --event publish --user 42 --json`,
		Long: `Sends the bytes that the gateway would send, prints them with the answer, and
says what that means to a client. The exit code is 1 if there is no decision in
an answer: no connection, no answer in time, a status other than 200, or JSON
that cannot be used. An error or a disconnect is a decision.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Usagef("specify one URL, such as http://127.0.0.1:3000/hook")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			t.endpoint, t.dataGiven = args[0], cmd.Flags().Changed("data")
			e, trace, err := t.open()
			if err != nil {
				return err
			}
			defer e.Close()
			failed := false
			list := []exchange{}
			for _, p := range t.probes() {
				x := p(cmd.Context(), e, trace)
				if cmd.Context().Err() != nil {
					return cmd.Context().Err()
				}
				if failed = failed || x.failed; !t.asJSON {
					x.print(cmd.OutOrStdout(), len(list) > 0)
				}
				list = append(list, x)
			}
			if t.asJSON {
				if err := cli.PrintJSON(cmd.OutOrStdout(), map[string]any{"events": list}); err != nil {
					return err
				}
			}
			if failed {
				return cli.ExitCode(cli.ExitFailed)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&t.events, "event", events, "send these `EVENTS` only")
	f.StringVar(&t.user, "user", "42", "`ID` of the user, after the connect event; '' for an anonymous one")
	f.StringVar(&t.channel, "channel", "news", "`CHANNEL` of the events that have one")
	f.StringVar(&t.method, "method", "greet", "`METHOD` of the rpc event")
	f.StringVar(&t.data, "data", `{"text":"hello"}`, "`JSON` that the client sends; with this flag, with the connect and subscribe events as well")
	f.StringVar(&t.meta, "meta", "", "`JSON` that is attached to the connection (include_connection_meta)")
	f.StringArrayVar(&t.headers, "header", nil, "header line `'K: V'` of the client's opening request that is passed on (repeatable)")
	f.BoolVar(&t.binary, "binary", false, "send data as base64 (binary_encoding)")
	f.DurationVar(&t.timeout, "timeout", time.Second, "wait at most `TIME` for an answer")
	t.Flags.AddFlags(f)
	f.BoolVar(&t.asJSON, "json", false, "print JSON: the events, each with its request, answer and outcome")
	_ = cmd.RegisterFlagCompletionFunc("event", cobra.FixedCompletions(events, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that does not exist
	cli.SetHelp(cmd, cli.Flags("Events", "event", "user", "channel", "method", "data", "meta"),
		cli.Flags("Request", append([]string{"header", "binary", "timeout"}, clienttls.Names...)...), cli.Flags("Output", "json"))
	return cmd
}

// open checks the flags, and returns the endpoint, and where it traces calls. Its errors are usage errors.
func (t *test) open() (*proxy.Endpoint, chan proxy.Exchange, error) {
	for _, name := range t.events {
		if !slices.Contains(events, name) {
			return nil, nil, cli.Usagef("--event %s: there is no such event; %s", name, cli.Advice(name, "", events, "use "+strings.Join(events, ", ")))
		}
	}
	for flag, text := range map[string]string{"data": t.data, "meta": t.meta} {
		if text != "" && !json.Valid([]byte(text)) && (flag == "meta" || !t.binary) {
			return nil, nil, cli.Usagef("--%s: not JSON; write a string with its quotes, such as --%s '\"hello\"'", flag, flag)
		}
	}
	if t.timeout <= 0 {
		return nil, nil, cli.Usagef("--timeout %v: must be greater than 0, such as 1s", t.timeout)
	}
	tls, err := t.Config()
	if err != nil {
		return nil, nil, cli.Usagef("%w", err)
	}
	cfg := proxy.Config{Name: hook.Default, Endpoint: t.endpoint, Timeout: t.timeout, Binary: t.binary, Meta: t.meta != "", TLS: tls}
	t.who = hook.Identity{ID: "c9bf9e57-1685-4c89-bafb-ff5af830be8a", Transport: "websocket", Protocol: "json"}
	for _, line := range t.headers {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != name || name == "" {
			return nil, nil, cli.Usagef("--header %q: not a header; write 'Name: value'", line)
		}
		if name = http.CanonicalHeaderKey(name); !slices.Contains(cfg.Headers, name) {
			cfg.Headers = append(cfg.Headers, name)
		}
		t.who.Headers = append(t.who.Headers, hook.Field{Name: name, Value: strings.TrimSpace(value)})
	}
	if _, err := (config.Flags{Connect: t.endpoint, Headers: cfg.Headers}).Config(); err != nil {
		f := config.Faults(err)[0]
		if f.Where == "--hook-headers" {
			return nil, nil, cli.Usagef("--header: %w", f.Err)
		}
		return nil, nil, cli.Usagef("%s: %w", cli.RedactURL(t.endpoint), f.Err)
	}
	trace := make(chan proxy.Exchange, 1)
	cfg.Trace = func(x proxy.Exchange) {
		x.Body, x.Answer, x.Header = slices.Clone(x.Body), slices.Clone(x.Answer), x.Header.Clone()
		trace <- x
	}
	e, err := proxy.New(cfg)
	if err != nil {
		return nil, nil, err // what is wrong with it is known already
	}
	return e, trace, nil
}

// head returns the head of a request as it was sent, with what package net/http adds. The password of the URL is
// left out.
func head(endpoint string, x proxy.Exchange) (lines []string) {
	r, err := http.NewRequest(http.MethodPost, endpoint, nil)
	if err != nil {
		return nil // it was sent
	}
	lines = append(lines, fmt.Sprintf("POST %s HTTP/1.1", r.URL.RequestURI()), "Host: "+r.URL.Host, "User-Agent: Go-http-client/1.1", fmt.Sprintf("Content-Length: %d", len(x.Body)))
	var names []string
	for name := range x.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range x.Header[name] {
			if name == "Authorization" {
				value = "***"
			}
			lines = append(lines, name+": "+value)
		}
	}
	return lines
}
