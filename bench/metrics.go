package bench

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// unit is what a value is measured in, and how it is printed. In JSON every value is in
// the base unit: seconds, bytes, a plain number.
type unit string

const (
	count     unit = "1"
	seconds   unit = "s"
	bytesUnit unit = "B"
	perSecond unit = "1/s"
	percent   unit = "%"
	flag      unit = "bool" // 0 or 1
)

// metric is one figure that a scenario can report.
type metric struct {
	name  string
	unit  unit
	label string
}

// group is the metrics under one heading of the table.
type group struct {
	title   string
	metrics []metric
}

var (
	verdictMetrics = []metric{
		{"invalid", flag, "the generator was late, so the figures are not reliable"},
		{"interrupted", flag, "ended early"},
	}
	serverCPU = []metric{
		{"server_cpu", seconds, "CPU time"},
		{"server_cpu_percent", percent, "CPU usage, of one core"},
	}
	serverGroup = group{"server", append(serverCPU[:2:2], metric{"server_rss", bytesUnit, "memory at the end (VmRSS)"})}
	tlsGroup    = group{"TLS", []metric{
		{"tls_handshakes", count, "handshakes"},
		{"tls_resumed", count, "resumed handshakes"},
	}}
	cpuGroup = group{"generator", []metric{
		{"generator_cpu_percent", percent, "CPU usage, of one core"},
	}}
	generatorGroup = group{"generator", []metric{
		{"generator_cpu_percent", percent, "CPU usage, of one core"},
		{"late", percent, "messages sent too late"},
		{"late_p99", seconds, "behind schedule, p99"},
		{"late_max", seconds, "behind schedule, max"},
		{"push_back_max", seconds, "longest wait for the server to accept a message"},
		{"publish_retries", count, "publishes rejected and retried"},
		{"messages_per_read", count, "messages per read()"},
		{"bytes_per_delivery", bytesUnit, "bytes on the wire per delivery"},
	}}
)

// scenarios are the figures of each scenario, as the table shows them, except for verdictMetrics,
// which all of them have.
var scenarios = map[string][]group{
	"fanout": {
		{"deliveries", []metric{
			{"subscribers", count, "subscribers"},
			{"channels", count, "channels, with an equal share of the subscribers"},
			{"published", count, "published"},
			{"delivered", count, "delivered"},
			{"lost", count, "lost"},
			{"lost_cut", count, "lost on connections closed by the server"},
			{"repeated", count, "repeated"},
			{"reordered", count, "reordered"},
			{"holes", count, "unreported gaps"},
			{"repeats", count, "repeated offsets"},
			{"gaps", count, "gap records"},
			{"nodes", count, "nodes"},
			{"orders", count, "orders of a channel: 1 if it has the same on all nodes"},
			{"disagreements", count, "messages with different offsets on two connections"},
			{"cut", count, "connections closed by the server"},
			{"stale", count, "messages from another phase of this run"},
			{"foreign", count, "messages from other publishers"},
			{"rate_held", perSecond, "highest sustained rate, messages"},
			{"deliveries_per_second", perSecond, "deliveries"},
			{"elapsed", seconds, "time from the first due time to the last delivery"},
			{"catch_up", seconds, "time to drain after the last message was due"},
		}},
		{"latency, from the time each message was due", latencyMetrics("")},
		{"latency on the publisher's node", latencyMetrics("same_node_")},
		{"latency on other nodes", latencyMetrics("other_nodes_")},
		{"time until a message reached its last subscriber", append(latencyMetrics("last_"),
			metric{"incomplete", count, "messages that did not reach every subscriber"})},
		withMetric(serverGroup, metric{"server_cpu_per_delivery", seconds, "CPU per delivery"}),
		tlsGroup,
		generatorGroup,
	},
	"idle": {
		{"memory per idle connection", []metric{
			{"connections", count, "connections"},
			{"cut", count, "connections closed by the server"},
			{"rss_fresh", bytesUnit, "server VmRSS before connecting"},
			{"rss", bytesUnit, "server VmRSS with idle connections"},
			{"rss_per_connection", bytesUnit, "VmRSS per connection"},
			{"slab_per_connection", bytesUnit, "kernel slab per connection (both ends, if local)"},
			{"exchanged", count, "messages received before measuring (--exchange)"},
		}},
		{"additional memory per subscription", []metric{
			{"subscriptions", count, "subscriptions, each to its own channel"},
			{"rss_subscribed", bytesUnit, "server VmRSS with subscriptions"},
			{"rss_per_subscription", bytesUnit, "VmRSS per subscription and its channel"},
		}},
		tlsGroup,
		{"idle server", serverCPU},
		{"generator", []metric{
			{"generator_cpu_percent", percent, "CPU usage, of one core"},
			{"foreign", count, "messages from other publishers"},
		}},
	},
	"storm": {
		{"upgrades", []metric{
			{"connections", count, "connections attempted"},
			{"upgraded", count, "upgraded"},
			{"failed", count, "failed"},
			{"cut", count, "connections closed by the server"},
			{"upgrades_per_second", perSecond, "upgrades"},
			{"elapsed", seconds, "time from first to last"},
			{"listen_overflows", count, "attempts that hit a full listen backlog (this host)"},
		}},
		{"time to connect and upgrade", latencyMetrics("")},
		tlsGroup,
		withMetric(serverGroup, metric{"server_cpu_per_upgrade", seconds, "CPU per upgrade"}),
		cpuGroup,
	},
	"hooks": {
		{"clients that connect at once", []metric{
			{"connections", count, "connections attempted"},
			{"upgraded", count, "connected"},
			{"failed", count, "failed"},
			{"upgrades_per_second", perSecond, "connects"},
			{"elapsed", seconds, "time from first to last"},
			{"calls", count, "calls of the backend"},
			{"calls_in_flight", count, "most calls at a time"},
			{"recovered_after", seconds, "time from when the backend is back until a client connects"},
		}},
		{"time to connect", latencyMetrics("")},
		{"from publishing until the publication is back", append(latencyMetrics("publish_"),
			metric{"publish_backend_p50", seconds, "time that the backend takes, p50"},
			metric{"publish_beyond", seconds, "difference of both, p50"})},
		{"clients that wait for a backend that hangs", []metric{
			{"attempts", count, "connects"},
			{"refused", count, "refused"},
			{"pending", count, "most that waited at a time"},
			{"rss_per_pending", bytesUnit, "growth of VmRSS per client that waits"},
			{"lost", count, "messages lost by other clients"},
			{"cut", count, "other clients closed by the server"},
		}},
		{"latency of messages to others, before", latencyMetrics("quiet_")},
		{"the same while the backend hangs", append(latencyMetrics("hung_"), metric{"hung_by_quiet", count, "p99, compared with before"})},
		{"time until a client is refused, with the backend known to be away", append(latencyMetrics("breaker_"),
			metric{"breaker_refused", count, "refused"}, metric{"breaker_calls", count, "calls of the backend meanwhile"})},
		tlsGroup,
		withMetric(serverGroup, metric{"server_cpu_per_connect", seconds, "CPU per connect"}),
		cpuGroup,
	},
	"recover": {
		{"joins", []metric{
			{"joins", count, "completed"},
			{"failed", count, "failed"},
			{"joins_per_second", perSecond, "joins"},
			{"published", count, "published in the meantime"},
			{"published_per_second", perSecond, "published"},
			{"recovered", count, "messages recovered"},
			{"live", count, "new messages after recovering"},
			{"lost", count, "lost"},
			{"holes", count, "unreported gaps"},
			{"repeats", count, "repeated offsets"},
			{"wrong", count, "offsets whose payload belongs to another offset"},
			{"gaps", count, "joins that were not fully recovered (gap)"},
			{"foreign", count, "messages from other publishers"},
			{"elapsed", seconds, "time from first to last"},
		}},
		{"time from connecting to fully recovered", latencyMetrics("")},
		tlsGroup,
		withMetric(serverGroup, metric{"server_cpu_per_join", seconds, "CPU per join, publishing included"}),
		generatorGroup,
	},
	"reconnect": {
		{"reconnects", []metric{
			{"connections", count, "clients"},
			{"returned", count, "reconnected"},
			{"failed", count, "failed"},
			{"cut", count, "connections closed by the server"},
			{"published", count, "published in the meantime"},
			{"delivered", count, "recovered"},
			{"lost", count, "lost"},
			{"repeated", count, "repeated"},
			{"reordered", count, "reordered"},
			{"holes", count, "unreported gaps"},
			{"repeats", count, "repeated offsets"},
			{"gaps", count, "clients that were not fully recovered (gap)"},
			{"foreign", count, "messages from other publishers"},
			{"elapsed", seconds, "time until all had recovered"},
			{"returns_per_second", perSecond, "reconnects"},
		}},
		{"time from connecting to fully recovered", latencyMetrics("")},
		tlsGroup,
		withMetric(serverGroup, metric{"server_cpu_per_return", seconds, "CPU per reconnect"}),
		cpuGroup,
	},
	"drain": {
		{"closes", []metric{
			{"connections", count, "clients"},
			{"closed", count, "closed by the server"},
			{"first_close", seconds, "first close after the signal"},
			{"last_close", seconds, "last close after the signal"},
			{"closes_most", count, "most closes in one second"},
			{"closes_mean", perSecond, "closes on average"},
			{"closes_ratio", count, "most in one second, compared with the average"},
		}},
		{"from the close until a client is back, with its subscription", []metric{
			{"returned", count, "came back"},
			{"back_p50", seconds, "p50"}, {"back_p99", seconds, "p99"}, {"back_max", seconds, "max"},
		}},
		{"messages", []metric{
			{"published", count, "published"},
			{"delivered", count, "delivered"},
			{"lost", count, "lost"},
			{"repeated", count, "repeated"},
			{"reordered", count, "reordered"},
			{"told", count, "missed, and the client was told so"},
			{"recovered", count, "subscriptions recovered"},
			{"unrecovered", count, "subscriptions not recovered"},
		}},
		{"latency before", []metric{{"baseline_p50", seconds, "p50"}, {"baseline_p99", seconds, "p99"}, {"baseline_max", seconds, "max"}}},
		{"latency from the signal on, reconnects included", []metric{{"p50", seconds, "p50"}, {"p99", seconds, "p99"}, {"max", seconds, "max"}}},
		tlsGroup,
		cpuGroup,
	},
	"upgrade": {
		{"upgrades", []metric{
			{"connections", count, "clients"},
			{"upgrades", count, "upgrades"},
			{"moved", count, "connections moved, in each of them"},
			{"secure", count, "connections with TLS, which do not move"},
			{"freeze_p50", seconds, "freeze, p50"},
			{"freeze_max", seconds, "freeze, max"},
			{"took_p50", seconds, "until the new process serves, p50"},
			{"took_max", seconds, "until the new process serves, max"},
		}},
		{"clients", []metric{
			{"disconnected", count, "connections closed by the server"},
			{"published", count, "published"},
			{"delivered", count, "delivered"},
			{"lost", count, "lost"},
			{"repeated", count, "repeated"},
			{"reordered", count, "reordered"},
			{"holes", count, "gaps in offsets"},
			{"foreign", count, "messages from other publishers"},
			{"presence_missing", count, "sessions missing in the presence of their channel"},
			{"pause_beyond", seconds, "longest wait of a client, above the longest one before"},
		}},
		{"clients whose publications wait", []metric{
			{"parked", count, "publishers"},
			{"parked_published", count, "published"},
			{"parked_lost", count, "lost"},
			{"parked_repeated", count, "repeated"},
			{"parked_reordered", count, "reordered"},
		}},
		{"clients with TLS", []metric{
			{"closed", count, "connections closed"},
			{"asked", count, "with a close code that asks to reconnect"},
			{"returned", count, "came back"},
			{"back_p50", seconds, "from the close until back, p50"},
			{"back_p99", seconds, "from the close until back, p99"},
			{"back_max", seconds, "from the close until back, max"},
			{"recovered", count, "subscriptions recovered"},
			{"unrecovered", count, "subscriptions not recovered, as the client was told"},
			{"told", count, "messages missed, as the client was told"},
			{"refused", count, "publications refused"},
			{"unknown", count, "publications without a receipt"},
		}},
		{"from sending a message until it is back, of some clients, before", latencyMetrics("baseline_probe_")},
		{"the same during upgrades", latencyMetrics("probe_")},
		{"latency of messages to all, before", latencyMetrics("baseline_")},
		{"the same during upgrades", latencyMetrics("")},
		{"server", []metric{
			{"cpu_per_moved", seconds, "CPU per connection moved, of both processes"},
			{"copied", bytesUnit, "histories, copied before the freeze"},
			{"records", bytesUnit, "records of all connections"},
			{"records_per_connection", bytesUnit, "the same per connection"},
			{"rss_before", bytesUnit, "memory of the last old process (VmRSS)"},
			{"rss_after", bytesUnit, "memory of the last new process"},
			{"rss_above", bytesUnit, "memory at the peak, above that of both"},
		}},
		tlsGroup,
		generatorGroup,
	},
	"reload": {
		{"reloads", []metric{
			{"connections", count, "clients"},
			{"subscriptions", count, "subscriptions of all clients"},
			{"reloads", count, "reloads"},
			{"took_p50", seconds, "time of a reload, p50"},
			{"took_max", seconds, "time of a reload, max"},
			{"answered_max", seconds, "until a request for it is answered, max"},
			{"ended", count, "subscriptions and connections that a reload ended"},
		}},
		{"clients", []metric{
			{"disconnected", count, "connections closed by the server"},
			{"published", count, "published"},
			{"delivered", count, "delivered"},
			{"lost", count, "lost"},
			{"repeated", count, "repeated"},
			{"reordered", count, "reordered"},
			{"holes", count, "gaps in offsets"},
			{"foreign", count, "messages from other publishers"},
			{"pause_beyond", seconds, "longest wait of a client, above the longest one before"},
		}},
		{"from sending a message until it is back, of some clients, before", latencyMetrics("baseline_probe_")},
		{"the same during reloads", latencyMetrics("probe_")},
		{"latency of messages to all, before", latencyMetrics("baseline_")},
		{"the same during reloads", latencyMetrics("")},
		{"server", []metric{
			{"baseline_cpu_percent", percent, "CPU before, of one core"},
			{"server_cpu_percent", percent, "CPU during reloads, of one core"},
		}},
		generatorGroup,
	},
	"churn": {
		{"cycles: connect, send, receive back, close", []metric{
			{"cycles", count, "completed"},
			{"clean", count, "closed with a closing handshake"},
			{"reset", count, "closed with a reset"},
			{"cycles_per_second", perSecond, "cycles"},
			{"elapsed", seconds, "time from first to last"},
			{"failed", count, "failed"},
			{"failed_connect", count, "failed to connect"},
			{"failed_tls", count, "failed in the TLS handshake"},
			{"failed_upgrade", count, "failed in the upgrade"},
			{"failed_message", count, "did not get the message back"},
			{"failed_close", count, "failed in the closing handshake"},
		}},
		{"time from connecting to the message back", latencyMetrics("")},
		{"server resources before and after", []metric{
			{"descriptors_before", count, "file descriptors before"},
			{"descriptors_after", count, "file descriptors after"},
			{"descriptors_left", count, "file descriptors leaked"},
			{"goroutines_before", count, "goroutines before"},
			{"goroutines_after", count, "goroutines after"},
			{"goroutines_left", count, "goroutines leaked"},
			{"epoll_before", count, "epoll entries before"},
			{"epoll_after", count, "epoll entries after"},
			{"epoll_left", count, "epoll entries leaked"},
			{"threads_before", count, "threads before"},
			{"threads_after", count, "threads after"},
			{"rss_before", bytesUnit, "memory before (VmRSS)"},
			{"rss_after", bytesUnit, "memory after (VmRSS)"},
			{"rss_growth", percent, "memory growth"},
		}},
		tlsGroup,
		withMetric(group{"server", serverCPU}, metric{"server_cpu_per_cycle", seconds, "CPU per cycle"}),
		cpuGroup,
	},
	"floor": {
		{"one send() per delivery, without a server", []metric{
			{"connections", count, "sockets"},
			{"rounds", count, "rounds, one send() to each socket"},
			{"delivered", count, "delivered"},
			{"lost", count, "lost"},
			{"deliveries_per_second", perSecond, "deliveries"},
			{"elapsed", seconds, "time from first sent to last delivered"},
			{"sender_cpu", seconds, "CPU time of the sender, less idle"},
			{"sender_cpu_per_delivery", seconds, "CPU of the sender per delivery"},
		}},
		{"accept, read, write and close per upgrade", []metric{
			{"upgraded", count, "upgraded"},
			{"failed", count, "failed"},
			{"upgrades_per_second", perSecond, "upgrades"},
			{"upgrades_elapsed", seconds, "time from first to last"},
			{"sender_cpu_per_upgrade", seconds, "CPU per upgrade"},
		}},
		{"generator", []metric{
			{"generator_cpu_percent", percent, "CPU usage, of one core"},
			{"messages_per_read", count, "messages per read()"},
		}},
	},
}

// Table is figures of one heading that are plain numbers: the name of each, and its label.
type Table struct {
	Title string
	Rows  [][2]string
}

// Register adds the figures of a scenario of another package, which plays cases. The first table
// also has their rate and the time that they took.
func Register(scenario, cases string, tables ...Table) {
	var groups []group
	for i, t := range tables {
		g := group{title: t.Title}
		for _, row := range t.Rows {
			g.metrics = append(g.metrics, metric{row[0], count, row[1]})
		}
		if i == 0 {
			g.metrics = append(g.metrics, metric{"cases_per_second", perSecond, cases}, metric{"elapsed", seconds, "time from first to last"})
		}
		groups = append(groups, g)
	}
	scenarios[scenario] = append(groups, serverGroup, tlsGroup, cpuGroup)
}

func withMetric(g group, m metric) group {
	return group{g.title, append([]metric{m}, g.metrics...)}
}

func latencyMetrics(prefix string) []metric {
	return []metric{
		{prefix + "p50", seconds, "p50"}, {prefix + "p90", seconds, "p90"}, {prefix + "p99", seconds, "p99"},
		{prefix + "p99.9", seconds, "p99.9"}, {prefix + "max", seconds, "max"},
	}
}

// metricsOf returns all figures of a scenario.
func metricsOf(scenario string) []metric {
	all := verdictMetrics
	for _, g := range scenarios[scenario] {
		all = append(slices.Clip(all), g.metrics...)
	}
	return all
}

func findMetric(scenario, name string) (metric, bool) {
	all := metricsOf(scenario)
	if i := slices.IndexFunc(all, func(m metric) bool { return m.name == name }); i >= 0 {
		return all[i], true
	}
	return metric{}, false
}

// MetricNames returns the names of a scenario's figures, as [ParseFailIf] and
// Result.Metrics use them.
func MetricNames(scenario string) (names []string) {
	for _, m := range metricsOf(scenario) {
		names = append(names, m.name)
	}
	return names
}

// setLatency reports the percentiles of a histogram of microseconds.
func (r *Result) setLatency(prefix string, h *hdr.Histogram) {
	if h.TotalCount() == 0 {
		return
	}
	for _, p := range []struct {
		name string
		at   float64
	}{{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}} {
		r.Set(prefix+p.name, float64(h.ValueAtPercentile(p.at))/1e6)
	}
	r.Set(prefix+"max", float64(h.Max())/1e6)
}

// setTimes reports the percentiles of durations.
func (r *Result) setTimes(prefix string, t Times) {
	if t.Count == 0 {
		return
	}
	r.Set(prefix+"p50", t.P50.Seconds())
	r.Set(prefix+"p99", t.P99.Seconds())
	r.Set(prefix+"max", t.Max.Seconds())
}

// format prints a value for people.
func (u unit) format(v float64) string {
	switch u {
	case seconds:
		return formatSeconds(v)
	case bytesUnit:
		return formatBytes(v)
	case perSecond:
		return thousands(v, precision(v)) + " /s"
	case percent:
		return strconv.FormatFloat(v, 'f', 2, 64) + " %"
	case flag:
		if v != 0 {
			return "yes"
		}
		return "no"
	}
	if v != math.Trunc(v) {
		return thousands(v, 2)
	}
	return thousands(v, 0)
}

func precision(v float64) int {
	if v < 100 {
		return 2
	}
	return 0
}

func formatSeconds(v float64) string {
	switch d := math.Abs(v); {
	case d == 0:
		return "0 s"
	case d < 1e-3:
		return strconv.FormatFloat(v*1e6, 'f', 3, 64) + " µs"
	case d < 1:
		return strconv.FormatFloat(v*1e3, 'f', 2, 64) + " ms"
	}
	return strconv.FormatFloat(v, 'f', 2, 64) + " s"
}

func formatBytes(v float64) string {
	switch b := math.Abs(v); {
	case b < 1<<10:
		return strconv.FormatFloat(v, 'f', 0, 64) + " B"
	case b < 1<<20:
		return strconv.FormatFloat(v/(1<<10), 'f', 2, 64) + " KiB"
	}
	return strconv.FormatFloat(v/(1<<20), 'f', 2, 64) + " MiB"
}

// thousands prints 1234567.8 as 1,234,568.
func thousands(v float64, decimals int) string {
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	whole, rest, _ := strings.Cut(s, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		rest = "." + rest
	}
	return sign + whole + rest
}

// parseValue reads the value that a figure is compared with, a duration, a size or a
// plain number, and returns it in the base unit.
func (u unit) parseValue(s string) (float64, error) {
	if v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64); err == nil && !math.IsNaN(v) && (u == percent || !strings.HasSuffix(s, "%")) {
		if u == seconds && v != 0 {
			return 0, fmt.Errorf("%s has no unit, but the figure is a duration: write %ss or %sms", s, s, s)
		}
		return v, nil
	}
	switch u {
	case seconds:
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration such as 50ms", s)
		}
		return d.Seconds(), nil
	case bytesUnit:
		n, err := ParseSize(s)
		if err != nil {
			return 0, err
		}
		return float64(n), nil
	}
	return 0, fmt.Errorf("%q is not a number", s)
}

// ParseSize reads a number of bytes such as 64, 0.55KB, 64KiB or 1M. KB, MB and GB are powers of
// 1000; KiB, MiB, GiB, K, M and G of 1024.
func ParseSize(s string) (int64, error) {
	factor := 1.0
	number := s
	for _, suffix := range []struct {
		name   string
		factor float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}} {
		if rest, ok := strings.CutSuffix(s, suffix.name); ok {
			number, factor = rest, suffix.factor
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v >= 0 && v*factor < 1<<53) {
		return 0, fmt.Errorf("%q is not a size: use a number of bytes such as 64, 64KiB or 1MiB", s)
	}
	return int64(v * factor), nil
}
