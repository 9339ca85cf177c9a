package main

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
)

// connectionList is the answer of GET /api/connections.
type connectionList struct {
	Total       int             `json:"total"`
	Connections []connectionRow `json:"connections"`
}

// connectionRow is one connection. Its text comes from outside.
type connectionRow struct {
	ID        string   `json:"id"`
	Address   string   `json:"address"`
	Protocol  string   `json:"protocol"`
	Format    string   `json:"format"`
	TLS       bool     `json:"tls"`
	Channels  []string `json:"channels"`
	State     string   `json:"state"`
	Pending   int      `json:"pending_bytes"`
	UnsentAge int64    `json:"unsent_age_ms"`
	Lag       int      `json:"lag"`
	RTT       int64    `json:"rtt_us"`
	Loop      int      `json:"loop"`
}

func (c *connectionList) read(body []byte) error {
	err := json.Unmarshal(body, c)
	if kind := (*json.UnmarshalTypeError)(nil); errors.As(err, &kind) {
		return errors.New("field " + kind.Field + " has the wrong type")
	}
	if err != nil {
		return errors.New("not JSON")
	}
	return nil
}

// figures are the metrics in the head of the table.
type figures struct {
	connections, blocked, held, dropped  float64
	received, published, delivered, sent float64
	lag                                  float64 // seconds, of the loop with the most lag
}

// readFigures parses them from Prometheus's text format. What is missing is 0.
func readFigures(text string) figures {
	var f figures
	sums := map[string]*float64{
		"sluice_connections": &f.connections, "sluice_blocked_connections": &f.blocked, "sluice_held_bytes": &f.held,
		"sluice_dropped_publications_total": &f.dropped, "sluice_messages_received_total": &f.received,
		"sluice_publications_total": &f.published, "sluice_deliveries_total": &f.delivered, "sluice_sent_bytes_total": &f.sent,
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, _, _ := strings.Cut(line, " ")
		name, _, _ = strings.Cut(name, "{")
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			continue // a comment
		}
		if sum := sums[name]; sum != nil {
			*sum += value
		}
		if name == "sluice_loop_lag_seconds" {
			f.lag = max(f.lag, value)
		}
	}
	return f
}

// view is the result of one look.
type view struct {
	at          time.Time
	sort        string
	connections connectionList
	figures     figures
}

// rates returns the counters' growth per second since an earlier view; ok is false if they
// cannot be compared.
func (v view) rates(earlier view) (f figures, ok bool) {
	seconds := v.at.Sub(earlier.at).Seconds()
	now, was := v.figures, earlier.figures
	if earlier.at.IsZero() || seconds <= 0 || now.received < was.received || now.published < was.published ||
		now.delivered < was.delivered || now.sent < was.sent { // the gateway has restarted
		return f, false
	}
	return figures{
		received: (now.received - was.received) / seconds, published: (now.published - was.published) / seconds,
		delivered: (now.delivered - was.delivered) / seconds, sent: (now.sent - was.sent) / seconds,
	}, true
}
