package main

import "github.com/grafana/grafana-foundation-sdk/go/units"

// A row is a heading of the dashboard, with the panels below it.
type row struct {
	title     string
	collapsed bool // until a reader opens it
	panels    []panel
}

// A panel is a title, what it shows, and queries whose results have one unit.
type panel struct {
	kind
	title, about string
	unit         string
	queries      []query
}

// A query is PromQL in which HERE selects the chosen jobs and instances, and RATE is the window of
// rates. The legend names labels in double braces.
type query struct{ expr, legend string }

// A kind is how a panel looks. It fixes the size, so that the panels of a line fill its 24 columns.
type kind struct {
	form          form
	width, height uint32
	stacked       bool
}

type form uint8

const (
	stat form = iota
	graph
	heatMap
	table
)

var (
	number = kind{form: stat, width: 4, height: 4}
	half   = kind{form: graph, width: 12, height: 8}
	third  = kind{form: graph, width: 8, height: 8}
	heat   = kind{form: heatMap, width: 12, height: 8}
	nodes  = kind{form: table, width: 24, height: 6}

	stackedThird = kind{form: graph, width: 8, height: 8, stacked: true}
)

const (
	slowReasons = `reason=~"slow|write_timeout|pending_full|budget"`
	admitted    = `outcome=~"upgraded|event_stream"`
	undecided   = `outcome=~"timeout|refused|status|decode|failed|overload|breaker"`
	refused     = `outcome!~"upgraded|http|event_stream|no_request"`
)

var rows = []row{
	{title: "Overview", panels: []panel{
		{number, "Nodes", "Gateways that Prometheus scrapes.", units.Short, []query{{`count(sluice_build_info{HERE})`, ""}}},
		{number, "Connections", "Open WebSocket and SSE connections.", units.Short, []query{{`sum(sluice_connections{HERE})`, ""}}},
		{number, "Subscriptions", "Subscriptions that receive live publications. A connection of the Centrifugo protocol can have several.", units.Short, []query{{`sum(sluice_subscriptions{HERE})`, ""}}},
		{number, "Publications", "Publications accepted from clients and through the HTTP API.", units.CountsPerSecond, []query{{`sum(rate(sluice_publications_total{HERE}[RATE]))`, ""}}},
		{number, "Deliveries", "Publications written to subscribers' sockets.", units.CountsPerSecond, []query{{`sum(rate(sluice_deliveries_total{HERE}[RATE]))`, ""}}},
		{number, "Delivery latency, p99", "From publishing to the last write of the sweep that delivers it. Slow clients do not count.", units.Seconds, []query{
			{`histogram_quantile(0.99, sum by (le) (rate(sluice_delivery_latency_seconds_bucket{HERE}[RATE])))`, ""},
		}},
		{half, "Connections by node", "Open connections, and the limit --max-connections.", units.Short, []query{
			{`sum by (instance) (sluice_connections{HERE})`, "{{instance}}"},
			{`max by (instance) (sluice_max_connections{HERE})`, "{{instance}} limit"},
		}},
		{half, "Publications and deliveries", "What comes in, and what goes out to subscribers.", units.CountsPerSecond, []query{
			{`sum(rate(sluice_publications_total{HERE}[RATE]))`, "publications"},
			{`sum(rate(sluice_deliveries_total{HERE}[RATE]))`, "deliveries"},
		}},
		{nodes, "Nodes now", "Each node with its version and load.", units.Short, []query{
			{`max by (job, instance, version, commit) (sluice_build_info{HERE})`, "Build"},
			{`max by (job, instance) (time() - process_start_time_seconds{HERE})`, "Uptime"},
			{`sum by (job, instance) (sluice_connections{HERE})`, "Connections"},
			{`sum by (job, instance) (sluice_users{HERE})`, "Users"},
			{`sum by (job, instance) (rate(sluice_deliveries_total{HERE}[RATE]))`, "Deliveries"},
			{`histogram_quantile(0.99, sum by (job, instance, le) (rate(sluice_delivery_latency_seconds_bucket{HERE}[RATE])))`, "Delivery p99"},
			{`sum by (job, instance) (rate(process_cpu_seconds_total{HERE}[RATE]))`, "CPU cores"},
			{`sum by (job, instance) (process_resident_memory_bytes{HERE})`, "Memory"},
		}},
	}},
	{title: "Delivery", panels: []panel{
		{half, "Delivery latency", "From publishing to the last write of the sweep that delivers it, over all channels. Slow clients do not count.", units.Seconds, []query{
			{`histogram_quantile(0.5, sum by (le) (rate(sluice_delivery_latency_seconds_bucket{HERE}[RATE])))`, "p50"},
			{`histogram_quantile(0.9, sum by (le) (rate(sluice_delivery_latency_seconds_bucket{HERE}[RATE])))`, "p90"},
			{`histogram_quantile(0.99, sum by (le) (rate(sluice_delivery_latency_seconds_bucket{HERE}[RATE])))`, "p99"},
		}},
		{heat, "Delivery latency, distribution", "Sweeps by how late their oldest publication was when the last subscriber had it.", units.Seconds, []query{
			{`sum by (le) (increase(sluice_delivery_latency_seconds_bucket{HERE}[RATE]))`, "{{le}}"},
		}},
		{third, "Publications by source", "From clients, and through the HTTP API.", units.CountsPerSecond, []query{
			{`sum by (source) (rate(sluice_publications_total{HERE}[RATE]))`, "{{source}}"},
		}},
		{third, "Subscribers per publication", "Deliveries divided by publications: the average size of the audience.", units.Short, []query{
			{`sum(rate(sluice_deliveries_total{HERE}[RATE])) / sum(rate(sluice_publications_total{HERE}[RATE]))`, "subscribers"},
		}},
		{third, "Publications deferred", "Publications that had to wait because the log of their channel was full, or its rate limit was reached.", units.CountsPerSecond, []query{
			{`sum by (source) (rate(sluice_push_backs_total{HERE}[RATE]))`, "{{source}}"},
		}},
		{third, "Publications by namespace", "Channels without a namespace are (none).", units.CountsPerSecond, []query{
			{`label_replace(sum by (namespace) (rate(sluice_namespace_publications_total{HERE}[RATE])), "namespace", "(none)", "namespace", "")`, "{{namespace}}"},
		}},
		{third, "Subscriptions by namespace", "Channels without a namespace are (none).", units.Short, []query{
			{`label_replace(sum by (namespace) (sluice_namespace_subscriptions{HERE}), "namespace", "(none)", "namespace", "")`, "{{namespace}}"},
		}},
		{third, "Channels by namespace", "Channels with subscribers or a history. Those without a namespace are (none).", units.Short, []query{
			{`label_replace(sum by (namespace) (sluice_namespace_channels{HERE}), "namespace", "(none)", "namespace", "")`, "{{namespace}}"},
		}},
	}},
	{title: "Slow clients", panels: []panel{
		{third, "Blocked connections", "Share of connections whose socket accepts no more bytes.", units.PercentUnit, []query{
			{`sum by (instance) (sluice_blocked_connections{HERE}) / sum by (instance) (sluice_connections{HERE})`, "{{instance}}"},
		}},
		{third, "Clients disconnected because they are slow", "By reason. The client can reconnect with its position.", units.CountsPerSecond, []query{
			{`sum by (reason) (rate(sluice_connections_closed_total{HERE, ` + slowReasons + `}[RATE]))`, "{{reason}}"},
		}},
		{third, "Subscribers skipped ahead", "With --slow-policy skip: subscribers that continued with the newest publication.", units.CountsPerSecond, []query{
			{`sum by (instance) (rate(sluice_skips_total{HERE}[RATE]))`, "{{instance}}"},
		}},
		{third, "Publications dropped", "Publications not sent to a subscriber, by the reason why its connection ended, or skip.", units.CountsPerSecond, []query{
			{`sum by (reason) (rate(sluice_dropped_publications_total{HERE}[RATE])) > 0`, "{{reason}}"},
		}},
		{stackedThird, "Bytes held", "Channel logs and histories, input and pending output of connections, and publications being encoded. All together are bounded by --max-buffered.", units.BytesIEC, []query{
			{`sum by (what) (sluice_held_bytes{HERE})`, "{{what}}"},
		}},
		{third, "TCP memory of the kernel", "Socket buffers on the whole machine: those of other programs and containers count too.", units.BytesIEC, []query{
			{`max by (instance) (sluice_kernel_tcp_memory_bytes{HERE})`, "{{instance}}"},
		}},
	}},
	{title: "Recovery", panels: []panel{
		{third, "Subscribers that recover", "Subscriptions that asked for earlier publications and caught up, and subscribers notified of a gap.", units.CountsPerSecond, []query{
			{`sum(rate(sluice_recoveries_total{HERE}[RATE]))`, "recovered"},
			{`sum(rate(sluice_recovery_gaps_total{HERE}[RATE]))`, "gap"},
		}},
		{third, "Share of gaps", "Rises after a restart, and when the history is shorter than the absence of clients.", units.PercentUnit, []query{
			{`sum by (instance) (rate(sluice_recovery_gaps_total{HERE}[RATE])) / (sum by (instance) (rate(sluice_recovery_gaps_total{HERE}[RATE])) + sum by (instance) (rate(sluice_recoveries_total{HERE}[RATE])))`, "{{instance}}"},
		}},
		{third, "Publications sent from history", "Publications that subscribers received from the history.", units.CountsPerSecond, []query{
			{`sum by (instance) (rate(sluice_recovered_publications_total{HERE}[RATE]))`, "{{instance}}"},
		}},
	}},
	{title: "Store and nodes", panels: []panel{
		{third, "Engine", "1 while the connection to the NATS servers, or the store of histories, is up. Empty for gateways without either.", units.Short, []query{
			{`min by (instance, part) (sluice_engine_up{HERE})`, "{{instance}} {{part}}"},
		}},
		{third, "Share of time away", "Time in which some part of the engine was down: publishing to some channels fails then.", units.PercentUnit, []query{
			{`sum by (instance) (rate(sluice_engine_away_seconds_total{HERE}[RATE]))`, "{{instance}}"},
		}},
		{third, "Nodes that each node hears", "Itself included: the same number everywhere while all is well.", units.Short, []query{
			{`max by (instance) (sluice_nodes{HERE})`, "{{instance}}"},
		}},
		{third, "Publications without an acknowledgement", "They wait in the node, or for the store.", units.Short, []query{
			{`sum by (instance) (sluice_engine_pending_publications{HERE})`, "{{instance}}"},
		}},
		{third, "Age of the oldest of them", "How far the store or the servers are behind.", units.Seconds, []query{
			{`max by (instance) (sluice_engine_lag_seconds{HERE})`, "{{instance}}"},
		}},
		{third, "Messages not yet in their channels", "They have arrived and wait for the node: it has more to do than CPU.", units.Short, []query{
			{`sum by (instance) (sluice_engine_waiting_messages{HERE})`, "{{instance}}"},
		}},
		{third, "Gaps by cause", "Channels in which publications may be lost, so that their subscribers were notified. METRICS.md explains each cause.", units.CountsPerSecond, []query{
			{`sum by (cause) (rate(sluice_engine_gaps_total{HERE}[RATE]))`, "{{cause}}"},
		}},
		{third, "Publications stored", "In histories.", units.CountsPerSecond, []query{
			{`sum by (instance) (rate(sluice_engine_stored_publications_total{HERE}[RATE]))`, "{{instance}}"},
		}},
		{third, "Channels completed or resubscribed", "After a connection broke, or messages were missed.", units.CountsPerSecond, []query{
			{`sum(rate(sluice_engine_caught_up_channels_total{HERE}[RATE]))`, "completed from the store"},
			{`sum(rate(sluice_engine_resubscribed_channels_total{HERE}[RATE]))`, "resubscribed"},
			{`sum(rate(sluice_nodes_unanswered_total{HERE}[RATE]))`, "questions without an answer"},
		}},
	}},
	{title: "Hooks", collapsed: true, panels: []panel{
		{third, "Calls by outcome", "ok, error and disconnect are decisions of the backend. METRICS.md explains the others. Empty for gateways without hooks, as the whole row.", units.CountsPerSecond, []query{
			{`sum by (type, outcome) (rate(sluice_hook_calls_total{HERE}[RATE]))`, "{{type}} {{outcome}}"},
		}},
		{third, "Calls without a decision", "Share of calls after which a client was asked to try again.", units.PercentUnit, []query{
			{`sum by (type, name) (rate(sluice_hook_calls_total{HERE, ` + undecided + `}[RATE])) / sum by (type, name) (rate(sluice_hook_calls_total{HERE, outcome!="canceled"}[RATE]))`, "{{type}} {{name}}"},
		}},
		{third, "Time of a call, p99", "From when it was sent until it has ended. The time limit of a hook is its timeout.", units.Seconds, []query{
			{`histogram_quantile(0.99, sum by (type, name, le) (rate(sluice_hook_duration_seconds_bucket{HERE}[RATE])))`, "{{type}} {{name}}"},
		}},
		{third, "Wait in the queue, p99", "Before a call was sent, because the backend had as many as it may have at a time.", units.Seconds, []query{
			{`histogram_quantile(0.99, sum by (type, name, le) (rate(sluice_hook_wait_seconds_bucket{HERE}[RATE])))`, "{{type}} {{name}}"},
		}},
		{third, "Calls under way", "Those that the backend has, and those that wait in the queue.", units.Short, []query{
			{`sum by (type, name) (sluice_hook_inflight{HERE})`, "{{type}} {{name}} at the backend"},
			{`sum by (type, name) (sluice_hook_queued{HERE})`, "{{type}} {{name}} queued"},
		}},
		{third, "Circuit breakers open", "While one is open, its hook's calls fail at once, but for a few that try whether the backend is back.", units.Short, []query{
			{`sum by (type, name) (sluice_hook_breaker_open{HERE})`, "{{type}} {{name}}"},
		}},
	}},
	{title: "Webhooks", collapsed: true, panels: []panel{
		{third, "Events", "Delivered: accepted by the receiver. Dropped: the queue was full, and the receiver is notified. Empty for gateways without webhooks, as the whole row.", units.CountsPerSecond, []query{
			{`sum by (receiver) (rate(sluice_webhook_delivered_events_total{HERE}[RATE]))`, "delivered to {{receiver}}"},
			{`sum by (receiver) (rate(sluice_webhook_dropped_events_total{HERE}[RATE]))`, "dropped for {{receiver}}"},
			{`sum by (receiver) (rate(sluice_webhook_collapsed_events_total{HERE}[RATE]))`, "collapsed for {{receiver}}"},
		}},
		{third, "Attempts that have failed", "Share of requests to the receiver. What they hold is sent again.", units.PercentUnit, []query{
			{`sum by (receiver) (rate(sluice_webhook_failures_total{HERE}[RATE])) / sum by (receiver) (rate(sluice_webhook_attempts_total{HERE}[RATE]))`, "{{receiver}}"},
		}},
		{third, "Age of the oldest event", "That waits or is being sent.", units.Seconds, []query{
			{`max by (receiver) (sluice_webhook_oldest_seconds{HERE})`, "{{receiver}}"},
		}},
		{third, "Events that wait", "Or are being sent.", units.Short, []query{
			{`sum by (receiver) (sluice_webhook_queued_events{HERE})`, "{{receiver}}"},
		}},
		{third, "Memory of the queues", "Bounded by --webhook-queue for each gateway and receiver.", units.BytesIEC, []query{
			{`sum by (receiver) (sluice_webhook_queue_bytes{HERE})`, "{{receiver}}"},
		}},
		{third, "Resets and digests", "Of partitions: each start sends 64 resets. Gone: the receiver has answered with 410.", units.CountsPerSecond, []query{
			{`sum by (receiver) (rate(sluice_webhook_resets_total{HERE}[RATE]))`, "resets for {{receiver}}"},
			{`sum by (receiver) (rate(sluice_webhook_digests_total{HERE}[RATE]))`, "digests for {{receiver}}"},
			{`max by (receiver) (sluice_webhook_gone{HERE})`, "{{receiver}} is gone"},
		}},
	}},
	{title: "Connections and closes", collapsed: true, panels: []panel{
		{third, "Connections opened and closed", "WebSocket and SSE connections.", units.CountsPerSecond, []query{
			{`sum(rate(sluice_handshakes_total{HERE, ` + admitted + `}[RATE]))`, "opened"},
			{`sum(rate(sluice_connections_closed_total{HERE}[RATE]))`, "closed"},
		}},
		{third, "Closes by reason", "SECURITY.md explains each reason.", units.CountsPerSecond, []query{
			{`sum by (reason) (rate(sluice_connections_closed_total{HERE}[RATE])) > 0`, "{{reason}}"},
		}},
		{third, "Refusals by outcome", "First requests that were refused or that failed.", units.CountsPerSecond, []query{
			{`sum by (outcome) (rate(sluice_handshakes_total{HERE, ` + refused + `}[RATE])) > 0`, "{{outcome}}"},
		}},
		{third, "Users and addresses", "Distinct users, counted for each loop, and client addresses tracked for per-address limits.", units.Short, []query{
			{`sum(sluice_users{HERE})`, "users"},
			{`sum(sluice_addresses{HERE})`, "addresses"},
		}},
		{third, "Subscriptions started", "How often clients of the Centrifugo protocol subscribe.", units.CountsPerSecond, []query{
			{`sum by (instance) (rate(sluice_subscriptions_started_total{HERE}[RATE]))`, "{{instance}}"},
		}},
		{third, "Messages and pings", "Messages received from clients, and pings sent to those that are silent.", units.CountsPerSecond, []query{
			{`sum(rate(sluice_messages_received_total{HERE}[RATE]))`, "messages received"},
			{`sum(rate(sluice_pings_total{HERE}[RATE]))`, "pings sent"},
		}},
		{third, "Traffic", "Bytes written to clients' sockets, and received from clients.", units.BytesPerSecondSI, []query{
			{`sum(rate(sluice_sent_bytes_total{HERE}[RATE]))`, "sent"},
			{`sum(rate(sluice_received_bytes_total{HERE}[RATE]))`, "received"},
		}},
		{third, "TLS handshakes", "By whether the session was resumed, which costs less CPU.", units.CountsPerSecond, []query{
			{`sum by (resumed) (rate(sluice_tls_handshakes_total{HERE}[RATE]))`, "resumed: {{resumed}}"},
		}},
		{third, "Certificate expires in", "Time until the TLS certificate in use expires. Empty without one.", units.Seconds, []query{
			{`min by (instance) (sluice_certificate_expiry_timestamp_seconds{HERE}) - time()`, "{{instance}}"},
		}},
	}},
	{title: "Stops, upgrades and compression", collapsed: true, panels: []panel{
		{third, "Connections left while draining", "A gateway that stops closes its connections over --drain-duration. Those that are closing wait for their client.", units.Short, []query{
			{`sum by (instance) (sluice_connections{HERE}) and on (instance) (max by (instance) (sluice_draining{HERE}) == 1)`, "{{instance}}"},
			{`sum by (instance) (sluice_closing_connections{HERE}) and on (instance) (max by (instance) (sluice_draining{HERE}) == 1)`, "{{instance}} closing"},
		}},
		{third, "Upgrades and reloads", "A new process has taken over, or an upgrade has failed and the process has gone on; and reloads of the configuration, by outcome.", units.Short, []query{
			{`sum by (instance) (increase(sluice_upgrades_total{HERE}[RATE]))`, "{{instance}} upgraded"},
			{`sum by (instance) (increase(sluice_upgrades_failed_total{HERE}[RATE]))`, "{{instance}} upgrade failed"},
			{`sum by (instance, outcome) (increase(sluice_config_reloads_total{HERE}[RATE]))`, "{{instance}} reload: {{outcome}}"},
		}},
		{third, "Freeze of the last upgrade", "For how long nobody was served when the process took over. Empty after a restart.", units.Seconds, []query{
			{`max by (instance) (sluice_taken_over_freeze_seconds{HERE}) > 0`, "{{instance}}"},
		}},
		{third, "Compressed size", "Bytes of publications after compression, divided by those before. Empty without compression.", units.PercentUnit, []query{
			{`sum by (instance) (rate(sluice_compressed_bytes_total{HERE, state="after"}[RATE])) / sum by (instance) (rate(sluice_compressed_bytes_total{HERE, state="before"}[RATE]))`, "{{instance}}"},
		}},
		{third, "Bytes compressed", "Each publication counts once for each wire format in use, however many subscribers it has.", units.BytesPerSecondSI, []query{
			{`sum by (state) (rate(sluice_compressed_bytes_total{HERE}[RATE]))`, "{{state}}"},
		}},
		{third, "Not compressed, because compressors were busy", "Publications that were sent as they are.", units.CountsPerSecond, []query{
			{`sum by (instance) (rate(sluice_compressors_busy_total{HERE}[RATE]))`, "{{instance}}"},
		}},
	}},
	{title: "HTTP API", collapsed: true, panels: []panel{
		{third, "Publications through the API", "Accepted from backends: /publish and /api.", units.CountsPerSecond, []query{
			{`sum by (instance) (rate(sluice_publications_total{HERE, source="api"}[RATE]))`, "{{instance}}"},
		}},
		{third, "Publications that had to wait", "Share of API publications that found the channel full. After 250 ms the backend gets 503.", units.PercentUnit, []query{
			{`sum by (instance) (rate(sluice_push_backs_total{HERE, source="api"}[RATE])) / sum by (instance) (rate(sluice_publications_total{HERE, source="api"}[RATE]))`, "{{instance}}"},
		}},
		{third, "Plain HTTP of clients", "First requests on the public listener that are not WebSocket: the page, SSE, emulation; and those that found every place taken.", units.CountsPerSecond, []query{
			{`sum by (outcome) (rate(sluice_handshakes_total{HERE, outcome=~"http|http_busy"}[RATE]))`, "{{outcome}}"},
		}},
	}},
	{title: "Event loops", collapsed: true, panels: []panel{
		{third, "Loop lag, p99", "How late the ticks of each loop are. Above 0.5 s, the loop needs more CPU.", units.Seconds, []query{
			{`histogram_quantile(0.99, sum by (instance, loop, le) (rate(sluice_loop_lag_seconds_bucket{HERE}[RATE])))`, "{{instance}} loop {{loop}}"},
		}},
		{third, "Connections by loop", "New connections go to the loops in turn.", units.Short, []query{
			{`sum by (instance, loop) (sluice_connections{HERE})`, "{{instance}} loop {{loop}}"},
		}},
		{third, "Deliveries by loop", "Publications written to subscribers' sockets.", units.CountsPerSecond, []query{
			{`sum by (instance, loop) (rate(sluice_deliveries_total{HERE}[RATE]))`, "{{instance}} loop {{loop}}"},
		}},
		{third, "Deliveries per write", "Above 1, one system call sends several publications.", units.Short, []query{
			{`sum by (instance) (rate(sluice_deliveries_total{HERE}[RATE])) / sum by (instance) (rate(sluice_writes_total{HERE}[RATE]))`, "{{instance}}"},
		}},
		{third, "Writes and sweeps", "System calls that write to clients, and passes over the subscribers of a channel.", units.CountsPerSecond, []query{
			{`sum(rate(sluice_writes_total{HERE}[RATE]))`, "writes"},
			{`sum(rate(sluice_sweeps_total{HERE}[RATE]))`, "sweeps"},
			{`sum(rate(sluice_blockings_total{HERE}[RATE]))`, "sockets blocked"},
		}},
		{third, "Panics", "Each closed one connection, and is a bug in sluice: the stack is in the log.", units.Short, []query{
			{`sum by (instance) (increase(sluice_panics_total{HERE}[RATE]))`, "{{instance}}"},
		}},
	}},
	{title: "Process", collapsed: true, panels: []panel{
		{third, "CPU", "Cores in use.", units.Short, []query{
			{`sum by (instance) (rate(process_cpu_seconds_total{HERE}[RATE]))`, "{{instance}}"},
		}},
		{third, "Memory", "Resident memory of the process, and what counts toward its limit. Without a limit, it is 0.", units.BytesIEC, []query{
			{`sum by (instance) (process_resident_memory_bytes{HERE})`, "{{instance}} resident"},
			{`sum by (instance) (sluice_memory_used_bytes{HERE})`, "{{instance}} used"},
			{`sum by (instance) (sluice_memory_limit_bytes{HERE})`, "{{instance}} limit"},
		}},
		{third, "Memory per connection", "Resident memory divided by connections. It includes the fixed part of the process, which few connections share.", units.BytesIEC, []query{
			{`sum by (instance) (process_resident_memory_bytes{HERE}) / sum by (instance) (sluice_connections{HERE})`, "{{instance}}"},
		}},
		{third, "Go heap", "Allocated objects, and the size at which the next collection begins.", units.BytesIEC, []query{
			{`sum by (instance) (go_memstats_heap_alloc_bytes{HERE})`, "{{instance}} heap"},
			{`sum by (instance) (go_memstats_next_gc_bytes{HERE})`, "{{instance}} next collection"},
		}},
		{third, "Goroutines", "Connections have none: the number does not grow with them.", units.Short, []query{
			{`sum by (instance) (go_goroutines{HERE})`, "{{instance}}"},
		}},
		{third, "Longest pause of the garbage collector", "Of the last collections.", units.Seconds, []query{
			{`max by (instance) (go_gc_duration_seconds{HERE, quantile="1"})`, "{{instance}}"},
		}},
		{half, "File descriptors", "Share of the process's limit. Each connection needs one.", units.PercentUnit, []query{
			{`sum by (instance) (process_open_fds{HERE}) / sum by (instance) (process_max_fds{HERE})`, "{{instance}}"},
		}},
		{half, "Log records suppressed", "Beyond ten of a kind per second, records are counted instead of written.", units.CountsPerSecond, []query{
			{`sum by (instance) (rate(sluice_log_records_suppressed_total{HERE}[RATE]))`, "{{instance}}"},
		}},
	}},
}
