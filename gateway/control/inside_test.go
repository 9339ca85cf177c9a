package control

import (
	"net/http"
	"testing"

	"sluice/gateway/engine"
)

func TestEveryPublishFaultHasAnAnswerOverHTTP(t *testing.T) {
	for f, r := range refusals {
		later := r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable
		if r.Code == "" || r.Status < 400 || http.StatusText(r.Status) == "" || r.Retry != later {
			t.Errorf("%v: %+v", engine.Fault(f), r)
		}
	}
}
