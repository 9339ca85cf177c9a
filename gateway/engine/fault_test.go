package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/setting"
)

func TestFaults(t *testing.T) {
	for f := range FaultCount {
		if f.Text() == "" || strings.Contains(f.Text(), "gateway: ") {
			t.Errorf("fault %d has the text %q", f, f.Text())
		}
		if want := "gateway: " + setting.Names(nil).Text(f.Text()); f.Error() != want {
			t.Errorf("got %v, want %s", f, want)
		}
		if got := FaultOf(fmt.Errorf("wrapped: %w", f)); got != f {
			t.Errorf("%v is taken for %v", f, got)
		}
	}
	for err, want := range map[error]Fault{channel.ErrTooBig: Unfit, ErrUnavailable: Unavailable, ErrAway: Away, errors.New("an engine's"): Unpublished} {
		if got := FaultOf(err); got != want {
			t.Errorf("%v is taken for %v", err, got)
		}
	}
	if upper := setting.Names(strings.ToUpper).ErrorText(TooBig); upper != "gateway: message is larger than MAXMESSAGE" {
		t.Errorf("with names of settings: %s", upper)
	}
}
