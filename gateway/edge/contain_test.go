package edge

import (
	"slices"
	"testing"

	"sluice/gateway/clienttest"
)

// What is listed by name must exist, or a panic costs one connection that may cost the
// process, or the other way round.
func TestFunctionsListedForPanicsExist(t *testing.T) {
	clienttest.WantFunctions(t, slices.Concat(handshakeSteps[:], handshakeSharing)...)
}
