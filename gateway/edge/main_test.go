package edge

import (
	"os"
	"testing"

	"sluice/gateway/clienttest"
)

// TestMain fails when a goroutine or a descriptor is left over. As the child of
// TestNoDescriptorLeft it is a server instead.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(serveWithFewDescriptors())
	}
	os.Exit(clienttest.RunTests(m))
}
