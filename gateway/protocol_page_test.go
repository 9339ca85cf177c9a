package gateway

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"

	"sluice/gateway/edge/handshake"
)

// rows returns the cells of a page's tables.
func rows(t *testing.T, page string) (all [][]string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		all = append(all, cells)
	}
	return all
}

// A client's author finds every way in which a connection ends.
func TestProtocolPageHasEveryCloseCode(t *testing.T) {
	table := rows(t, "PROTOCOL.md")
	for _, r := range reasons {
		if r.code == 0 {
			continue // the client gets no Close frame, or one of the Centrifugo protocol
		}
		code, text, label := fmt.Sprint(int(r.code)), "`"+r.text+"`", "`"+r.label+"`"
		if !slices.ContainsFunc(table, func(row []string) bool {
			return len(row) == 5 && row[0] == code && strings.Contains(row[1], text) && strings.Contains(row[2], label)
		}) {
			t.Errorf("PROTOCOL.md has no row with %s, %s and %s", code, text, label)
		}
	}
}

func TestCentrifugoPageHasEveryDisconnect(t *testing.T) {
	table := rows(t, "centrifugo/README.md")
	has := func(d *protocol.Disconnect, label string) bool {
		return slices.ContainsFunc(table, func(row []string) bool {
			return len(row) == 5 && row[0] == fmt.Sprint(d.Code) && row[1] == d.Reason && strings.Contains(row[2], "`"+label+"`")
		})
	}
	for why, d := range disconnects {
		if label := reasons[why].label; d != nil && !has(d, label) {
			t.Errorf("centrifugo/README.md has no row with %d, %s and `%s`", d.Code, d.Reason, label)
		}
	}
}

// What the pages call an outcome of a handshake is one.
func TestProtocolPageNamesRefusalsThatExist(t *testing.T) {
	var known []string
	for _, r := range handshake.Rejects() {
		known = append(known, r.Reason.String())
	}
	named := regexp.MustCompile("`([a-z_]+)`")
	found := 0
	for _, row := range rows(t, "PROTOCOL.md") {
		if len(row) != 4 || !regexp.MustCompile(`^[45]\d\d\b`).MatchString(row[0]) {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(row[1], -1) {
			if found++; !slices.Contains(known, m[1]) {
				t.Errorf("PROTOCOL.md names the refusal %s, which there is not", m[1])
			}
		}
	}
	if found < 15 {
		t.Errorf("found %d refusals in PROTOCOL.md", found)
	}
}
