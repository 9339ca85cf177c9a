package nats

import (
	"flag"
	"os"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
)

// Tests that run in parallel mostly wait, but each has servers, which compute: with too many of them a busy
// machine is too late for what nodes and servers expect of each other, above all under the race detector.
func TestMain(m *testing.M) {
	parallel := "8"
	if clienttest.RaceEnabled {
		parallel = "3"
	}
	flag.Set("test.parallel", parallel) // ignored: it is a number; the command line comes later
	os.Exit(clienttest.RunTests(m, natstest.Leaks...))
}
