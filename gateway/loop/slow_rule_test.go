package loop

import "testing"

func TestFirstSlowRuleThatFitsHolds(t *testing.T) {
	t.Parallel()
	rules := SlowRules{{"a*", false}, {"*", true}, {"b", false}}
	if rules.Skip("ab") || !rules.Skip("b") {
		t.Error("the first rule whose pattern fits is not the one that holds")
	}
	if rules[:1].Skip("b") {
		t.Error("without a rule that fits, slow subscribers skip")
	}
}
