package bench

import (
	"cmp"
	"encoding/json"
	commandline "flag" // flag is a unit here
	"fmt"
	"html"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The tables of README.md and its chart, in light and dark, are made from figures.json, so
// that they cannot disagree. To make them again:
//
//	go test ./bench -run TestFiguresOnThePage -update

var update = commandline.Bool("update", false, "write README.md's tables and chart again")

// published is figures.json.
type published struct {
	Tables []struct {
		ID   string
		Rows []publishedRow
	}
	Rivals struct {
		Servers []string
		Rows    []rivalRow
	}
}

// publishedRow is one line of a table.
type publishedRow struct {
	ID     string // where the chart shows it
	What   string
	Value  json.Number // the median
	Low    json.Number // of the rounds; empty with one round
	High   json.Number
	Unit   string
	Floor  json.Number // what bare send() calls took in the same rounds; empty: nothing to compare with
	Old    bool        // measured with an earlier build
	Repeat string      // a scenario of figures.sh, or a command
}

// rivalRow is one line of the table of servers: a range, a single number or nothing for each.
type rivalRow struct {
	ID     string
	What   string
	Values [][]json.Number // in the order of Servers
}

func TestFiguresOnThePage(t *testing.T) {
	text, err := os.ReadFile("figures.json")
	if err != nil {
		t.Fatal(err)
	}
	var p published
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"README.md":       p.insertTables(t, string(readme)),
		"chart-light.svg": p.chart(t, light),
		"chart-dark.svg":  p.chart(t, dark),
	}
	for name, want := range want {
		if *update {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, _ := os.ReadFile(name); string(got) != want { // ignored: a missing file differs
			t.Errorf("%s is not what figures.json says: go test ./bench -run TestFiguresOnThePage -update", name)
		}
	}
}

// Every scenario that the tables name is one of figures.sh, and every median lies in its range.
func TestFiguresCanBeRepeated(t *testing.T) {
	text, err := os.ReadFile("figures.json")
	if err != nil {
		t.Fatal(err)
	}
	var p published
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("figures.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range p.Tables {
		for _, r := range table.Rows {
			if !strings.Contains(r.Repeat, " ") && !strings.Contains(string(script), "\n"+r.Repeat+"() {") {
				t.Errorf("%s: figures.sh has no scenario %q", r.What, r.Repeat)
			}
			if r.Low != "" && (number(t, r.Low) > number(t, r.Value) || number(t, r.Value) > number(t, r.High)) {
				t.Errorf("%s: %s is not between %s and %s", r.What, r.Value, r.Low, r.High)
			}
		}
	}
}

// insertTables puts the tables where README has their marks.
func (p published) insertTables(t *testing.T, readme string) string {
	tables := map[string]string{"rivals": p.rivalTable()}
	for _, table := range p.Tables {
		var b strings.Builder
		b.WriteString("| | median | range | floor | how to reproduce |\n|---|---|---|---|---|\n")
		for _, r := range table.Rows {
			b.WriteString(r.line())
		}
		tables[table.ID] = b.String()
	}
	marked := regexp.MustCompile(`(?s)(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)`)
	return marked.ReplaceAllStringFunc(readme, func(old string) string {
		m := marked.FindStringSubmatch(old)
		table, ok := tables[m[2]]
		if !ok {
			t.Errorf("README.md wants a table %q, which figures.json does not have", m[2])
		}
		return m[1] + "\n" + table + "\n" + m[3]
	})
}

func (r publishedRow) line() string {
	old := ""
	if r.Old {
		old = " †"
	}
	spread, floor := "one round", ""
	if r.Low != "" {
		spread = fmt.Sprintf("%s–%s", grouped(r.Low), grouped(r.High))
	}
	if r.Floor != "" {
		floor = withUnit(r.Floor, r.Unit)
	}
	return fmt.Sprintf("| %s | %s%s | %s | %s | `%s` |\n", r.What, withUnit(r.Value, r.Unit), old, spread, floor, r.Repeat)
}

func (p published) rivalTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(p.Rivals.Servers, " | "), strings.Repeat("---|", len(p.Rivals.Servers)))
	for _, r := range p.Rivals.Rows {
		fmt.Fprintf(&b, "| %s |", r.What)
		for _, v := range r.Values {
			fmt.Fprintf(&b, " %s |", cmp.Or(spread(v), "–"))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// spread writes a range, or a single number.
func spread(v []json.Number) string {
	var words []string
	for _, n := range v {
		words = append(words, grouped(n))
	}
	return strings.Join(words, "–")
}

func withUnit(n json.Number, unit string) string {
	if unit == "" {
		return grouped(n)
	}
	return grouped(n) + " " + unit
}

// grouped writes 1234567 as 1,234,567.
func grouped(n json.Number) string {
	v, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil {
		return n.String() // it has decimals
	}
	return thousands(float64(v), 0)
}

func number(t *testing.T, n json.Number) float64 {
	t.Helper()
	v, err := n.Float64()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// theme is the colors of a chart.
type theme struct{ text, muted, own, other, floor string }

var (
	light = theme{"#1f2328", "#59636e", "#0969da", "#afb8c1", "#818b98"}
	dark  = theme{"#f0f6fc", "#9198a1", "#4493f8", "#59636e", "#818b98"}
)

// bar is one line of a panel.
type bar struct {
	name, label string
	value       float64
	color       string
}

// panel is one of the chart's diagrams.
type panel struct {
	title, what string
	bars        []bar
}

const (
	chartWidth  = 860
	panelGap    = 40
	panelWidth  = (chartWidth - panelGap) / 2
	nameWidth   = 112
	labelWidth  = 74
	barHeight   = 16
	barStep     = 24
	panelHeader = 52
)

// chart draws four panels: sluice beside other servers, and beside bare send() calls.
func (p published) chart(t *testing.T, th theme) string {
	panels := []panel{
		p.rivalPanel(t, th, "memory", "Memory per idle connection", "KB, 10,000 WebSockets"),
		p.rivalPanel(t, th, "sparse", "CPU per delivery", "µs, 10,000 subscribers, 4 messages/s"),
		p.rivalPanel(t, th, "upgrade", "CPU per new connection", "µs, 15,000 clients connect at once"),
		p.floorPanel(t, th),
	}
	rows := [2]int{}
	for i, panel := range panels {
		rows[i/2] = max(rows[i/2], len(panel.bars))
	}
	second := panelHeader + rows[0]*barStep + 28
	height := second + panelHeader + rows[1]*barStep
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-labelledby="title" font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="13">`+"\n", chartWidth, height, chartWidth, height)
	fmt.Fprint(&b, `<title id="title">Memory and CPU of sluice, of other broadcast servers, and of bare send() calls. Shorter bars are better; the tables have the same numbers.</title>`+"\n")
	for i, panel := range panels {
		panel.draw(&b, th, i%2*(panelWidth+panelGap), i/2*second)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// rivalPanel shows a line of the table of servers, the least first.
func (p published) rivalPanel(t *testing.T, th theme, id, title, what string) panel {
	out := panel{title: title, what: what}
	i := slices.IndexFunc(p.Rivals.Rows, func(r rivalRow) bool { return r.ID == id })
	if i < 0 {
		t.Fatalf("figures.json has no row %q of servers", id)
	}
	for n, v := range p.Rivals.Rows[i].Values {
		if len(v) == 0 {
			continue
		}
		middle := (number(t, v[0]) + number(t, v[len(v)-1])) / 2
		color := th.other
		if n == 0 {
			color = th.own
		}
		out.bars = append(out.bars, bar{p.Rivals.Servers[n], spread(v), middle, color})
	}
	slices.SortStableFunc(out.bars, func(a, b bar) int { return cmp.Compare(a.value, b.value) })
	return out
}

// floorPanel shows what sluice takes beside bare send() calls in the same rounds.
func (p published) floorPanel(t *testing.T, th theme) panel {
	out := panel{title: "CPU per delivery compared with bare send() calls", what: "µs, 10,000 subscribers: 4 messages/s, and a burst of 200"}
	for _, load := range []struct{ id, name string }{{"sparse", "4/s"}, {"burst", "burst"}} {
		for _, table := range p.Tables {
			for _, r := range table.Rows {
				if r.ID == load.id {
					out.bars = append(out.bars,
						bar{"sluice, " + load.name, r.Value.String(), number(t, r.Value), th.own},
						bar{"send(), " + load.name, r.Floor.String(), number(t, r.Floor), th.floor})
				}
			}
		}
	}
	if len(out.bars) != 4 {
		t.Fatalf("figures.json has %d bars for the floor, want 4", len(out.bars))
	}
	return out
}

func (p panel) draw(b *strings.Builder, th theme, x, y int) {
	text := func(x, y int, color, more, s string) {
		fmt.Fprintf(b, `<text x="%d" y="%d" fill="%s"%s>%s</text>`+"\n", x, y, color, more, html.EscapeString(s))
	}
	text(x, y+16, th.text, ` font-weight="600" font-size="14"`, p.title)
	text(x, y+35, th.muted, ` font-size="12"`, p.what)
	longest := 0.0
	for _, bar := range p.bars {
		longest = max(longest, bar.value)
	}
	for i, bar := range p.bars {
		top := y + panelHeader + i*barStep
		weight := ""
		if bar.color == th.own {
			weight = ` font-weight="600"`
		}
		text(x+nameWidth-8, top+13, th.text, ` text-anchor="end"`+weight, bar.name)
		width := max(bar.value/longest*(panelWidth-nameWidth-labelWidth), 2)
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>`+"\n", x+nameWidth, top, width, barHeight, bar.color)
		text(x+nameWidth+int(width)+7, top+13, th.text, weight, bar.label)
	}
}
