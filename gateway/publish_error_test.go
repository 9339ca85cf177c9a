package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/setting"
)

// Whoever publishes gets an answer, whichever error it is.
func TestEveryPublishErrorAnswersEveryPublisher(t *testing.T) {
	for _, e := range []*publishError{errBadChannel, errUnknownChannel, errBadText, errTooBig, errUnfit, errRate, errPushedBack, errUnpublished} {
		if e.text == "" || e.code == "" || http.StatusText(e.status) == "" || e.status < 400 || e.client == nil || e.api == nil && e != errUnpublished {
			t.Errorf("%+v is not whole", e)
		}
		if got := publishErrorOf(fmt.Errorf("wrapped: %w", e)); got != e {
			t.Errorf("%v is taken for %v", e, got)
		}
		later := e.status == http.StatusTooManyRequests || e.status == http.StatusServiceUnavailable
		if e.api != nil && (later != (e.api.RetryAfter > 0) || e.api.Code != e.client.Code) {
			t.Errorf("%s: the API says %+v, HTTP %d, and Centrifugo's protocol %d", e.code, e.api, e.status, e.client.Code)
		}
		if want := "gateway: " + setting.Names(nil).Text(e.text); strings.Contains(e.text, "gateway: ") || e.Error() != want {
			t.Errorf("got %v, want %s", e, want)
		}
	}
	for err, want := range map[error]*publishError{
		ErrBadChannel: errBadChannel, ErrBadText: errBadText, ErrTooBig: errTooBig, ErrPushedBack: errPushedBack, ErrRate: errRate,
		channel.ErrTooBig: errUnfit, errors.New("an engine's"): errUnpublished,
	} {
		if got := publishErrorOf(err); got != want {
			t.Errorf("%v is taken for %v", err, got)
		}
	}
}
