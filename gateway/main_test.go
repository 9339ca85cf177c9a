package gateway

import (
	"os"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
)

// TestMain fails when a goroutine or a descriptor is left over.
func TestMain(m *testing.M) { os.Exit(clienttest.RunTests(m, natstest.Leaks...)) }
