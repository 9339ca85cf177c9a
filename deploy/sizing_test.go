package deploy_test

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The figures of sizing.md: bytes for each connection, and what the page adds to them.
const (
	gatewayBytes   = 361
	gatewayMiB     = 18
	kernelBytes    = 5 << 10
	stalledBytes   = 33 * 4096
	stalledShare   = 0.02
	bufferedFactor = 1.25
)

// The figures of its section about several nodes.
const (
	channelBytes     = 838
	sharedBytes      = 582 // more
	subscribedBytes  = 670
	storedBytes      = 98
	subscribedAgain  = 125_000 // per second
	beatSeconds      = 0.5
	perGateway       = 200_000
	storedPerChannel = 10
	messageBytes     = 260
)

// mebibytes reads a cell: a number with or without a unit.
func mebibytes(t *testing.T, cell string) float64 {
	t.Helper()
	factor := 1.0
	for unit, f := range map[string]float64{"MiB": 1, "GiB": 1024} {
		if digits, ok := strings.CutSuffix(cell, unit); ok {
			cell, factor = digits, f
		}
	}
	n, err := strconv.Atoi(strings.ReplaceAll(cell, ",", ""))
	if err != nil {
		t.Fatalf("%q is no number", cell)
	}
	return float64(n) * factor
}

func TestSizingTableFollowsFromItsFigures(t *testing.T) {
	t.Parallel()
	number := func(cell string) float64 { return mebibytes(t, cell) }
	page := shipped(t, "sizing.md")
	for cost, cell := range map[string]float64{"gateway, idle connection": gatewayBytes, "kernel, idle connection": kernelBytes, "kernel, stalled client": stalledBytes} {
		m := regexp.MustCompile(`\| ` + cost + ` \| ([0-9,]+)`).FindStringSubmatch(page)
		if m == nil || number(m[1]) != cell {
			t.Errorf("%s: the page says %q, the table below it is computed with %v", cost, m, cell)
		}
	}
	table := rows(page, 8)
	if len(table) != 5 {
		t.Fatalf("the table has %d rows, want 5", len(table))
	}
	for _, row := range table {
		n, buffered := number(row[0]), number(row[4])
		rest := gatewayMiB + n*gatewayBytes/(1<<20)
		kernel, stalled := n*kernelBytes/(1<<20), n*stalledBytes/(1<<20)
		limit := math.Ceil(rest + bufferedFactor*buffered)
		for _, column := range []struct {
			name string
			got  float64
			want float64
		}{
			{"gateway idle", number(row[2]), math.Round(rest)},
			{"kernel idle", number(row[3]), math.Round(kernel)},
			{"GOMEMLIMIT", number(row[5]), limit},
			{"every client stalled", number(row[6]), math.Round(stalled)},
			{"MemoryMax", number(row[7]), math.Ceil(limit + kernel + stalledShare*stalled)},
		} {
			if column.got != column.want {
				t.Errorf("%s connections, %s: the page says %v MiB, its figures give %v", row[0], column.name, column.got, column.want)
			}
		}
		if descriptors := number(row[1]); descriptors < n+64+3*128+3*16 {
			t.Errorf("%s connections do not fit into LimitNOFILE %v of the page", row[0], descriptors)
		}
	}
}

func TestSheetOfSeveralNodesFollowsFromItsFigures(t *testing.T) {
	t.Parallel()
	page := shipped(t, "sizing.md")
	for figure, value := range map[string]float64{"a channel with one subscription, on its gateway": channelBytes, "the same with NATS servers": sharedBytes,
		"a subscribed channel, on each NATS server": subscribedBytes,
		"a stored publication, on each NATS server": storedBytes, "subscribing again after a server's restart": subscribedAgain} {
		m := regexp.MustCompile(`\| ` + figure + ` \| ([0-9,]+)`).FindStringSubmatch(page)
		if m == nil || mebibytes(t, m[1]) != value {
			t.Errorf("%s: the page says %q, the sheet is computed with %v", figure, m, value)
		}
	}
	sheet := rows(page, 7)
	if len(sheet) != 3 {
		t.Fatalf("the sheet has %d rows, want 3", len(sheet))
	}
	for _, row := range sheet {
		n := mebibytes(t, row[0])
		gateways := n / perGateway
		for i, want := range []float64{
			gateways, n * subscribedBytes / 1e9, n * storedPerChannel * storedBytes / 1e9, n / 3 / subscribedAgain,
			n * messageBytes * 8 / 1e9, gateways * gateways / beatSeconds,
		} {
			// Two digits, and whole numbers.
			got, err := strconv.ParseFloat(strings.ReplaceAll(row[1+i], ",", ""), 64)
			if err != nil || math.Abs(got-want) > 0.5 && math.Abs(got/want-1) > 0.01 || want < 10 && math.Abs(got/want-1) > 0.05 {
				t.Errorf("%s connections, column %d: the page says %s, its figures give %v", row[0], 2+i, row[1+i], want)
			}
		}
	}
	for _, want := range []float64{gatewayMiB + perGateway*(gatewayBytes+channelBytes+sharedBytes)/float64(1<<20), perGateway * kernelBytes / float64(1<<20)} {
		if text := strconv.Itoa(int(math.Round(want))) + " MiB"; !strings.Contains(page, text) {
			t.Errorf("a gateway needs %s, which the page does not say", text)
		}
	}
}

// The unit and the compose file are made for one row of the table, the one with as
// many connections as they allow.
func TestUnitAndComposeFileFitTheirConnections(t *testing.T) {
	t.Parallel()
	unit, conf := shipped(t, unitFile), shipped(t, "systemd/sluice.conf")
	first := func(text, pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("found no %s", pattern)
		}
		return m[1]
	}
	type fit struct{ file, connections, buffered, limit, memory string }
	fits := []fit{{unitFile, first(conf, `max-connections = (\d+)`), first(conf, `max-buffered = (\S+)`),
		first(unit, `GOMEMLIMIT=(\d+)GiB`), first(unit, `MemoryMax=(\d+)G`)}}
	for _, file := range composeFiles {
		text := shipped(t, file)
		fits = append(fits, fit{file, first(text, `MAX_CONNECTIONS: "(\d+)"`), first(text, `MAX_BUFFERED: (\S+)`),
			first(text, `GOMEMLIMIT: (\d+)GiB`), first(text, `mem_limit: (\d+)g`)})
	}
	for _, tt := range fits {
		enough := false
		for _, row := range rows(shipped(t, "sizing.md"), 8) {
			if mebibytes(t, row[0]) == mebibytes(t, tt.connections) && row[4] == tt.buffered {
				enough = 1024*mebibytes(t, tt.limit) >= mebibytes(t, row[5]) &&
					1024*mebibytes(t, tt.memory) >= mebibytes(t, row[7])+1024*mebibytes(t, tt.limit)-mebibytes(t, row[5])
			}
		}
		if !enough {
			t.Errorf("%s: %s GiB, %s of them for Go, do not fit %s connections with %s", tt.file, tt.memory, tt.limit, tt.connections, tt.buffered)
		}
	}
}
