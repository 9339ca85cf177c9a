package centrifugo

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
)

func TestCentrifugoPageHasEveryDisconnect(t *testing.T) {
	table := clienttest.TableRows(t, "README.md")
	has := func(d *protocol.Disconnect, label string) bool {
		return slices.ContainsFunc(table, func(row []string) bool {
			return len(row) == 5 && row[0] == fmt.Sprint(d.Code) && row[1] == d.Reason && strings.Contains(row[2], "`"+label+"`")
		})
	}
	for why, d := range disconnects {
		if label := loop.Reason(why).String(); d != nil && !has(d, label) {
			t.Errorf("README.md has no row with %d, %s and `%s`", d.Code, d.Reason, label)
		}
	}
}
