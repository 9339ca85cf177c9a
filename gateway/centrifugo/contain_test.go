package centrifugo

import (
	"testing"

	"sluice/gateway/clienttest"
)

// What is listed by name must exist, or a panic costs one connection that may cost the process.
func TestFunctionsListedForPanicsExist(t *testing.T) { clienttest.WantFunctions(t, sharing[:]...) }
