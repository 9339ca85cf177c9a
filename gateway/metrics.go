package gateway

import (
	"context"
	"log/slog"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"sluice/gateway/edge/handshake"

	"github.com/prometheus/client_golang/prometheus"
)

// Counters are kept where things happen, each loop its own, and are put together
// only when somebody asks: no label is looked up and no counter is shared on the
// way of a message.

// droppedBySkip is where publications are counted that the slow policy skipped, behind
// the reasons for which connections end.
const droppedBySkip = reasonCount

// loopStats are written by one loop and read by the collector.
type loopStats struct {
	connections atomic.Int64
	blocked     atomic.Int64
	held        atomic.Int64 // bytes
	users       atomic.Int64

	bytesIn, bytesOut       atomic.Uint64
	messages, publications  atomic.Uint64
	deliveries, writes      atomic.Uint64
	pushBacks, blockings    atomic.Uint64
	pings, panics, sweeps   atomic.Uint64
	recoveries, gaps        atomic.Uint64
	recalled                atomic.Uint64
	closed                  [reasonCount]atomic.Uint64
	skips                   atomic.Uint64
	subscribed              atomic.Uint64                    // subscriptions of the client protocol that have begun
	dropped                 [droppedBySkip + 1]atomic.Uint64 // publications
	lag, lagSum, lagSamples atomic.Int64                     // nanoseconds
}

// observeLag notes how late a tick was.
func (s *loopStats) observeLag(d time.Duration) {
	s.lag.Store(int64(d))
	s.lagSum.Add(int64(d))
	s.lagSamples.Add(1)
}

// serverStats are written by handshakes and HTTP publishers.
type serverStats struct {
	outcomes     [1 << 8]atomic.Uint64 // handshakes, by handshake.Outcome: each value has one
	descriptors  atomic.Uint64
	panics       atomic.Uint64 // in handshakes
	published    atomic.Uint64
	handshakes   [2]atomic.Uint64 // with TLS, the resumed ones second
	pushedBack   atomic.Uint64
	churn        atomic.Uint64 // connections accepted
	originLogged atomic.Int64  // Unix second of the last record
}

// outcome counts what a handshake came to.
func (s *serverStats) outcome(o handshake.Outcome) { s.outcomes[o].Add(1) }

// secured counts a TLS handshake that was done.
func (s *serverStats) secured(resumed bool) {
	if resumed {
		s.handshakes[1].Add(1)
		return
	}
	s.handshakes[0].Add(1)
}

// refused counts and logs a refused connection; the log samples.
func (s *Server) refused(reason handshake.Outcome, client netip.AddrPort) {
	s.stats.outcome(reason)
	s.cfg.Logger.LogAttrs(context.Background(), slog.LevelInfo, "connection refused: "+reason.String(), slog.String("client", addressText(client)))
}

// collector reads the counters for Prometheus.
type collector struct{ server *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sluice_"+name, help, labels, nil)
}

var (
	descConnections  = desc("connections", "Open WebSocket and SSE connections.", "loop")
	descBlocked      = desc("blocked_connections", "Connections whose socket send buffer is full.", "loop")
	descHeld         = desc("held_bytes", "Bytes held in memory: channel logs, channel histories, incomplete input and pending output of connections, and large publications being encoded.", "what")
	descUsers        = desc("users", "Distinct connected users, counted per loop; all anonymous clients count as one user.", "loop")
	descChannels     = desc("channels", "Channels that have subscribers or a history.")
	descMessages     = desc("messages_received_total", "Messages received from clients.", "loop")
	descPublications = desc("publications_total", "Publications accepted, by source: clients or the HTTP API.", "source")
	descDeliveries   = desc("deliveries_total", "Publications written to subscribers' sockets.", "loop")
	descBytesIn      = desc("received_bytes_total", "Bytes received from clients.", "loop")
	descBytesOut     = desc("sent_bytes_total", "Bytes written to clients' sockets.", "loop")
	descWrites       = desc("writes_total", "Write system calls on clients' sockets.", "loop")
	descSweeps       = desc("sweeps_total", "Passes over a channel's subscribers to send them new data.", "loop")
	descBlockings    = desc("blockings_total", "Number of times a socket's send buffer became full.", "loop")
	descPushBacks    = desc("push_backs_total", "Publications deferred because the channel's log was full or its rate limit was reached, by source.", "source")
	descRecoveries   = desc("recoveries_total", "Subscriptions that asked for earlier publications (since, history, Last-Event-ID) and caught up with live delivery.", "loop")
	descGaps         = desc("recovery_gaps_total", "Subscribers notified of a gap: not everything since their position was still in the history.", "loop")
	descRecalled     = desc("recovered_publications_total", "Publications sent to subscribers from the history.", "loop")
	descPings        = desc("pings_total", "Pings sent to idle WebSocket clients, and comments sent on SSE streams.", "loop")
	descPanics       = desc("panics_total", "Panics that closed one connection, by loop; the loop is \"none\" for a panic during the handshake.", "loop")
	descSubscribed   = desc("subscriptions_total", "Subscriptions started by clients of the Centrifugo protocol.", "loop")
	descSkips        = desc("skips_total", "Number of times a slow subscriber was skipped ahead to the newest publication.", "loop")
	descDropped      = desc("dropped_publications_total", "Publications not sent to a subscriber, by the reason its connection was closed, or \"skip\".", "reason")
	descSecured      = desc("tls_handshakes_total", "TLS handshakes completed, by whether the session was resumed.", "resumed")
	descAddresses    = desc("addresses", "Client addresses tracked for per-address limits.")
	descUntracked    = desc("untracked_addresses_total", "Connections whose address was not tracked because the table was full.")
	descMemoryLimit  = desc("memory_limit_bytes", "Memory limit of the process; 0 for no limit.")
	descMemoryUsed   = desc("memory_used_bytes", "Memory used that counts toward the limit, updated once a second.")
	descSuppressed   = desc("log_records_suppressed_total", "Log records suppressed because there were too many of the same kind.")
	descCertificate  = desc("certificate_expiry_timestamp_seconds", "Unix time at which the TLS certificate in use expires.")
	descClosed       = desc("connections_closed_total", "Connections closed, by reason.", "reason")
	descHandshakes   = desc("handshakes_total", "Connections accepted, by the outcome of their first request; an SSE stream is first counted as http.", "outcome")
	descDescriptors  = desc("descriptors_exhausted_total", "Number of times accept failed because the process was out of file descriptors.")
	descMaxConns     = desc("max_connections", "Maximum number of WebSocket and SSE connections.")
	descLag          = desc("loop_lag_seconds", "How late the loop's last tick was.", "loop")
	descLagSum       = desc("loop_lag_seconds_sum", "Total lateness of all ticks of the loop.", "loop")
	descLagCount     = desc("loop_lag_seconds_count", "Number of ticks of the loop.", "loop")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s := c.server
	var held int64
	var published, pushBacks uint64
	var closed [reasonCount]uint64
	var dropped [droppedBySkip + 1]uint64
	for i, l := range s.loop {
		st, loop := &l.stats, strconv.Itoa(i)
		gauge(descConnections, float64(st.connections.Load()), loop)
		gauge(descBlocked, float64(st.blocked.Load()), loop)
		gauge(descUsers, float64(st.users.Load()), loop)
		counter(descMessages, st.messages.Load(), loop)
		counter(descDeliveries, st.deliveries.Load(), loop)
		counter(descBytesIn, st.bytesIn.Load(), loop)
		counter(descBytesOut, st.bytesOut.Load(), loop)
		counter(descWrites, st.writes.Load(), loop)
		counter(descSweeps, st.sweeps.Load(), loop)
		counter(descBlockings, st.blockings.Load(), loop)
		counter(descRecoveries, st.recoveries.Load(), loop)
		counter(descGaps, st.gaps.Load(), loop)
		counter(descRecalled, st.recalled.Load(), loop)
		counter(descPings, st.pings.Load(), loop)
		counter(descPanics, st.panics.Load(), loop)
		counter(descSkips, st.skips.Load(), loop)
		counter(descSubscribed, st.subscribed.Load(), loop)
		gauge(descLag, time.Duration(st.lag.Load()).Seconds(), loop)
		counterSeconds := time.Duration(st.lagSum.Load()).Seconds()
		ch <- prometheus.MustNewConstMetric(descLagSum, prometheus.CounterValue, counterSeconds, loop)
		counter(descLagCount, uint64(st.lagSamples.Load()), loop)
		held += st.held.Load()
		published += st.publications.Load()
		pushBacks += st.pushBacks.Load()
		for r := range closed {
			closed[r] += st.closed[r].Load()
		}
		for r := range dropped {
			dropped[r] += st.dropped[r].Load()
		}
	}
	counter(descPanics, s.stats.panics.Load(), "none")
	gauge(descAddresses, float64(s.admission.Len()))
	counter(descUntracked, s.admission.Untracked())
	gauge(descMemoryLimit, float64(s.memory.limit))
	gauge(descMemoryUsed, float64(s.memory.used.Load()))
	counter(descSuppressed, s.sampled.Suppressed())
	counter(descSecured, s.stats.handshakes[0].Load(), "false")
	counter(descSecured, s.stats.handshakes[1].Load(), "true")
	if s.cfg.CertificateExpiry != nil {
		gauge(descCertificate, float64(s.cfg.CertificateExpiry().Unix()))
	}
	gauge(descHeld, float64(held), "connections")
	gauge(descHeld, float64(s.budget.Used()), "logs")
	gauge(descHeld, float64(s.historyBudget.Used()), "history")
	gauge(descHeld, float64(s.space.Encoding()), "encoding")
	gauge(descChannels, float64(s.space.Channels()))
	gauge(descMaxConns, float64(s.cfg.MaxConnections))
	counter(descPublications, published, "client")
	counter(descPublications, s.stats.published.Load(), "api")
	counter(descPushBacks, pushBacks, "client")
	counter(descPushBacks, s.stats.pushedBack.Load(), "api")
	counter(descDescriptors, s.stats.descriptors.Load())
	for r := reasonNone + 1; r < reasonCount; r++ {
		if r != reasonUnsubscribed { // a subscription ends so, not a connection
			counter(descClosed, closed[r], r.String())
		}
		counter(descDropped, dropped[r], r.String())
	}
	counter(descDropped, dropped[droppedBySkip], "skip")
	for _, o := range handshake.Outcomes() {
		counter(descHandshakes, s.stats.outcomes[o].Load(), o.String())
	}
}
