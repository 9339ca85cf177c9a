package handshake

import "testing"

func TestOutcomesWithOneLabelAreOne(t *testing.T) {
	if got := NewOutcome(rejectHTTP10.Reason.String()); got != rejectHTTPVersion.Reason {
		t.Errorf("http_version is both %d and %d", got, rejectHTTPVersion.Reason)
	}
	all := Outcomes()
	for i, o := range all {
		if int(o) != i+1 || o.String() == "" {
			t.Errorf("outcome %d of %d is %d, labelled %q", i, len(all), o, o)
		}
	}
	if Outcome(0).String() != "" {
		t.Errorf("the zero Outcome is %q", Outcome(0))
	}
}
