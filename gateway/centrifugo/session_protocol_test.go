package centrifugo

import (
	"testing"

	"sluice/gateway/engine"
)

func TestEveryPublishFaultHasAnErrorOfTheProtocol(t *testing.T) {
	for i, e := range publishErrors {
		f := engine.Fault(i)
		if later := f == engine.RateReached || f == engine.PushedBack || f == engine.Unavailable || f == engine.Away || f == engine.Unpublished; e == nil || later != e.Temporary {
			t.Errorf("%v: %+v", f, e)
		}
	}
}
