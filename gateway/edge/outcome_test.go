package edge

import (
	"regexp"
	"testing"

	"sluice/gateway/edge/admit"
	"sluice/gateway/route"
)

// An outcome without a label would be a counter that no operator sees.
func TestEveryOutcomeHasItsLabel(t *testing.T) {
	label := regexp.MustCompile(`^[a-z][a-z_0-9]*$`)
	seen := map[string]bool{}
	for _, o := range route.Outcomes() {
		if o == 0 || seen[o.String()] || !label.MatchString(o.String()) {
			t.Errorf("outcome %d is labelled %q", o, o)
		}
		seen[o.String()] = true
	}
	for _, r := range route.Rejects() {
		if r.Reason == 0 || r.Status < 400 || r.Text == "" {
			t.Errorf("a refusal has the status %d, the label %q and the text %q", r.Status, r.Reason, r.Text)
		}
	}
	if len(seen) < 70 {
		t.Errorf("%d outcomes, which were more", len(seen))
	}
}

func TestEveryVerdictHasItsAnswer(t *testing.T) {
	for v := admit.Admitted + 1; v.String() != admit.Admitted.String(); v++ {
		reason := v.Reason()
		if int(reason) >= len(addressRejects) || addressRejects[reason] == nil {
			t.Errorf("no answer to %v", v)
		} else if got := addressRejects[reason].Reason.String(); got != v.String() {
			t.Errorf("%v is answered and counted as %s", v, got)
		}
	}
}
