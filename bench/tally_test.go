package bench

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fate is what a tally says about one connection.
type fate struct{ Delivered, Lost, Repeated, Reordered int64 }

func tallyOf(published int, got ...uint32) fate {
	t := newTally(phase{mark: 1, streams: 1, count: published}, 1)
	for _, seq := range got {
		t.deliver(0, 0, stamp{seq: seq}, 0)
	}
	return fate{t.delivered, t.lost(0, []uint32{uint32(published)}), t.repeated, t.reordered}
}

func TestTallyCountsEveryFault(t *testing.T) {
	for _, tc := range []struct {
		name string
		got  []uint32
		want fate
	}{
		{"nothing came", nil, fate{Lost: 5}},
		{"all in order", []uint32{0, 1, 2, 3, 4}, fate{Delivered: 5}},
		{"the first is lost", []uint32{1, 2, 3, 4}, fate{Delivered: 4, Lost: 1}},
		{"one is lost", []uint32{0, 1, 3, 4}, fate{Delivered: 4, Lost: 1}},
		{"the last two are lost", []uint32{0, 1, 2}, fate{Delivered: 3, Lost: 2}},
		{"one is repeated", []uint32{0, 1, 1, 2, 3, 4}, fate{Delivered: 5, Repeated: 1}},
		{"an old one is repeated", []uint32{0, 1, 2, 3, 4, 0}, fate{Delivered: 5, Repeated: 1}},
		{"two are swapped", []uint32{0, 2, 1, 3, 4}, fate{Delivered: 5, Reordered: 1}},
		{"one comes late and again", []uint32{0, 2, 3, 1, 1, 4}, fate{Delivered: 5, Reordered: 1, Repeated: 1}},
		{"backwards", []uint32{4, 3, 2, 1, 0}, fate{Delivered: 5, Reordered: 4}},
		{"one out of the middle of a gap", []uint32{4, 2}, fate{Delivered: 2, Lost: 3, Reordered: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tallyOf(5, tc.got...)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// TestTallyAgreesWithTheDumbOne checks the spans against a set of numbers.
func TestTallyAgreesWithTheDumbOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		published := 1 + rng.IntN(20)
		var (
			got  []uint32
			want fate
			seen = map[uint32]bool{}
			high = -1
		)
		for range rng.IntN(40) {
			seq := uint32(rng.IntN(published))
			got = append(got, seq)
			switch {
			case seen[seq]:
				want.Repeated++
			case int(seq) < high:
				want.Reordered++
				want.Delivered++
			default:
				want.Delivered++
			}
			seen[seq] = true
			high = max(high, int(seq))
		}
		want.Lost = int64(published - len(seen))
		if diff := cmp.Diff(want, tallyOf(published, got...)); diff != "" {
			t.Fatalf("%d published, got %v: want -, got +:\n%s", published, got, diff)
		}
	}
}

func TestTallyKeepsStreamsAndConnectionsApart(t *testing.T) {
	a := newTally(phase{mark: 1, streams: 2, count: 4}, 2)
	a.deliver(0, 0, stamp{stream: 0, seq: 0}, 0)
	a.deliver(0, 0, stamp{stream: 1, seq: 0}, 0)
	a.deliver(1, 0, stamp{stream: 1, seq: 1}, 0)
	a.deliver(1, 0, stamp{stream: 2, seq: 0}, 0) // no such stream
	a.deliver(1, 0, stamp{stream: 0, seq: 2}, 0) // no such number
	published := []uint32{2, 2}
	got := []int64{a.delivered, a.lost(0, published), a.lost(1, published), a.foreign}
	if diff := cmp.Diff([]int64{3, 2, 3, 2}, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestLatencyIsFromTheScheduledTime(t *testing.T) {
	a := newTally(phase{mark: 1, streams: 1, count: 3}, 1)
	a.deliver(0, 0, stamp{seq: 0, scheduled: 1e6}, 3e6)
	a.deliver(0, 0, stamp{seq: 1, scheduled: 1e6}, 3e6)
	a.deliver(0, 0, stamp{seq: 2, scheduled: 2e6}, 12e6)
	a.flush()
	if got := a.latency.ValueAtPercentile(50); got != 2000 {
		t.Errorf("p50 is %d us, want 2000", got)
	}
	if got, n := a.latency.Max(), a.latency.TotalCount(); n != 3 || got < 10_000 || got > 10_010 {
		t.Errorf("max of %d is %d us, want about 10000 of 3", n, got)
	}
}
