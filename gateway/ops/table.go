package ops

import (
	"cmp"
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is a row of the table of the gateway's own metrics.
type Metric struct {
	Group  string // its chapter in deploy/METRICS.md
	Name   string
	Type   string // gauge, counter or histogram
	Help   string
	Labels []string

	desc    *prometheus.Desc
	collect func(s *Snapshot, to sink)
}

// Metrics is the table: everything that /metrics has of the gateway itself, and nothing else. A
// new metric is a new row. deploy/METRICS.md is written from it.
var Metrics = func() []Metric {
	var all []Metric
	for _, group := range [][]Metric{overview, delivery, slowClients, recovery, connections, hooks, webhooks, store, resources, loops, namespaces} {
		all = append(all, group...)
	}
	return all
}()

func row(name, kind, help string, labels []string, collect func(s *Snapshot, to sink)) Metric {
	name = "sluice_" + name
	return Metric{Name: name, Type: kind, Help: help, Labels: labels, desc: prometheus.NewDesc(name, help, labels, nil), collect: collect}
}

// in puts rows into a chapter.
func in(group string, rows ...Metric) []Metric {
	for i := range rows {
		rows[i].Group = group
	}
	return rows
}

type number interface{ ~int | ~int64 | ~uint64 }

// one is a metric with one value.
func one[N number](name, kind, help string, value func(s *Snapshot) N) Metric {
	return row(name, kind, help, nil, func(s *Snapshot, to sink) { to.value(float64(value(s))) })
}

// perLoop is a metric with a value for each loop.
func perLoop[N number](name, kind, help string, value func(l *Loop) N) Metric {
	return row(name, kind, help, []string{"loop"}, func(s *Snapshot, to sink) {
		for i := range s.Loops {
			to.value(float64(value(&s.Loops[i])), strconv.Itoa(i))
		}
	})
}

// timesPerLoop is a histogram for each loop.
func timesPerLoop(name, help string, times func(l *Loop) *Histogram) Metric {
	return row(name, "histogram", help, []string{"loop"}, func(s *Snapshot, to sink) {
		for i := range s.Loops {
			to.histogram(times(&s.Loops[i]), strconv.Itoa(i))
		}
	})
}

// perNamespace is a metric with a value for each namespace.
func perNamespace[N number](name, kind, help string, value func(n *Namespace) N) Metric {
	return row(name, kind, help, []string{"namespace"}, func(s *Snapshot, to sink) {
		for i := range s.Namespaces {
			to.value(float64(value(&s.Namespaces[i])), s.Namespaces[i].Name)
		}
	})
}

// perWebhook is a metric with a value for each receiver of events.
func perWebhook[N number | float64](name, kind, help string, value func(w *Webhook) N) Metric {
	return row(name, kind, help, []string{"receiver"}, func(s *Snapshot, to sink) {
		for i := range s.Webhooks {
			to.value(float64(value(&s.Webhooks[i])), s.Webhooks[i].Name)
		}
	})
}

// perHook is a metric with a value for each hook.
func perHook[N number | float64](name, kind, help string, value func(h *Hook) N) Metric {
	return row(name, kind, help, []string{"type", "name"}, func(s *Snapshot, to sink) {
		for i := range s.Hooks {
			h := &s.Hooks[i]
			to.value(float64(value(h)), h.Event, h.Name)
		}
	})
}

// timesPerHook is a histogram for each hook.
func timesPerHook(name, help string, times func(h *Hook) *Histogram) Metric {
	return row(name, "histogram", help, []string{"type", "name"}, func(s *Snapshot, to sink) {
		for i := range s.Hooks {
			h := &s.Hooks[i]
			to.histogram(times(h), h.Event, h.Name)
		}
	})
}

// ofEngine is a metric with one value, if there is a store or other nodes.
func ofEngine[N number | float64](name, kind, help string, value func(e *Engine) N) Metric {
	return row(name, kind, help, nil, func(s *Snapshot, to sink) {
		if s.Engine != nil {
			to.value(float64(value(s.Engine)))
		}
	})
}

// counts is a counter with a value for each of a label's.
func counts(name, help, label string, values func(s *Snapshot) map[string]uint64) Metric {
	return row(name, "counter", help, []string{label}, func(s *Snapshot, to sink) {
		for value, n := range values(s) {
			to.value(float64(n), value)
		}
	})
}

// zeroOne is a condition as a number.
func zeroOne(is bool) int {
	if is {
		return 1
	}
	return 0
}

var overview = in("Overview",
	row("build_info", "gauge", "Always 1; the labels say what the program was built from.", []string{"version", "commit", "goversion"}, func(s *Snapshot, to sink) {
		to.value(1, cmp.Or(s.Version, "unknown"), cmp.Or(s.Commit, "unknown"), runtime.Version())
	}),
	perLoop("connections", "gauge", "Open WebSocket and SSE connections.", func(l *Loop) int64 { return l.Connections }),
	one("max_connections", "gauge", "Maximum number of WebSocket and SSE connections.", func(s *Snapshot) int { return s.MaxConnections }),
	one("taken_over_connections", "gauge", "Connections that this process has taken over from the one before it, in an upgrade; 0 if it was started otherwise.", func(s *Snapshot) int64 { return s.TakenOver }),
	row("taken_over_freeze_seconds", "gauge", "For how long nobody was served in the upgrade by which this process has taken over; 0 if it was started otherwise.", nil, func(s *Snapshot, to sink) {
		to.value(s.TakenOverFreeze.Seconds())
	}),
	one("upgrading", "gauge", "1 while an upgrade to a new process is under way, otherwise 0.", func(s *Snapshot) int { return zeroOne(s.Upgrading) }),
	one("upgrades_total", "counter", "Upgrades to a new process, which goes on with this number as with all counters.", func(s *Snapshot) uint64 { return s.Upgrades }),
	one("upgrades_failed_total", "counter", "Upgrades that have failed, were refused by the new process or aborted, after which the old process has gone on.", func(s *Snapshot) uint64 { return s.UpgradesFailed }),
	one("config_last_reload_successful", "gauge", "1 if the last reload of the configuration succeeded, or there was none; 0 if it failed and the configuration before it is still in use.", func(s *Snapshot) int { return zeroOne(s.Reloads.Successful) }),
	row("config_last_reload_success_timestamp_seconds", "gauge", "When the configuration was last loaded: by a reload that succeeded, or at the start. Unix time.", nil, func(s *Snapshot, to sink) {
		to.value(float64(s.Reloads.At.UnixMilli()) / 1000)
	}),
	counts("config_reloads_total", "Reloads of the configuration, by outcome: reloaded, also if nothing has changed; invalid for faults in the new configuration; needs_restart for changes that only a restart or an upgrade applies.", "outcome", func(s *Snapshot) map[string]uint64 { return s.Reloads.Outcomes }),
	perLoop("users", "gauge", "Distinct connected users, counted per loop; all anonymous clients count as one user.", func(l *Loop) int64 { return l.Users }),
	perLoop("subscriptions", "gauge", "Subscriptions that receive live publications. A client that is still catching up has none.", func(l *Loop) int64 { return l.Subscriptions }),
	perLoop("subscriptions_started_total", "counter", "Subscriptions started by clients of the Centrifugo protocol.", func(l *Loop) uint64 { return l.Subscribed }),
	one("channels", "gauge", "Channels that have subscribers or a history.", func(s *Snapshot) int { return s.Channels }),
)

var delivery = in("Delivery",
	row("publications_total", "counter", "Publications accepted, by source: clients or the HTTP API.", []string{"source"}, func(s *Snapshot, to sink) {
		to.value(float64(s.PublishedByClients), "client")
		to.value(float64(s.Published), "api")
	}),
	perLoop("messages_received_total", "counter", "Messages received from clients.", func(l *Loop) uint64 { return l.Messages }),
	perLoop("deliveries_total", "counter", "Publications written to subscribers' sockets.", func(l *Loop) uint64 { return l.Deliveries }),
	timesPerLoop("delivery_latency_seconds", "Time from publishing to the last write to the channel's subscribers on the loop. Publications that go out together count once, from the oldest of them. Subscribers whose send buffer is full do not count.", func(l *Loop) *Histogram { return &l.Delivery }),
	row("push_backs_total", "counter", "Publications deferred because the channel's log was full or its rate limit was reached, by source.", []string{"source"}, func(s *Snapshot, to sink) {
		to.value(float64(s.PushedBackClients), "client")
		to.value(float64(s.PushedBack), "api")
	}),
	perLoop("sweeps_total", "counter", "Passes over a channel's subscribers to send them new data.", func(l *Loop) uint64 { return l.Sweeps }),
	perLoop("writes_total", "counter", "Write system calls on clients' sockets.", func(l *Loop) uint64 { return l.Writes }),
	perLoop("received_bytes_total", "counter", "Bytes received from clients.", func(l *Loop) uint64 { return l.BytesIn }),
	perLoop("sent_bytes_total", "counter", "Bytes written to clients' sockets.", func(l *Loop) uint64 { return l.BytesOut }),
	row("compressed_bytes_total", "counter", "Bytes of publications that were compressed, before and after. Each counts once for each wire format in use, however many subscribers it has.", []string{"state"}, func(s *Snapshot, to sink) {
		to.value(float64(s.CompressedFrom), "before")
		to.value(float64(s.CompressedTo), "after")
	}),
	one("compressors_busy_total", "counter", "Publications that were sent uncompressed because all compressors were in use.", func(s *Snapshot) uint64 { return s.CompressorsBusy }),
	perLoop("pings_total", "counter", "Pings sent to idle WebSocket clients, and comments sent on SSE streams.", func(l *Loop) uint64 { return l.Pings }),
)

var slowClients = in("Slow clients",
	perLoop("blocked_connections", "gauge", "Connections whose socket send buffer is full.", func(l *Loop) int64 { return l.Blocked }),
	perLoop("blockings_total", "counter", "Number of times a socket's send buffer became full.", func(l *Loop) uint64 { return l.Blockings }),
	perLoop("skips_total", "counter", "Number of times a slow subscriber was skipped ahead to the newest publication.", func(l *Loop) uint64 { return l.Skips }),
	counts("dropped_publications_total", "Publications not sent to a subscriber, by the reason its connection was closed, or \"skip\".", "reason", func(s *Snapshot) map[string]uint64 { return s.Dropped }),
)

var recovery = in("Recovery",
	perLoop("recoveries_total", "counter", "Subscriptions that asked for earlier publications (since, history, Last-Event-ID), or were behind the log of a channel with an engine elsewhere, and caught up with live delivery without a gap. Each counts either here or as a gap.", func(l *Loop) uint64 { return l.Recoveries }),
	perLoop("recovered_publications_total", "counter", "Publications sent to subscribers from the history.", func(l *Loop) uint64 { return l.Recalled }),
	perLoop("recovery_gaps_total", "counter", "Subscribers notified of a gap: not everything since their position was still in the history.", func(l *Loop) uint64 { return l.Gaps }),
)

var connections = in("Connections and closes",
	counts("handshakes_total", "Connections accepted, by the outcome of their first request; an SSE stream is first counted as http.", "outcome", func(s *Snapshot) map[string]uint64 { return s.Handshakes }),
	one("emulation_requests_total", "counter", "Requests to /emulation whose commands a session has received. Refused ones are counted in sluice_handshakes_total, by outcome.", func(s *Snapshot) uint64 { return s.Emulation }),
	one("emulation_kept_connections", "gauge", "Connections that are kept open for further requests to /emulation. They are not among sluice_connections.", func(s *Snapshot) int { return s.EmulationKept }),
	counts("connections_closed_total", "Connections closed, by reason.", "reason", func(s *Snapshot) map[string]uint64 { return s.Closed }),
	perLoop("closing_connections", "gauge", "Of the open connections, those that are in their closing handshake.", func(l *Loop) int64 { return l.Closing }),
	one("draining", "gauge", "1 while the gateway shuts down, from the signal on, otherwise 0.", func(s *Snapshot) int { return zeroOne(s.Draining) }),
	one("drain_connections", "gauge", "Connections that were open when the gateway began to close all of them; 0 before.", func(s *Snapshot) int64 { return s.DrainTotal }),
	row("tls_handshakes_total", "counter", "TLS handshakes completed, by whether the session was resumed.", []string{"resumed"}, func(s *Snapshot, to sink) {
		to.value(float64(s.Secured), "false")
		to.value(float64(s.Resumed), "true")
	}),
	row("certificate_expiry_timestamp_seconds", "gauge", "Unix time at which the TLS certificate in use expires.", nil, func(s *Snapshot, to sink) {
		if !s.CertificateExpiry.IsZero() {
			to.value(float64(s.CertificateExpiry.Unix()))
		}
	}),
	one("addresses", "gauge", "Client addresses tracked for per-address limits.", func(s *Snapshot) int { return s.Addresses }),
	one("untracked_addresses_total", "counter", "Connections whose address was not tracked because the table was full.", func(s *Snapshot) uint64 { return s.Untracked }),
	one("descriptors_exhausted_total", "counter", "Number of times accept failed because the process was out of file descriptors.", func(s *Snapshot) uint64 { return s.Descriptors }),
)

var webhooks = in("Webhooks",
	perWebhook("webhook_queued_events", "gauge", "Events that wait for the receiver or are being sent.", func(w *Webhook) int { return w.Events }),
	perWebhook("webhook_queue_bytes", "gauge", "Memory of what waits for the receiver, in bytes.", func(w *Webhook) int { return w.Bytes }),
	perWebhook("webhook_oldest_seconds", "gauge", "Age of the oldest event that waits for the receiver, 0 without one.", func(w *Webhook) float64 { return w.Oldest }),
	perWebhook("webhook_delivered_events_total", "counter", "Events that the receiver has accepted.", func(w *Webhook) uint64 { return w.Delivered }),
	perWebhook("webhook_attempts_total", "counter", "Attempts to send a batch of events that have ended.", func(w *Webhook) uint64 { return w.Attempts }),
	perWebhook("webhook_failures_total", "counter", "Attempts that have failed; the batch is sent again.", func(w *Webhook) uint64 { return w.Failures }),
	perWebhook("webhook_collapsed_events_total", "counter", "Events that a full queue has left out because a later one made them superfluous.", func(w *Webhook) uint64 { return w.Collapsed }),
	perWebhook("webhook_dropped_events_total", "counter", "Events that a full queue has dropped. The receiver is notified by resync and reset events.", func(w *Webhook) uint64 { return w.Dropped }),
	perWebhook("webhook_resets_total", "counter", "Resets of a partition that the receiver was sent or will be.", func(w *Webhook) uint64 { return w.Resets }),
	perWebhook("webhook_digests_total", "counter", "Digests of a partition that the receiver was sent or will be.", func(w *Webhook) uint64 { return w.Digests }),
	perWebhook("webhook_gone", "gauge", "1 if the receiver has answered with 410 (Gone) and is sent nothing any more, otherwise 0.", func(w *Webhook) int { return zeroOne(w.Gone) }),
)

var hooks = in("Hooks",
	row("hook_calls_total", "counter", "Calls of a hook, by outcome: ok, a result, or none; error and disconnect, the backend decided so; timeout; refused, no connection, or one that broke; status, an HTTP status other than 200; decode, an answer that cannot be read; request, what the client has sent cannot be passed on; failed, any other failure; canceled, the client was gone first; overload, the queue was full, or the call has waited too long; breaker, the circuit breaker is open. This and the following metrics exist only with hooks. The type is the event, such as connect, and the name default, or that in the file of hooks.", []string{"type", "name", "outcome"}, func(s *Snapshot, to sink) {
		for i := range s.Hooks {
			h := &s.Hooks[i]
			for outcome, n := range h.Outcomes {
				to.value(float64(n), h.Event, h.Name, outcome)
			}
		}
	}),
	timesPerHook("hook_duration_seconds", "Time from when a call was sent to the backend until it has ended.", func(h *Hook) *Histogram { return &h.Calls }),
	timesPerHook("hook_wait_seconds", "Time that a call has waited in its queue before it was sent.", func(h *Hook) *Histogram { return &h.Waits }),
	perHook("hook_timeout_seconds", "gauge", "Time limit of a call.", func(h *Hook) float64 { return h.Timeout }),
	perHook("hook_inflight", "gauge", "Calls that the backend has not answered.", func(h *Hook) int { return h.InFlight }),
	perHook("hook_queued", "gauge", "Calls that wait in the queue.", func(h *Hook) int { return h.Queued }),
	perHook("hook_breaker_open", "gauge", "1 while the circuit breaker is open, or half open, otherwise 0.", func(h *Hook) int { return zeroOne(h.Open) }),
	perHook("hook_breaker_openings_total", "counter", "Number of times the circuit breaker has opened.", func(h *Hook) uint64 { return h.Opened }),
	perHook("hook_cache_hits_total", "counter", "Decisions about subscriptions that were taken from the cache, without a call.", func(h *Hook) uint64 { return h.Hits }),
)

var store = in("Store and nodes",
	row("engine_up", "gauge", "1 if a part of the engine is up, otherwise 0: connection is the one to the NATS servers, store the one for histories, subscriptions whether the servers accept those of all channels. This and the following metrics exist only with a data directory or NATS servers.", []string{"part"}, func(s *Snapshot, to sink) {
		if s.Engine == nil {
			return
		}
		for part, up := range s.Engine.Parts {
			to.value(float64(zeroOne(up)), part)
		}
	}),
	ofEngine("engine_outage_seconds", "gauge", "For how long some part of the engine has been down; 0 while all are up.", func(e *Engine) float64 { return e.Away }),
	ofEngine("engine_away_seconds_total", "counter", "Time in which some part of the engine was down.", func(e *Engine) float64 { return e.AwayTotal }),
	ofEngine("engine_pending_publications", "gauge", "Publications that are not acknowledged.", func(e *Engine) int { return e.Pending }),
	ofEngine("engine_pending_bytes", "gauge", "Bytes of their payloads.", func(e *Engine) int { return e.PendingBytes }),
	ofEngine("engine_lag_seconds", "gauge", "Age of the oldest publication that is not acknowledged.", func(e *Engine) float64 { return e.Lag }),
	ofEngine("engine_waiting_messages", "gauge", "Messages that have arrived from the engine and are not yet in their channels.", func(e *Engine) int { return e.Waiting }),
	ofEngine("engine_stored_publications_total", "counter", "Publications stored in a history.", func(e *Engine) uint64 { return e.Stored }),
	ofEngine("engine_caught_up_channels_total", "counter", "Number of times a channel was completed from the store after something had been missed.", func(e *Engine) uint64 { return e.CaughtUp }),
	ofEngine("engine_resubscribed_channels_total", "counter", "Subscriptions to channels that were renewed with the connection.", func(e *Engine) uint64 { return e.Resubscribed }),
	row("engine_gaps_total", "counter", "Channels whose subscribers were notified of a gap because publications may be lost, by cause: chain, a message does not follow the one before it; reconnect, this node's connection broke; publisher, another node's connection broke; silent, another node was not heard for some time; gone, another node ended unheard; slow, this node did not take its messages in time; version, a message of a newer version; refused, the servers refused the subscription; trimmed, the store does not have them any more.", []string{"cause"}, func(s *Snapshot, to sink) {
		if s.Engine == nil {
			return
		}
		for cause, n := range s.Engine.Gaps {
			to.value(float64(n), cause)
		}
	}),
	ofEngine("nodes", "gauge", "Nodes that this one hears, itself included.", func(e *Engine) int { return e.Nodes }),
	ofEngine("nodes_unanswered_total", "counter", "Questions of this node that another one did not answer in time, so that a result of the server API was partial.", func(e *Engine) uint64 { return e.Unanswered }),
)

var resources = in("Memory and log",
	row("held_bytes", "gauge", "Bytes held in memory: channel logs, channel histories, incomplete input and pending output of connections, and large publications being encoded.", []string{"what"}, func(s *Snapshot, to sink) {
		to.value(float64(s.HeldConnections), "connections")
		to.value(float64(s.HeldLogs), "logs")
		to.value(float64(s.HeldHistory), "history")
		to.value(float64(s.HeldEncoding), "encoding")
	}),
	one("memory_limit_bytes", "gauge", "Memory limit of the process; 0 for no limit.", func(s *Snapshot) int64 { return s.MemoryLimit }),
	one("memory_used_bytes", "gauge", "Memory used that counts toward the limit, updated once a second.", func(s *Snapshot) int64 { return s.MemoryUsed }),
	row("kernel_tcp_memory_bytes", "gauge", "Memory that the kernel uses for buffers of TCP sockets, on the whole machine: other programs' and other containers' sockets count too.", nil, func(s *Snapshot, to sink) {
		if s.KernelMemory >= 0 {
			to.value(float64(s.KernelMemory))
		}
	}),
	one("log_records_suppressed_total", "counter", "Log records suppressed because there were too many of the same kind.", func(s *Snapshot) uint64 { return s.Suppressed }),
)

var loops = in("Event loops",
	timesPerLoop("loop_lag_seconds", "How late the loop's ticks were, of which there is one per second. A loop that does not tick is stuck.", func(l *Loop) *Histogram { return &l.Lag }),
	row("panics_total", "counter", "Panics that closed one connection, by loop; the loop is \"none\" for a panic during the handshake.", []string{"loop"}, func(s *Snapshot, to sink) {
		for i := range s.Loops {
			to.value(float64(s.Loops[i].Panics), strconv.Itoa(i))
		}
		to.value(float64(s.Panics), "none")
	}),
)

var namespaces = in("Namespaces",
	perNamespace("namespace_channels", "gauge", "Channels of a configured namespace that have subscribers or a history; the namespace is empty for channels without one.", func(n *Namespace) int64 { return n.Channels }),
	perNamespace("namespace_subscriptions", "gauge", "Subscriptions to channels of a namespace that receive live publications.", func(n *Namespace) int64 { return n.Subscriptions }),
	perNamespace("namespace_publications_total", "counter", "Publications accepted for channels of a namespace, from clients and the HTTP API.", func(n *Namespace) uint64 { return n.Publications }),
)
