package top

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/doctor"
)

// state returns the line about the present state.
func (v view) state(earlier view) string {
	f := v.figures
	return fmt.Sprintf("connections %s  blocked %s  buffered %s  dropped %s  loop lag %s",
		f.open(), count(f.blocked), cli.AboutSize(int(f.held)), count(f.dropped),
		aboutDuration(v.lag(earlier)))
}

// open returns how many connections there are and, while the gateway shuts down, how far that has come.
func (f figures) open() string {
	switch {
	case f.draining == 0:
		return count(f.connections)
	case f.total == 0:
		return count(f.connections) + " (draining)"
	}
	return fmt.Sprintf("%s of %s (draining, %s closing)", count(f.connections), count(f.total), count(f.closing))
}

// flow returns the line about traffic in a period.
func (f figures) flow(since string) string {
	return fmt.Sprintf("%s: received %s  published %s  delivered %s  sent %s",
		since, count(f.received), count(f.published), count(f.delivered), cli.AboutSize(int(f.sent)))
}

// totals returns the head of a table that is printed once.
func (v view) totals() []string { return []string{v.state(view{}), v.figures.flow("since start")} }

// head returns the head of a table that is refreshed.
func (v view) head(p doctor.Place, earlier view, trouble error) []string {
	flow := "per second: -"
	if rates, ok := v.rates(earlier); ok {
		flow = rates.flow("per second")
	}
	last := "q: quit  sort by p: pending, l: lag, a: age, i: ID"
	if trouble != nil {
		why, _ := strings.CutPrefix(trouble.Error(), p.Below(inspectorPath).String()+": ") // the first line names the place
		last = "stale: " + cli.Cell(why)
	}
	return []string{fmt.Sprintf("sluice top  %s  %s", cli.Cell(p.String()), v.at.Format(time.TimeOnly)), v.state(earlier), flow, last}
}

// headLines is the number of lines on a screen above the connections: the head, an empty
// line and the columns' names.
const headLines = 6

// The widest columns before their text is cut.
const (
	addressMax  = 47 // an IPv6 address with its port
	channelsMax = 40
)

// table returns the columns' names and a line for each connection. mark marks the column
// that the table is sorted by.
func (v view) table(mark bool) []string {
	rows := [][]string{{"ID", "PENDING", "AGE", "LAG", "RTT", "STATE", "ADDRESS", "CHANNELS", "KIND", "LOOP"}}
	if mark {
		for i, name := range rows[0] {
			if strings.EqualFold(name, v.sort) {
				rows[0][i] = "*" + name
			}
		}
	}
	for _, c := range v.connections.Connections {
		kind := c.Protocol
		if c.Format != "" && c.Format != "raw" {
			kind += "/" + c.Format
		}
		if c.Compression != "" {
			kind += "/" + strings.TrimPrefix(c.Compression, "permessage-") // deflate, or gzip
		}
		if c.TLS {
			kind += "/tls"
		}
		rows = append(rows, []string{
			c.ID, cli.AboutSize(c.Pending), aboutDuration(time.Duration(c.UnsentAge) * time.Millisecond), cli.FormatCount(c.Lag),
			aboutDuration(time.Duration(c.RTT) * time.Microsecond), c.State, short(c.Address, addressMax),
			short(strings.Join(c.Channels, ","), channelsMax), kind, fmt.Sprint(c.Loop),
		})
	}
	lines := align(rows, map[int]bool{0: true, 1: true, 2: true, 3: true, 4: true})
	if hidden := v.connections.Total - len(v.connections.Connections); hidden > 0 && !mark {
		lines = append(lines, fmt.Sprintf("and %s more", cli.FormatCount(hidden)))
	}
	return lines
}

// align pads cells into columns; right are those that are right-aligned.
func align(rows [][]string, right map[int]bool) []string {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, s := range row {
			if row[i] = cli.Cell(s); row[i] == "" {
				row[i] = "-"
			}
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
		}
	}
	lines := make([]string, len(rows))
	for n, row := range rows {
		var b strings.Builder
		for i, s := range row {
			if right[i] {
				fmt.Fprintf(&b, "%*s  ", width[i], s)
			} else {
				fmt.Fprintf(&b, "%-*s  ", width[i], s)
			}
		}
		lines[n] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// short is cell with another limit.
func short(s string, n int) string {
	s = cli.Cell(s)
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-3]) + "..."
	}
	return s
}

func count(f float64) string { return cli.FormatCount(int(f + 0.5)) }

// aboutDuration formats a duration with about three digits, and 0 as "-".
func aboutDuration(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%dus", max(d.Microseconds(), 1))
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return cli.FormatDuration(d.Round(time.Second))
}
