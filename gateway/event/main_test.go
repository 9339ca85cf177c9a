package event

import (
	"testing"

	"sluice/poller/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
