package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// report is the result, and the JSON file.
type report struct {
	OK      bool         `json:"ok"`
	Seconds float64      `json:"seconds"`
	Clients []*clientRow `json:"clients"`
	// Counters are the ends of connections as the gateway counted them.
	Counters []counter `json:"counters"`
	// Faults are what went wrong beside the checks.
	Faults []string `json:"faults,omitempty"`

	mu   sync.Mutex
	ends map[string]int // expected, by reason
}

// clientRow is a client on one scheme.
type clientRow struct {
	Client  string                  `json:"client"`
	Version string                  `json:"version"`
	Scheme  string                  `json:"scheme"`
	Checks  []*checked              `json:"checks"`
	Ledgers map[string]ledgerDigest `json:"ledgers"`
}

type checked struct {
	Name   string  `json:"name"`
	Result verdict `json:"result"`
	Detail string  `json:"detail,omitempty"`
}

type verdict string

const (
	passed verdict = "ok"
	failed verdict = "failed"
	unable verdict = "cannot" // the client offers no way to do it
)

type ledgerDigest struct {
	Messages int    `json:"messages"`
	SHA256   string `json:"sha256"`
}

type counter struct {
	Reason string `json:"reason"`
	Got    int    `json:"got"`
	Want   int    `json:"want"`
}

func newReport(clients []*client) *report {
	r := &report{ends: map[string]int{}}
	for _, c := range clients {
		for _, scheme := range schemes {
			r.Clients = append(r.Clients, &clientRow{Client: c.name, Version: c.version, Scheme: scheme, Ledgers: map[string]ledgerDigest{}})
		}
	}
	return r
}

func (r *report) row(c *client, scheme string) *clientRow {
	i := slices.IndexFunc(r.Clients, func(row *clientRow) bool { return row.Client == c.name && row.Scheme == scheme })
	return r.Clients[i]
}

// result keeps what came of a check. One that is made more than once failed if it
// ever did.
func (r *report) result(c *client, scheme, name string, err error) {
	v, detail := passed, ""
	if err != nil {
		v, detail = failed, err.Error()
	}
	r.keep(c, scheme, name, v, detail)
}

func (r *report) cannot(c *client, scheme, name, why string) { r.keep(c, scheme, name, unable, why) }

func (r *report) keep(c *client, scheme, name string, v verdict, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row := r.row(c, scheme)
	i := slices.IndexFunc(row.Checks, func(k *checked) bool { return k.Name == name })
	if i < 0 {
		row.Checks = append(row.Checks, &checked{name, v, detail})
	} else if v == failed {
		row.Checks[i].Result, row.Checks[i].Detail = v, detail
	}
}

func (r *report) fault(err error) {
	if err != nil {
		r.Faults = append(r.Faults, err.Error())
	}
}

func (r *report) ledger(s *subscription, l ledger) {
	r.row(s.client, s.scheme).Ledgers[s.format()] = ledgerDigest{len(l), l.digest()}
}

// expectEnd notes that one more connection will end for a reason.
func (r *report) expectEnd(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends[reason]++
}

// count compares the gateway's own counters with what the clients did.
func (r *report) count(ctx context.Context, g *gateway, open int) error {
	total := 0
	for _, reason := range slices.Sorted(maps.Keys(r.ends)) {
		got, err := g.until(ctx, "sluice_connections_closed_total", `reason="`+reason+`"`, r.ends[reason])
		if err != nil {
			return err
		}
		r.Counters = append(r.Counters, counter{reason, got, r.ends[reason]})
		total += r.ends[reason]
	}
	all, err := g.counter(ctx, "sluice_connections_closed_total", "")
	if err != nil {
		return err
	}
	now, err := g.counter(ctx, "sluice_connections", "")
	if err != nil {
		return err
	}
	r.Counters = append(r.Counters, counter{"all", all, total}, counter{"still open", now, open})
	return nil
}

func (r *report) finish(took time.Duration) {
	r.Seconds = took.Seconds()
	r.OK = len(r.Faults) == 0 && !slices.ContainsFunc(r.Counters, func(c counter) bool { return c.Got != c.Want })
	for _, row := range r.Clients {
		r.OK = r.OK && !slices.ContainsFunc(row.Checks, func(k *checked) bool { return k.Result == failed })
	}
}

// print writes the table for people: a column for each client and scheme.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%-22s", "")
	for i := range r.Clients {
		fmt.Fprintf(w, " %6d", i+1)
	}
	var details []string
	for k, c := range r.Clients[0].Checks {
		fmt.Fprintf(w, "\n%-22s", c.Name)
		for i, row := range r.Clients {
			c := row.Checks[k] // every client does the same in the same order
			fmt.Fprintf(w, " %6s", c.Result)
			if c.Result == failed {
				details = append(details, fmt.Sprintf("%d: %s: %s", i+1, c.Name, c.Detail))
			}
		}
	}
	fmt.Fprint(w, "\n\n")
	for i, row := range r.Clients {
		fmt.Fprintf(w, "%2d %s %s, %s: json %d %.12s, raw %d %.12s\n", i+1, row.Client, row.Version, row.Scheme,
			row.Ledgers["json"].Messages, row.Ledgers["json"].SHA256, row.Ledgers["raw"].Messages, row.Ledgers["raw"].SHA256)
	}
	fmt.Fprintln(w)
	for _, c := range r.Counters {
		fmt.Fprintf(w, "connections %s: %d, want %d\n", c.Reason, c.Got, c.Want)
	}
	for _, d := range append(details, r.Faults...) {
		fmt.Fprintln(w, "FAILED", d)
	}
	verdict := "all alike"
	if !r.OK {
		verdict = "FAILED"
	}
	fmt.Fprintf(w, "%s, %.1f s\n", verdict, r.Seconds)
}

// write makes the machine-readable file.
func (r *report) write(file string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	return os.WriteFile(file, append(content, '\n'), 0o666)
}
