package nats

import (
	"os"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
)

func TestMain(m *testing.M) { os.Exit(clienttest.RunTests(m, natstest.Leaks...)) }
