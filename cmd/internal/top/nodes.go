package top

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench/clienttls"
	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// NewNodesCommand returns `sluice nodes`.
func NewNodesCommand(cfg *serve.Settings, opts *option.Options, env []string) *cobra.Command {
	var (
		t      top
		where  string
		secure clienttls.Flags
	)
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes that share channels with a running gateway",
		Example: `  sluice nodes
  sluice nodes --url https://gw-1.internal:9000 --api-key-file KEY`,
		Long: `Prints the state of a gateway's engine and one line for each node, the
gateway itself first. A gateway that shares no channels lists only itself. The
address of the internal listener comes from the same environment and file as
for 'sluice serve'.`,
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if t.timeout <= 0 {
				return cli.OptionUsage("timeout", " %v: must be greater than 0, such as 2s", t.timeout)
			}
			var err error
			if t.place, err = inspector(cfg, opts, env, where); err != nil {
				return err
			}
			if t.place.TLS, err = secure.Config(); err != nil {
				return cli.Usagef("%w", err)
			}
			return t.printNodes(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&t.json, "json", false, "print the gateway's JSON response")
	f.StringVar(&where, "url", "", "`URL` of the internal listener: http, https or unix:/path")
	f.DurationVar(&t.timeout, "timeout", 10*time.Second, "wait at most `TIME` for a response")
	secure.AddFlags(f)
	cli.BindEnv(cmd, env, clienttls.Names...)
	opts.Register(cmd, "internal-listen", "api-key-file", "config")
	cli.SetHelp(cmd, cli.Flags("Table", "json"),
		cli.Flags("Address", "url", "timeout", "internal-listen", "api-key-file", "config"),
		cli.Flags("TLS (https)", clienttls.Names...))
	return cmd
}

// nodeList is the answer of POST /api/info.
type nodeList struct {
	Result struct {
		Nodes   []nodeRow    `json:"nodes"`
		Partial bool         `json:"partial"`
		Engine  *engineState `json:"engine"`
	} `json:"result"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// nodeRow is one node. Its text comes from outside.
type nodeRow struct {
	ID            string `json:"uid"`
	Name          string `json:"name"`
	Version       string `json:"version"`
	Clients       int    `json:"num_clients"`
	Users         int    `json:"num_users"`
	Subscriptions int    `json:"num_subs"`
	Channels      int    `json:"num_channels"`
	Uptime        int64  `json:"uptime"`
	Away          bool   `json:"away"`
	Draining      bool   `json:"draining"`
	Silent        int64  `json:"silent"`
}

// engineState is how the gateway's engine is doing.
type engineState struct {
	Up           bool            `json:"up"`
	Parts        map[string]bool `json:"parts"`
	Away         float64         `json:"away"`
	Pending      int             `json:"pending"`
	PendingBytes int             `json:"pending_bytes"`
	Lag          float64         `json:"lag"`
	Gaps         map[string]int  `json:"gaps"`
}

// printNodes writes the table, or the answer itself.
func (t *top) printNodes(ctx context.Context, stdout io.Writer) error {
	p := t.place.Below("/api/info")
	a, err := p.Ask(ctx, t.timeout, http.MethodPost)
	if err == nil && a.Status != http.StatusOK {
		err = refused(p, a)
	}
	if err != nil {
		return err
	}
	text := append(bytes.TrimSuffix(a.Body, []byte("\n")), '\n')
	if !t.json {
		var list nodeList
		if json.Unmarshal(a.Body, &list) != nil || list.Error == nil && len(list.Result.Nodes) == 0 {
			return fmt.Errorf("%s: unexpected response; is this a gateway's internal listener?", p)
		}
		if list.Error != nil {
			return fmt.Errorf("%s: %w", p, errors.New(cli.Cell(list.Error.Message)))
		}
		text = []byte(strings.Join(list.lines(), "\n") + "\n")
	}
	if _, err := stdout.Write(text); err != nil {
		return fmt.Errorf("standard output: %w", cli.BareError(err))
	}
	return nil
}

// lines returns the table, below the engine's state.
func (l *nodeList) lines() (lines []string) {
	e := l.Result.Engine
	if e != nil {
		lines = append(lines, e.line(), "")
	}
	rows := [][]string{{"NODE", "VERSION", "CLIENTS", "USERS", "SUBSCRIPTIONS", "CHANNELS", "UPTIME", "ENGINE", "ID"}}
	for _, n := range l.Result.Nodes {
		state := "up"
		switch {
		case n.Silent > 0:
			state = "unknown, heard " + aboutDuration(time.Duration(n.Silent)*time.Second) + " ago"
		case n.Away:
			state = "away"
		case e == nil:
			state = "memory"
		}
		if n.Draining {
			state += ", draining"
		}
		rows = append(rows, []string{
			n.Name, n.Version, cli.FormatCount(n.Clients), cli.FormatCount(n.Users), cli.FormatCount(n.Subscriptions), cli.FormatCount(n.Channels),
			aboutDuration(time.Duration(n.Uptime) * time.Second), state, n.ID,
		})
	}
	lines = append(lines, align(rows, map[int]bool{2: true, 3: true, 4: true, 5: true, 6: true})...)
	if l.Result.Partial {
		lines = append(lines, "", "This node does not hear all others at the moment: nodes may be missing. Of those that are unknown, the last figures are shown.")
	}
	return lines
}

// line returns the engine's state.
func (e *engineState) line() string {
	state := "engine up"
	if !e.Up {
		state = "engine away"
		if away := time.Duration(e.Away * float64(time.Second)); away > 0 { // it has just gone
			state += " for " + aboutDuration(away)
		}
		for _, part := range slices.Sorted(maps.Keys(e.Parts)) {
			if !e.Parts[part] {
				state += ", " + cli.Cell(part) + " down"
			}
		}
	}
	gaps, causes := 0, []string{}
	for _, cause := range slices.Sorted(maps.Keys(e.Gaps)) {
		if n := e.Gaps[cause]; n > 0 {
			gaps += n
			causes = append(causes, fmt.Sprintf("%s %s", cli.Cell(cause), cli.FormatCount(n)))
		}
	}
	text := fmt.Sprintf("%s  pending %s (%s)  lag %s  gaps %s", state, cli.FormatCount(e.Pending), cli.AboutSize(e.PendingBytes),
		aboutDuration(time.Duration(e.Lag*float64(time.Second))), cli.FormatCount(gaps))
	if len(causes) > 0 {
		text += " (" + strings.Join(causes, ", ") + ")"
	}
	return text
}
