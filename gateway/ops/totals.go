package ops

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"sluice/gateway/saved"
)

// total is a value of a metric, or a histogram.
type total struct {
	labels    []string
	value     float64
	histogram *Histogram
}

// Totals are what the counters and histograms of the processes before this one have reached: after an upgrade they go on,
// and do not begin at 0. The zero Totals has none.
type Totals struct {
	values map[string]map[string]total // by the name of the metric, and its labels as one text
}

// textOf returns labels as one text.
func textOf(labels []string) string { return strings.Join(labels, "\x00") }

// each calls put for each value of a metric, with what the processes before this one have counted.
func (m *Metric) each(s *Snapshot, put func(t total)) {
	var before map[string]total
	if s.Before != nil {
		before = s.Before.values[m.Name]
	}
	seen := make(map[string]bool, len(before))
	m.collect(s, func(now total) {
		text := textOf(now.labels)
		seen[text] = true
		put(now.plus(before[text]))
	})
	for text, t := range before {
		// A loop that there is no more would be one that is stuck.
		if !seen[text] && !slices.Contains(m.Labels, "loop") {
			put(t)
		}
	}
}

// plus returns the sum of two. Histograms of other bounds cannot be added up, and begin anew.
func (t total) plus(before total) total {
	t.value += before.value
	if t.histogram != nil && before.histogram != nil && slices.Equal(t.histogram.Bounds, before.histogram.Bounds) {
		var sum Histogram
		sum.Add(*t.histogram)
		sum.Add(*before.histogram)
		t.histogram = &sum
	}
	return t
}

// totalsVersion is that of AppendTotals.
const totalsVersion = 1

// AppendTotals appends the counters and histograms of a snapshot, for the process that takes over.
func AppendTotals(dst []byte, s *Snapshot) []byte {
	return saved.AppendPart(append(dst, totalsVersion), func(dst []byte) []byte { return appendTotals(dst, s) })
}

func appendTotals(dst []byte, s *Snapshot) []byte {
	for i := range Metrics {
		m := &Metrics[i]
		if m.Type == "gauge" {
			continue
		}
		m.each(s, func(t total) {
			dst = t.append(saved.AppendBytes(dst, m.Name))
		})
	}
	return dst
}

func (t *total) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t.labels)))
	for _, label := range t.labels {
		dst = saved.AppendBytes(dst, label)
	}
	dst = binary.AppendUvarint(dst, math.Float64bits(t.value))
	if t.histogram == nil || len(t.histogram.Counts) == 0 {
		return binary.AppendUvarint(dst, 0) // no buckets
	}
	dst = binary.AppendUvarint(dst, uint64(len(t.histogram.Counts)))
	for _, n := range t.histogram.Counts {
		dst = binary.AppendUvarint(dst, n)
	}
	for _, bound := range t.histogram.Bounds {
		dst = binary.AppendUvarint(dst, math.Float64bits(bound))
	}
	return binary.AppendUvarint(dst, math.Float64bits(t.histogram.Sum))
}

func readTotal(r *saved.Reader) (t total) {
	for range r.Count() {
		t.labels = append(t.labels, string(r.Bytes()))
	}
	t.value = math.Float64frombits(r.Uint())
	n := r.Count()
	if n == 0 {
		return t
	}
	t.histogram = &Histogram{Bounds: make([]float64, n-1), Counts: make([]uint64, n)}
	for i := range t.histogram.Counts {
		t.histogram.Counts[i] = r.Uint()
	}
	for i := range t.histogram.Bounds {
		t.histogram.Bounds[i] = math.Float64frombits(r.Uint())
	}
	t.histogram.Sum = math.Float64frombits(r.Uint())
	return t
}

// Load takes what AppendTotals has appended. Metrics that this version does not know, or has with other labels, are
// left out.
func (t *Totals) Load(b []byte) error {
	known := make(map[string]*Metric, len(Metrics))
	for i := range Metrics {
		if m := &Metrics[i]; m.Type != "gauge" {
			known[m.Name] = m
		}
	}
	values := make(map[string]map[string]total)
	whole := saved.Read("what was counted", b, totalsVersion)
	r := saved.ReadPart("what was counted", whole.View())
	if err := whole.End(); err != nil {
		return err
	}
	for r.More() {
		name, v := string(r.Bytes()), readTotal(r)
		m := known[name]
		if m == nil || len(m.Labels) != len(v.labels) || (m.Type == "histogram") != (v.histogram != nil) {
			continue
		}
		if values[name] == nil {
			values[name] = make(map[string]total)
		}
		values[name][textOf(v.labels)] = v
	}
	if err := r.End(); err != nil {
		return err
	}
	t.values = values
	return nil
}
