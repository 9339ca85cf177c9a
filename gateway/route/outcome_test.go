package route

import "testing"

func TestOutcomesWithOneLabelAreOne(t *testing.T) {
	if first, second := NewOutcome("one"), NewOutcome("one"); first != second {
		t.Errorf("one label is both %d and %d", first, second)
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
