package centrifugo

import (
	"errors"
	"testing"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/loop"
)

// A verdict that comes when its command is over resumes nobody: the connection may wait for another one by then.
func TestAVerdictIsForOneCommand(t *testing.T) {
	for what, end := range map[string]func(x *verdict){
		"resumed":   func(x *verdict) { x.Resume(nil) },
		"late":      func(x *verdict) { x.Late(nil) },
		"cancelled": (*verdict).Cancel,
	} {
		var errs []error
		x := &verdict{c: new(loop.Conn), then: func(v *access.Verification) loop.Wait {
			errs = append(errs, v.Err)
			return nil
		}}
		if end(x); x.c != nil {
			t.Errorf("%s: it would resume the connection", what)
		}
		if x.Deliver(nil); what == "late" && (len(errs) != 1 || !errors.Is(errs[0], auth.ErrUnavailable)) {
			t.Errorf("%s: its command had %v", what, errs)
		}
	}
}
