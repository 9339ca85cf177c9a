package gateway

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
	"sluice/gateway/route"
)

// A client's author finds every way in which a connection ends.
func TestProtocolPageHasEveryCloseCode(t *testing.T) {
	table := clienttest.TableRows(t, "PROTOCOL.md")
	for r := loop.ReasonNone; r < loop.ReasonCount; r++ {
		c, close := r.CloseText()
		if c == 0 {
			continue // the client gets no Close frame, or one of the Centrifugo protocol
		}
		code, text, label := fmt.Sprint(int(c)), "`"+close+"`", "`"+r.String()+"`"
		if !slices.ContainsFunc(table, func(row []string) bool {
			return len(row) == 5 && row[0] == code && strings.Contains(row[1], text) && strings.Contains(row[2], label)
		}) {
			t.Errorf("PROTOCOL.md has no row with %s, %s and %s", code, text, label)
		}
	}
}

// What the pages call an outcome of a handshake is one.
func TestProtocolPageNamesRefusalsThatExist(t *testing.T) {
	var known []string
	for _, r := range route.Rejects() {
		known = append(known, r.Reason.String())
	}
	named := regexp.MustCompile("`([a-z_]+)`")
	found := 0
	for _, row := range clienttest.TableRows(t, "PROTOCOL.md") {
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
