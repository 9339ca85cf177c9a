package child

import (
	"io"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics are metrics by their names.
type Metrics map[string]*dto.MetricFamily

// ReadMetrics reads Prometheus's text format.
func ReadMetrics(r io.Reader) (Metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(r)
}

// Sum returns the sum of a counter or gauge over the series that have a label with this value, or
// over all series if the label's name is empty. Without any, it is 0.
func (m Metrics) Sum(name, label, value string) (sum float64) {
	for _, series := range m[name].GetMetric() {
		has := label == ""
		for _, l := range series.GetLabel() {
			has = has || l.GetName() == label && l.GetValue() == value
		}
		if has {
			sum += valueOf(series)
		}
	}
	return sum
}

func valueOf(series *dto.Metric) float64 {
	return series.GetCounter().GetValue() + series.GetGauge().GetValue() + series.GetUntyped().GetValue()
}
