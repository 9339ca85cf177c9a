package nats

import (
	"testing"

	"sluice/gateway/engine/nats/natstest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, natstest.Leaks...) }
