package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// unit says how a value is meant and printed. In JSON every value is in the
// base unit: seconds, bytes, a plain number.
type unit string

const (
	count     unit = "1"
	seconds   unit = "s"
	bytesUnit unit = "B"
	perSecond unit = "1/s"
	percent   unit = "%"
	flag      unit = "bool" // 0 or 1
)

// metric is one figure that a scenario can give.
type metric struct {
	name  string
	unit  unit
	label string
}

// group is the metrics that the table shows under one heading.
type group struct {
	title   string
	metrics []metric
}

var (
	verdictGroup = group{"verdict", []metric{
		{"invalid", flag, "the generator was late: do not trust the figures"},
		{"interrupted", flag, "ended before its time"},
	}}
	serverGroup = group{"server", []metric{
		{"server_cpu", seconds, "CPU time"},
		{"server_cpu_percent", percent, "CPU, of one core"},
		{"server_rss", bytesUnit, "memory (VmRSS) at the end"},
	}}
	tlsGroup = group{"TLS", []metric{
		{"tls_handshakes", count, "handshakes"},
		{"tls_resumed", count, "of these resumed from an earlier session"},
	}}
	generatorGroup = group{"generator", []metric{
		{"generator_cpu_percent", percent, "CPU, of one core"},
		{"late", percent, "sends later than the bound"},
		{"late_p99", seconds, "behind schedule p99"},
		{"late_max", seconds, "behind schedule max"},
		{"push_back_max", seconds, "longest wait for the server to take a message"},
		{"publish_retries", count, "publications refused and sent again"},
		{"messages_per_read", count, "messages for each read"},
	}}
	fanoutGroups = []group{
		{"deliveries", []metric{
			{"subscribers", count, "subscribers"},
			{"channels", count, "channels, each with its share of them"},
			{"published", count, "published"},
			{"delivered", count, "delivered"},
			{"lost", count, "lost"},
			{"lost_cut", count, "of these on connections the server ended"},
			{"repeated", count, "repeated"},
			{"reordered", count, "reordered"},
			{"holes", count, "offsets missing, by protocols that have them"},
			{"repeats", count, "offsets repeated, by protocols that have them"},
			{"cut", count, "connections the server ended"},
			{"stale", count, "messages of another phase of this run"},
			{"foreign", count, "messages of others"},
			{"rate_held", perSecond, "highest rate held, publications"},
			{"deliveries_per_second", perSecond, "deliveries"},
			{"elapsed", seconds, "first due to last delivered"},
			{"catch_up", seconds, "last due to last delivered"},
		}},
		{"latency from the scheduled time", latencyMetrics("")},
		{"time to a publication's last subscriber", append(latencyMetrics("last_"),
			metric{"incomplete", count, "publications that did not reach all"})},
		withMetric(serverGroup, metric{"server_cpu_per_delivery", seconds, "CPU for each delivery"}),
		tlsGroup,
		generatorGroup,
		verdictGroup,
	}
	idleGroups = []group{
		{"memory for each idle connection", []metric{
			{"connections", count, "connections"},
			{"cut", count, "connections the server ended"},
			{"rss_fresh", bytesUnit, "server's VmRSS, fresh"},
			{"rss", bytesUnit, "server's VmRSS, settled"},
			{"rss_per_connection", bytesUnit, "VmRSS for each connection"},
			{"slab_per_connection", bytesUnit, "kernel slab for each connection, both ends if local"},
			{"exchanged", count, "messages that came before, by --exchange"},
		}},
		{"memory for each subscription beyond that", []metric{
			{"subscriptions", count, "subscriptions, each to a channel of its own"},
			{"rss_subscribed", bytesUnit, "server's VmRSS, settled"},
			{"rss_per_subscription", bytesUnit, "VmRSS for each subscription and its channel"},
		}},
		tlsGroup,
		{"idle server", []metric{
			{"server_cpu", seconds, "CPU time"},
			{"server_cpu_percent", percent, "CPU, of one core"},
		}},
		{"generator", []metric{
			{"generator_cpu_percent", percent, "CPU, of one core"},
			{"foreign", count, "messages of others"},
		}},
		verdictGroup,
	}
	stormGroups = []group{
		{"upgrades", []metric{
			{"connections", count, "connections asked for"},
			{"upgraded", count, "upgraded"},
			{"failed", count, "failed"},
			{"cut", count, "connections the server ended"},
			{"upgrades_per_second", perSecond, "upgrades"},
			{"elapsed", seconds, "from first to last"},
			{"listen_overflows", count, "connects that found this machine's backlog full"},
		}},
		{"connect and upgrade", latencyMetrics("")},
		tlsGroup,
		withMetric(serverGroup, metric{"server_cpu_per_upgrade", seconds, "CPU for each upgrade"}),
		{"generator", []metric{{"generator_cpu_percent", percent, "CPU, of one core"}}},
		verdictGroup,
	}
	recoverGroups = []group{
		{"joins", []metric{
			{"joins", count, "complete"},
			{"failed", count, "failed"},
			{"joins_per_second", perSecond, "joins"},
			{"published", count, "published meanwhile"},
			{"published_per_second", perSecond, "published"},
			{"recovered", count, "publications recovered"},
			{"live", count, "publications after those"},
			{"holes", count, "offsets missing"},
			{"repeats", count, "offsets repeated"},
			{"wrong", count, "publications with the payload of another"},
			{"gaps", count, "times the server said that it kept too little"},
			{"foreign", count, "messages of others"},
			{"elapsed", seconds, "from first to last"},
		}},
		{"from connecting to having all that was missed", latencyMetrics("")},
		tlsGroup,
		withMetric(serverGroup, metric{"server_cpu_per_join", seconds, "CPU for each join, publishing included"}),
		generatorGroup,
		verdictGroup,
	}
	reconnectGroups = []group{
		{"clients that come back", []metric{
			{"connections", count, "clients"},
			{"returned", count, "came back"},
			{"failed", count, "failed"},
			{"cut", count, "connections the server ended"},
			{"published", count, "published meanwhile"},
			{"delivered", count, "recovered"},
			{"lost", count, "lost"},
			{"repeated", count, "repeated"},
			{"reordered", count, "reordered"},
			{"holes", count, "offsets missing"},
			{"repeats", count, "offsets repeated"},
			{"gaps", count, "clients that the server could not give all they missed"},
			{"foreign", count, "messages of others"},
			{"elapsed", seconds, "until all had what they missed"},
			{"returns_per_second", perSecond, "returns"},
		}},
		{"from connecting to having all that was missed", latencyMetrics("")},
		tlsGroup,
		withMetric(serverGroup, metric{"server_cpu_per_return", seconds, "CPU for each return"}),
		{"generator", []metric{{"generator_cpu_percent", percent, "CPU, of one core"}}},
		verdictGroup,
	}
	churnGroups = []group{
		{"cycles of connect, a message there and back, close", []metric{
			{"cycles", count, "complete"},
			{"clean", count, "of these ended by a closing handshake"},
			{"reset", count, "of these ended by a reset"},
			{"cycles_per_second", perSecond, "cycles"},
			{"elapsed", seconds, "from first to last"},
			{"failed", count, "failed"},
			{"failed_connect", count, "of these in connecting"},
			{"failed_tls", count, "of these in the TLS handshake"},
			{"failed_upgrade", count, "of these in the upgrade"},
			{"failed_message", count, "of these with the message"},
			{"failed_close", count, "of these in the closing handshake"},
		}},
		{"from connecting to the message's return", latencyMetrics("")},
		{"what the server held before and after", []metric{
			{"descriptors_before", count, "descriptors before"},
			{"descriptors_after", count, "descriptors after"},
			{"descriptors_left", count, "descriptors left behind"},
			{"goroutines_before", count, "goroutines before"},
			{"goroutines_after", count, "goroutines after"},
			{"goroutines_left", count, "goroutines left behind"},
			{"epoll_before", count, "epoll entries before"},
			{"epoll_after", count, "epoll entries after"},
			{"epoll_left", count, "epoll entries left behind"},
			{"threads_before", count, "threads before"},
			{"threads_after", count, "threads after"},
			{"rss_before", bytesUnit, "memory (VmRSS) before"},
			{"rss_after", bytesUnit, "memory (VmRSS) after"},
			{"rss_growth", percent, "growth of memory"},
		}},
		tlsGroup,
		{"server", []metric{
			{"server_cpu_per_cycle", seconds, "CPU for each cycle"},
			{"server_cpu", seconds, "CPU time"},
			{"server_cpu_percent", percent, "CPU, of one core"},
		}},
		{"generator", []metric{{"generator_cpu_percent", percent, "CPU, of one core"}}},
		verdictGroup,
	}
	floorGroups = []group{
		{"one send for each delivery, without a server", []metric{
			{"connections", count, "sockets"},
			{"rounds", count, "rounds, one send to each"},
			{"delivered", count, "delivered"},
			{"lost", count, "lost"},
			{"deliveries_per_second", perSecond, "deliveries"},
			{"elapsed", seconds, "first sent to last delivered"},
			{"sender_cpu", seconds, "sender's CPU time less idle"},
			{"sender_cpu_per_delivery", seconds, "sender's CPU for each delivery"},
		}},
		{"accept, read, write, close for each upgrade", []metric{
			{"upgraded", count, "upgraded"},
			{"failed", count, "failed"},
			{"upgrades_per_second", perSecond, "upgrades"},
			{"upgrades_elapsed", seconds, "from first to last"},
			{"sender_cpu_per_upgrade", seconds, "CPU for each upgrade"},
		}},
		{"generator", []metric{
			{"generator_cpu_percent", percent, "CPU, of one core"},
			{"messages_per_read", count, "messages for each read"},
		}},
		verdictGroup,
	}
	scenarios = map[string][]group{
		"fanout": fanoutGroups, "idle": idleGroups, "storm": stormGroups,
		"recover": recoverGroups, "reconnect": reconnectGroups, "churn": churnGroups, "floor": floorGroups,
	}
)

func withMetric(g group, m metric) group {
	return group{g.title, append([]metric{m}, g.metrics...)}
}

func latencyMetrics(prefix string) []metric {
	return []metric{
		{prefix + "p50", seconds, "p50"}, {prefix + "p90", seconds, "p90"}, {prefix + "p99", seconds, "p99"},
		{prefix + "p99.9", seconds, "p99.9"}, {prefix + "max", seconds, "max"},
	}
}

// MetricNames lists the figures of a scenario that FailIf can name.
func MetricNames(scenario string) []string {
	var names []string
	for _, g := range scenarios[scenario] {
		for _, m := range g.metrics {
			names = append(names, m.name)
		}
	}
	return names
}

// setLatency sets the percentiles of a histogram of microseconds.
func (r *Result) setLatency(prefix string, h *hdr.Histogram) {
	if h.TotalCount() == 0 {
		return
	}
	for _, p := range []struct {
		name string
		at   float64
	}{{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}} {
		r.set(prefix+p.name, float64(h.ValueAtPercentile(p.at))/1e6)
	}
	r.set(prefix+"max", float64(h.Max())/1e6)
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
		return strconv.FormatFloat(v*1e6, 'f', 3, 64) + " us"
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

// parseValue reads what a value is compared with: a duration, a size or a
// plain number, in the metric's base unit.
func (u unit) parseValue(s string) (float64, error) {
	if v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64); err == nil && !math.IsNaN(v) && (u == percent || !strings.HasSuffix(s, "%")) {
		if u == seconds && v != 0 {
			return 0, fmt.Errorf("%s is a number, but the figure is a duration: write %ss or %sms", s, s, s)
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

// ParseSize reads a number of bytes such as 64, 0.55KB, 64KiB or 1MiB.
func ParseSize(s string) (int64, error) {
	factor := 1.0
	number := s
	for _, suffix := range []struct {
		name   string
		factor float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(s, suffix.name); ok {
			number, factor = rest, suffix.factor
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v >= 0 && v*factor < 1<<53) {
		return 0, fmt.Errorf("%q is not a size: give bytes such as 64, 64KiB or 1MiB", s)
	}
	return int64(v * factor), nil
}
