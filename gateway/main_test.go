package gateway

import (
	"os"
	"testing"

	"sluice/gateway/clienttest"
)

// TestMain fails when a goroutine or a descriptor is left over.
func TestMain(m *testing.M) { os.Exit(clienttest.RunTests(m)) }
