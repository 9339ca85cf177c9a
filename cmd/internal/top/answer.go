package top

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"sluice/bench/child"
)

// connectionList is the answer of GET /api/connections.
type connectionList struct {
	Total       int             `json:"total"`
	Connections []connectionRow `json:"connections"`
}

// connectionRow is one connection. Its text comes from outside.
type connectionRow struct {
	ID          string   `json:"id"`
	Address     string   `json:"address"`
	Protocol    string   `json:"protocol"`
	Format      string   `json:"format"`
	Compression string   `json:"compression"`
	TLS         bool     `json:"tls"`
	Channels    []string `json:"channels"`
	State       string   `json:"state"`
	Pending     int      `json:"pending_bytes"`
	UnsentAge   int64    `json:"unsent_age_ms"`
	Lag         int      `json:"lag"`
	RTT         int64    `json:"rtt_us"`
	Loop        int      `json:"loop"`
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
	connections, closing, blocked, held  float64
	draining, total, dropped             float64 // total: connections when the shutdown began to close them
	received, published, delivered, sent float64
	ticks                                map[string]ticks // of each loop
}

// ticks are a loop's ticks since the gateway started: how many there were, and how late they were
// together.
type ticks struct {
	n       uint64
	seconds float64
}

// readFigures reads them from the gateway's metrics. What is missing is 0.
func readFigures(text []byte) (figures, error) {
	m, err := child.ReadMetrics(bytes.NewReader(text))
	sum := func(name string) float64 { return m.Sum("sluice_"+name, "", "") }
	loops := make(map[string]ticks)
	for _, series := range m["sluice_loop_lag_seconds"].GetMetric() {
		for _, l := range series.GetLabel() {
			h := series.GetHistogram()
			loops[l.GetValue()] = ticks{h.GetSampleCount(), h.GetSampleSum()}
		}
	}
	return figures{
		connections: sum("connections"), closing: sum("closing_connections"), draining: sum("draining"), total: sum("drain_connections"),
		blocked: sum("blocked_connections"), held: sum("held_bytes"),
		dropped: sum("dropped_publications_total"), received: sum("messages_received_total"),
		published: sum("publications_total"), delivered: sum("deliveries_total"), sent: sum("sent_bytes_total"),
		ticks: loops,
	}, err
}

// view is the result of one look.
type view struct {
	at          time.Time
	sort        string
	connections connectionList
	figures     figures
}

// lag returns how late the ticks of the loop with the most lag were on average, since an earlier
// view. Since there is one tick per second, a loop without any is later than that.
func (v view) lag(earlier view) time.Duration {
	var most float64
	for loop, now := range v.figures.ticks {
		was, ok := earlier.figures.ticks[loop]
		switch {
		case ok && now.n == was.n:
			most = max(most, v.at.Sub(earlier.at).Seconds()-1)
			was = ticks{}
		case now.n < was.n: // the gateway has restarted
			was = ticks{}
		}
		if now.n > was.n {
			most = max(most, (now.seconds-was.seconds)/float64(now.n-was.n))
		}
	}
	return time.Duration(most * float64(time.Second))
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
