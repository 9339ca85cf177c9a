package channel

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestBusiestChannelsAreFoundAmongAll(t *testing.T) {
	const most = 500
	s := NewSpace(ringBytesMin, most, NewBudget(1<<24))
	now := int64(1_000_000)
	s.KeepHistory(History{Of: func(string) Keep { return Keep{Count: 1, TTL: 1e9} }, Budget: NewBudget(1 << 24)}, now)
	round := func() {
		for range trimPart {
			now += 1000
			s.Trim(now)
		}
	}
	publish := func(name string, n int) {
		for range n {
			if _, err := s.Find(name).Publish(&Publication{}, new(Scratch), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range most {
		name := fmt.Sprint("c", i)
		if _, err := s.Open(name); err != nil {
			t.Fatal(err)
		}
		for range i % 7 {
			s.Find(name).Joined()
		}
	}
	round()
	publish("c3", 16)
	publish("c400", 80)
	if b, ok := s.Look("c400"); b.Rate != 0 || !ok {
		t.Errorf("before a round: %+v, %t", b, ok)
	}
	round()
	byRate := func(a, b Busy) int { return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(a.Name, b.Name)) }
	got, all := s.Busiest(3, byRate)
	want := []Busy{{"c400", 400 % 7, 10}, {"c3", 3, 2}, {"c0", 0, 0}}
	if diff := gocmp.Diff(want, got); diff != "" || all != most {
		t.Errorf("of %d channels (-want +got):\n%s", all, diff)
	}
	bySubscribers := func(a, b Busy) int {
		return cmp.Or(cmp.Compare(b.Subscribers, a.Subscribers), cmp.Compare(a.Name, b.Name))
	}
	everything, _ := s.Busiest(most+1, bySubscribers)
	for _, limit := range []int{1, 10, 499} {
		if got, _ := s.Busiest(limit, bySubscribers); !slices.Equal(got, everything[:limit]) {
			t.Errorf("the first %d are not those of all", limit)
		}
	}
	if len(everything) != most || everything[0].Subscribers != 6 || everything[most-1].Subscribers != 0 {
		t.Errorf("%d channels, from %+v to %+v", len(everything), everything[0], everything[len(everything)-1])
	}
	round()
	if b, _ := s.Look("c400"); b.Rate != 0 {
		t.Errorf("after a quiet round: %+v", b)
	}
	if _, ok := s.Look("nobody's"); ok {
		t.Error("a channel that does not exist")
	}
	if got, all := s.Busiest(0, byRate); len(got) != 0 || all != most {
		t.Errorf("none asked for: %v of %d", got, all)
	}
}
