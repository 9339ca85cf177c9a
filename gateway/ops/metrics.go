package ops

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Snapshot is what the metrics say of a gateway at one time. Counters are kept where things
// happen, each loop its own, and are put together only when somebody asks: no label is looked up
// and no counter is shared on the way of a message.
type Snapshot struct {
	Loops []Loop

	Closed, Dropped map[string]uint64 // connections, and publications not sent, by reason
	Handshakes      map[string]uint64 // by outcome
	Panics          uint64            // in handshakes

	Secured, Resumed        uint64    // TLS handshakes, full and resumed
	CertificateExpiry       time.Time // zero for no certificate
	Addresses               int
	Untracked               uint64
	Descriptors             uint64
	MaxConnections          int
	MemoryLimit, MemoryUsed int64
	Suppressed              uint64

	// Bytes.
	HeldConnections                     int64
	HeldLogs, HeldHistory, HeldEncoding int

	Channels                      int
	Published, PublishedByClients uint64
	PushedBack, PushedBackClients uint64
}

// Loop is what they say of an event loop.
type Loop struct {
	Connections, Blocked, Users                   int64
	Messages, Deliveries, BytesIn, BytesOut       uint64
	Writes, Sweeps, Blockings, Pings, Panics      uint64
	Recoveries, Gaps, Recalled, Skips, Subscribed uint64
	Lag, LagSum                                   time.Duration
	LagCount                                      uint64
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sluice_"+name, help, labels, nil)
}

// metric is one metric of a T, or one label of one.
type metric[T any] struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	value  func(T) float64
	labels []string
}

const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue

// Metrics with several labels or sources.
var (
	descHeld         = desc("held_bytes", "Bytes held in memory: channel logs, channel histories, incomplete input and pending output of connections, and large publications being encoded.", "what")
	descPublications = desc("publications_total", "Publications accepted, by source: clients or the HTTP API.", "source")
	descPushBacks    = desc("push_backs_total", "Publications deferred because the channel's log was full or its rate limit was reached, by source.", "source")
	descPanics       = desc("panics_total", "Panics that closed one connection, by loop; the loop is \"none\" for a panic during the handshake.", "loop")
	descDropped      = desc("dropped_publications_total", "Publications not sent to a subscriber, by the reason its connection was closed, or \"skip\".", "reason")
	descSecured      = desc("tls_handshakes_total", "TLS handshakes completed, by whether the session was resumed.", "resumed")
	descCertificate  = desc("certificate_expiry_timestamp_seconds", "Unix time at which the TLS certificate in use expires.")
	descClosed       = desc("connections_closed_total", "Connections closed, by reason.", "reason")
	descHandshakes   = desc("handshakes_total", "Connections accepted, by the outcome of their first request; an SSE stream is first counted as http.", "outcome")
)

// loopMetrics have the loop's index as their label.
var loopMetrics = []metric[*Loop]{
	{desc("connections", "Open WebSocket and SSE connections.", "loop"), gauge, func(l *Loop) float64 { return float64(l.Connections) }, nil},
	{desc("blocked_connections", "Connections whose socket send buffer is full.", "loop"), gauge, func(l *Loop) float64 { return float64(l.Blocked) }, nil},
	{desc("users", "Distinct connected users, counted per loop; all anonymous clients count as one user.", "loop"), gauge, func(l *Loop) float64 { return float64(l.Users) }, nil},
	{desc("messages_received_total", "Messages received from clients.", "loop"), counter, func(l *Loop) float64 { return float64(l.Messages) }, nil},
	{desc("deliveries_total", "Publications written to subscribers' sockets.", "loop"), counter, func(l *Loop) float64 { return float64(l.Deliveries) }, nil},
	{desc("received_bytes_total", "Bytes received from clients.", "loop"), counter, func(l *Loop) float64 { return float64(l.BytesIn) }, nil},
	{desc("sent_bytes_total", "Bytes written to clients' sockets.", "loop"), counter, func(l *Loop) float64 { return float64(l.BytesOut) }, nil},
	{desc("writes_total", "Write system calls on clients' sockets.", "loop"), counter, func(l *Loop) float64 { return float64(l.Writes) }, nil},
	{desc("sweeps_total", "Passes over a channel's subscribers to send them new data.", "loop"), counter, func(l *Loop) float64 { return float64(l.Sweeps) }, nil},
	{desc("blockings_total", "Number of times a socket's send buffer became full.", "loop"), counter, func(l *Loop) float64 { return float64(l.Blockings) }, nil},
	{desc("recoveries_total", "Subscriptions that asked for earlier publications (since, history, Last-Event-ID), or were behind the log of a channel with an engine elsewhere, and caught up with live delivery.", "loop"), counter, func(l *Loop) float64 { return float64(l.Recoveries) }, nil},
	{desc("recovery_gaps_total", "Subscribers notified of a gap: not everything since their position was still in the history.", "loop"), counter, func(l *Loop) float64 { return float64(l.Gaps) }, nil},
	{desc("recovered_publications_total", "Publications sent to subscribers from the history.", "loop"), counter, func(l *Loop) float64 { return float64(l.Recalled) }, nil},
	{desc("pings_total", "Pings sent to idle WebSocket clients, and comments sent on SSE streams.", "loop"), counter, func(l *Loop) float64 { return float64(l.Pings) }, nil},
	{descPanics, counter, func(l *Loop) float64 { return float64(l.Panics) }, nil},
	{desc("skips_total", "Number of times a slow subscriber was skipped ahead to the newest publication.", "loop"), counter, func(l *Loop) float64 { return float64(l.Skips) }, nil},
	{desc("subscriptions_total", "Subscriptions started by clients of the Centrifugo protocol.", "loop"), counter, func(l *Loop) float64 { return float64(l.Subscribed) }, nil},
	{desc("loop_lag_seconds", "How late the loop's last tick was.", "loop"), gauge, func(l *Loop) float64 { return l.Lag.Seconds() }, nil},
	{desc("loop_lag_seconds_sum", "Total lateness of all ticks of the loop.", "loop"), counter, func(l *Loop) float64 { return l.LagSum.Seconds() }, nil},
	{desc("loop_lag_seconds_count", "Number of ticks of the loop.", "loop"), counter, func(l *Loop) float64 { return float64(l.LagCount) }, nil},
}

var metrics = []metric[*Snapshot]{
	{descPanics, counter, func(s *Snapshot) float64 { return float64(s.Panics) }, []string{"none"}},
	{desc("addresses", "Client addresses tracked for per-address limits."), gauge, func(s *Snapshot) float64 { return float64(s.Addresses) }, nil},
	{desc("untracked_addresses_total", "Connections whose address was not tracked because the table was full."), counter, func(s *Snapshot) float64 { return float64(s.Untracked) }, nil},
	{desc("memory_limit_bytes", "Memory limit of the process; 0 for no limit."), gauge, func(s *Snapshot) float64 { return float64(s.MemoryLimit) }, nil},
	{desc("memory_used_bytes", "Memory used that counts toward the limit, updated once a second."), gauge, func(s *Snapshot) float64 { return float64(s.MemoryUsed) }, nil},
	{desc("log_records_suppressed_total", "Log records suppressed because there were too many of the same kind."), counter, func(s *Snapshot) float64 { return float64(s.Suppressed) }, nil},
	{descSecured, counter, func(s *Snapshot) float64 { return float64(s.Secured) }, []string{"false"}},
	{descSecured, counter, func(s *Snapshot) float64 { return float64(s.Resumed) }, []string{"true"}},
	{descHeld, gauge, func(s *Snapshot) float64 { return float64(s.HeldConnections) }, []string{"connections"}},
	{descHeld, gauge, func(s *Snapshot) float64 { return float64(s.HeldLogs) }, []string{"logs"}},
	{descHeld, gauge, func(s *Snapshot) float64 { return float64(s.HeldHistory) }, []string{"history"}},
	{descHeld, gauge, func(s *Snapshot) float64 { return float64(s.HeldEncoding) }, []string{"encoding"}},
	{desc("channels", "Channels that have subscribers or a history."), gauge, func(s *Snapshot) float64 { return float64(s.Channels) }, nil},
	{desc("max_connections", "Maximum number of WebSocket and SSE connections."), gauge, func(s *Snapshot) float64 { return float64(s.MaxConnections) }, nil},
	{descPublications, counter, func(s *Snapshot) float64 { return float64(s.PublishedByClients) }, []string{"client"}},
	{descPublications, counter, func(s *Snapshot) float64 { return float64(s.Published) }, []string{"api"}},
	{descPushBacks, counter, func(s *Snapshot) float64 { return float64(s.PushedBackClients) }, []string{"client"}},
	{descPushBacks, counter, func(s *Snapshot) float64 { return float64(s.PushedBack) }, []string{"api"}},
	{desc("descriptors_exhausted_total", "Number of times accept failed because the process was out of file descriptors."), counter, func(s *Snapshot) float64 { return float64(s.Descriptors) }, nil},
}

// Collector makes metrics of what it returns.
type Collector func() *Snapshot

// Describe implements prometheus.Collector.
func (c Collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	for i := range s.Loops {
		for _, m := range loopMetrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s.Loops[i]), strconv.Itoa(i))
		}
	}
	for _, m := range metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), m.labels...)
	}
	for d, counts := range map[*prometheus.Desc]map[string]uint64{descClosed: s.Closed, descDropped: s.Dropped, descHandshakes: s.Handshakes} {
		for label, n := range counts {
			ch <- prometheus.MustNewConstMetric(d, counter, float64(n), label)
		}
	}
	if !s.CertificateExpiry.IsZero() {
		ch <- prometheus.MustNewConstMetric(descCertificate, gauge, float64(s.CertificateExpiry.Unix()))
	}
}
