package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/gateway/ops"
)

const metricsHead = `# Metrics

<!-- Written by 'go test ./cmd/sluice -run TestMetricsPage -update' from the table in gateway/ops/table.go. -->

Every metric of ` + "`/metrics`" + ` on the internal listener. [OPERATIONS.md](OPERATIONS.md#metrics) says how to scrape them, and has a dashboard
and alerts. Names, types, labels and the values of labels are [stable](STABILITY.md).

- Counters start at zero with the process, and go on after an [upgrade](OPERATIONS.md#upgrading-without-closing-connections).
- ` + "`loop`" + ` is the number of an event loop, from 0. Sum over it, except for metrics about the loops themselves.
- ` + "`namespace`" + ` is the name of a namespace in the ` + "`--namespaces`" + ` file. For channels without a namespace, it is empty, which Prometheus
  treats as a missing label. There are no labels for channels, clients or addresses, so the number of series is bounded.
- All histograms have the same buckets, from 50 µs to 10 s, except those of hooks: from 1 ms to 10 s.
- There are also ` + "`go_...` and `process_...`" + `, which come from Prometheus's library for Go and can change with it.

## Delivery latency

` + "`sluice_delivery_latency_seconds`" + ` is measured inside the gateway, once for each pass over a channel's subscribers on an event loop,
and says nothing about the network:

- It begins when a publication is accepted into its channel, behind everything before it. A wait for room in the channel
  (` + "`sluice_push_backs_total`" + `) comes before that.
- It ends with the last write to a subscriber on that loop. A fast channel sends several publications in one write: then the oldest
  counts, once. ` + "`--batch-window`" + ` is part of it.
- A subscriber whose send buffer is full does not count, because its client reads too slowly: see ` + "`sluice_blocked_connections`" + `. Neither does
  one that still catches up from the history.
- If more is pending than one pass sends (64 KiB for each subscriber), it ends when all that was pending at its beginning is written.
`

// metricsPage returns the reference of all metrics.
func metricsPage() string {
	var b strings.Builder
	b.WriteString(metricsHead)
	group := ""
	for i := range ops.Metrics {
		m := &ops.Metrics[i]
		if m.Group != group {
			group = m.Group
			fmt.Fprintf(&b, "\n## %s\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n", group)
		}
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, labels, m.Help)
	}
	return b.String()
}

func TestMetricsPage(t *testing.T) {
	file := filepath.Join("..", "..", "deploy", "METRICS.md")
	want := metricsPage()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what the table says: go test ./cmd/sluice -run TestMetricsPage -update (%v)", file, err)
	}
}
