package ops

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStormIsOverWhenItIsCalm(t *testing.T) {
	var w storm
	var churn uint64
	step := func(more uint64) string {
		churn += more
		return fmt.Sprint(more, w.over(churn))
	}
	var got []string
	for _, more := range []uint64{100, 0, 0, 0, 300, 101, 21, 0, 20, 20, 0, 0, 600, 0, 0, 30, 0, 0, 0} {
		got = append(got, step(more))
	}
	want := []string{
		"100 false", "0 false", "0 false", "0 false", // calm, but there was too little
		"300 false", "101 false", "21 false", "0 false", "20 false", "20 true", "0 false", "0 false",
		"600 false", "0 false", "0 false", "30 false", "0 false", "0 false", "0 true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("comings and whether the storm is over (-want +got):\n%s", diff)
	}
}
