package ops

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Snapshot is what the metrics say of a gateway at one time. Counters are kept where things
// happen, each loop its own, and are put together only when somebody asks: no label is looked up
// and no counter is shared on the way of a message.
type Snapshot struct {
	Before *Totals // of the processes from which this one has taken over; nil for none

	Version, Commit string // of the program; empty if not known

	Loops      []Loop
	Namespaces []Namespace // those that are configured, the first for channels without one

	Closed, Dropped map[string]uint64 // connections, and publications not sent, by reason
	Handshakes      map[string]uint64 // by outcome
	Emulation       uint64            // requests with commands for emulated sessions
	EmulationKept   int               // connections that are kept for such requests
	Panics          uint64            // in handshakes
	Upgrading       bool              // to a new process
	Upgrades        uint64            // by which this process has taken over: 1 or 0
	UpgradesFailed  uint64
	TakenOver       int64 // connections, from another process
	TakenOverFreeze time.Duration

	Reloads Reloads

	Secured, Resumed        uint64    // TLS handshakes, full and resumed
	CertificateExpiry       time.Time // zero for no certificate
	Addresses               int
	Untracked               uint64
	Descriptors             uint64
	MaxConnections          int
	Draining                bool
	DrainTotal              int64 // connections when closing all began; 0 before
	MemoryLimit, MemoryUsed int64
	KernelMemory            int64 // for all TCP sockets of the machine; negative if not known
	Suppressed              uint64

	// Bytes.
	HeldConnections                     int64
	HeldLogs, HeldHistory, HeldEncoding int

	Engine *Engine // nil for one that has no store and no other nodes

	Hooks []Hook // those with figures

	Webhooks []Webhook // receivers of events

	Channels                      int
	Published, PublishedByClients uint64
	PushedBack, PushedBackClients uint64

	CompressedFrom, CompressedTo uint64 // bytes
	CompressorsBusy              uint64 // publications
}

// Reloads is what they say of the configuration.
type Reloads struct {
	Successful bool      // the last one, or there was none
	At         time.Time // when the configuration in use was loaded
	Outcomes   map[string]uint64
}

// Loop is what they say of an event loop.
type Loop struct {
	Connections, Closing, Blocked                 int64
	Users, Subscriptions                          int64
	Messages, Deliveries, BytesIn, BytesOut       uint64
	Writes, Sweeps, Blockings, Pings, Panics      uint64
	Recoveries, Gaps, Recalled, Skips, Subscribed uint64
	Lag, Delivery                                 Histogram
}

// Engine is what they say of the store and of other nodes.
type Engine struct {
	Parts                          map[string]bool // up, by name
	Away, AwayTotal, Lag           float64         // seconds
	Pending, PendingBytes, Waiting int
	Stored, CaughtUp, Resubscribed uint64
	Gaps                           map[string]uint64 // by cause
	Nodes                          int
	Unanswered                     uint64
}

// Webhook is what they say of a receiver of events.
type Webhook struct {
	Name                          string
	Events, Bytes                 int     // that wait or are being sent
	Oldest                        float64 // seconds for which the oldest event waits
	Delivered, Attempts, Failures uint64
	Collapsed, Dropped            uint64
	Resets, Digests               uint64
	Gone                          bool
}

// Hook is what they say of a hook.
type Hook struct {
	Event, Name      string
	Timeout          float64 // seconds
	InFlight, Queued int
	Open             bool // its circuit breaker
	Opened, Hits     uint64
	Outcomes         map[string]uint64
	Calls, Waits     Histogram
}

// Namespace is what they say of the channels of a namespace.
type Namespace struct {
	Name                    string // empty for channels without one
	Channels, Subscriptions int64
	Publications            uint64
}

// Histogram is the distribution of a time.
type Histogram struct {
	Bounds []float64 // seconds, growing
	Counts []uint64  // of times up to each bound and above the one before; the last is of those above all
	Sum    float64   // seconds
}

// Add adds what another histogram with the same bounds has.
func (h *Histogram) Add(other Histogram) {
	if h.Bounds == nil {
		h.Bounds, h.Counts = other.Bounds, make([]uint64, len(other.Counts))
	}
	for i, n := range other.Counts {
		h.Counts[i] += n
	}
	h.Sum += other.Sum
}

// metric returns h as a metric.
func (h *Histogram) metric(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	below, count := make(map[float64]uint64, len(h.Bounds)), uint64(0)
	for i, n := range h.Counts {
		if count += n; i < len(h.Bounds) {
			below[h.Bounds[i]] = count
		}
	}
	return prometheus.MustNewConstHistogram(desc, count, h.Sum, below, labels...)
}

// Collector makes metrics of what it returns.
type Collector func() *Snapshot

// Describe implements prometheus.Collector.
func (Collector) Describe(ch chan<- *prometheus.Desc) {
	for i := range Metrics {
		ch <- Metrics[i].desc
	}
}

// Collect implements prometheus.Collector.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	for i := range Metrics {
		m := &Metrics[i]
		m.each(s, func(t total) {
			if t.histogram != nil {
				ch <- t.histogram.metric(m.desc, t.labels...)
			} else {
				ch <- prometheus.MustNewConstMetric(m.desc, valueTypes[m.Type], t.value, t.labels...)
			}
		})
	}
}

var valueTypes = map[string]prometheus.ValueType{"gauge": prometheus.GaugeValue, "counter": prometheus.CounterValue}

// sink takes the values of one metric.
type sink func(total)

func (to sink) value(v float64, labels ...string) { to(total{labels: labels, value: v}) }

func (to sink) histogram(h *Histogram, labels ...string) { to(total{labels: labels, histogram: h}) }
