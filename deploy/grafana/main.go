// Command grafana writes sluice.json, the dashboard for Grafana, from the table in rows.go:
//
//	cd deploy/grafana && go run .
//
// It is a module of its own so that Grafana's types, which decide what a dashboard can contain, are
// no dependency of the gateway.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	statpanel "github.com/grafana/grafana-foundation-sdk/go/stat"
	tablepanel "github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

const file = "sluice.json"

func main() {
	text, err := build()
	if err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// source is the data source that a reader chooses at the top of the dashboard.
var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

// build returns the dashboard as JSON.
func build() ([]byte, error) {
	//lint:ignore SA1019 All versions of Grafana read the classic schema; before 13, only few read the newer one.
	d := dashboard.NewDashboardBuilder("sluice").
		Uid("sluice").
		Description("Connections, delivery, slow clients and recovery of sluice gateways.").
		Tags([]string{"sluice"}).
		Time("now-1h", "now").
		Refresh("30s").
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
		WithVariable(choice("job", "Job", `label_values(sluice_build_info, job)`)).
		WithVariable(choice("instance", "Instance", `label_values(sluice_build_info{job=~"$job"}, instance)`)).
		Annotation(dashboard.NewAnnotationQueryBuilder().Name("Restarts").Datasource(source).Enable(true).IconColor("orange").
			Expr(promQL(`process_start_time_seconds{HERE} * 1000`)).UseValueForTime(true).TitleFormat("Restart").TextFormat("{{instance}}"))
	id := uint32(0)
	next := func() uint32 { id++; return id }
	for _, r := range rows {
		heading := dashboard.NewRowBuilder(r.title).Id(next()).Collapsed(r.collapsed)
		var panels []cog.Builder[dashboard.Panel]
		for _, p := range r.panels {
			panels = append(panels, p.builder(next()))
		}
		if r.collapsed { // a collapsed row holds its panels, an open one precedes them
			for _, p := range panels {
				heading.WithPanel(p)
			}
			panels = nil
		}
		d.WithRow(heading)
		for _, p := range panels {
			d.WithPanel(p)
		}
	}
	built, err := d.Build()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(built, "", "  ")
	return append(text, '\n'), err
}

// choice is a variable whose values are those of a label.
func choice(name, label, values string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(label).Datasource(source).
		Query(dashboard.StringOrMap{Map: map[string]any{"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"}}).
		Definition(values).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortNaturalAsc).
		Multi(true).IncludeAll(true).
		Current(dashboard.VariableOption{
			Selected: cog.ToPtr(true),
			Text:     dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
			Value:    dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
		})
}

// promQL returns a query as Grafana sends it.
func promQL(expr string) string {
	return strings.NewReplacer("HERE", `job=~"$job", instance=~"$instance"`, "RATE", "$__rate_interval").Replace(expr)
}

// targets are the panel's queries.
func (p panel) targets() (targets []cog.Builder[variants.Dataquery]) {
	for i, q := range p.queries {
		t := prometheus.NewDataqueryBuilder().RefId(string(rune('A' + i))).Datasource(source).EditorMode(prometheus.QueryEditorModeCode).
			Expr(promQL(q.expr)).LegendFormat(q.legend)
		switch p.form {
		case table:
			t.Instant().Format(prometheus.PromQueryFormatTable)
		case heatMap:
			t.Range().Format(prometheus.PromQueryFormatHeatmap)
		default:
			t.Range()
		}
		targets = append(targets, t)
	}
	return targets
}

// builder returns the panel in the form of its kind.
func (p panel) builder(id uint32) cog.Builder[dashboard.Panel] {
	switch p.form {
	case stat:
		return statpanel.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Datasource(source).Span(p.width).Height(p.height).
			Unit(p.unit).Targets(p.targets()).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
			GraphMode(common.BigValueGraphModeArea).ColorMode(common.BigValueColorModeNone).Orientation(common.VizOrientationAuto)
	case heatMap:
		return heatmap.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Datasource(source).Span(p.width).Height(p.height).
			Targets(p.targets()).
			YAxis(heatmap.NewYAxisConfigBuilder().Unit(p.unit)).
			Color(heatmap.NewHeatmapColorOptionsBuilder().Mode(heatmap.HeatmapColorModeScheme).Scheme("Blues").Fill("dark-blue").Exponent(0.5).Steps(64)).
			Tooltip(heatmap.NewHeatmapTooltipBuilder().Mode(common.TooltipDisplayModeSingle)).
			CellGap(1)
	case table:
		return p.table(id)
	}
	b := timeseries.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Datasource(source).Span(p.width).Height(p.height).
		Unit(p.unit).Min(0).Targets(p.targets()).
		LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending)).
		OverrideByRegexp("/limit$/", []dashboard.DynamicConfigValue{
			{Id: "custom.lineStyle", Value: map[string]any{"fill": "dash", "dash": []int{8, 8}}},
			{Id: "custom.fillOpacity", Value: 0},
		})
	if p.stacked {
		b.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A")).FillOpacity(40)
	}
	return b
}

// table returns a panel with a line for each node, and a column for each query: the value of a
// query that is not a label of the first.
func (p panel) table(id uint32) cog.Builder[dashboard.Panel] {
	first := "Value #A" // the first query is there for its labels
	hidden := map[string]bool{"Time": true, first: true}
	order := map[string]int{"instance": 0, "job": 1, "version": 2, "commit": 3}
	names := map[string]string{"instance": "Instance", "job": "Job", "version": "Version", "commit": "Commit"}
	for i, q := range p.queries[1:] {
		column := "Value #" + string(rune('B'+i))
		order[column], names[column] = len(order), q.legend
	}
	b := tablepanel.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Datasource(source).Span(p.width).Height(p.height).
		Unit(p.unit).Targets(p.targets()).
		Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{"sum"})).
		WithTransformation(dashboard.DataTransformerConfig{Id: "merge", Options: map[string]any{}}).
		WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{"excludeByName": hidden, "indexByName": order, "renameByName": names}})
	for _, o := range [][2]string{
		{"Uptime", units.Seconds}, {"Deliveries", units.CountsPerSecond}, {"Delivery p99", units.Seconds}, {"Memory", units.BytesIEC},
	} {
		b.OverrideByName(o[0], []dashboard.DynamicConfigValue{{Id: "unit", Value: o[1]}})
	}
	return b
}
