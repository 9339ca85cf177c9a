package gateway

import (
	"testing"
	"time"

	"sluice/gateway/hook"
	"sluice/gateway/hook/queue"
	"sluice/gateway/ops"

	"github.com/google/go-cmp/cmp"
)

func TestSnapshotOfHooks(t *testing.T) {
	t.Parallel()
	for _, set := range []*hook.Set{nil, new(hook.Set)} {
		if got := snapshotHooks(set); got != nil {
			t.Errorf("%v: %+v", set, got)
		}
	}
	stat := hook.Stat{Event: "connect", Name: "rooms", Timeout: 1500 * time.Millisecond, Hits: 4, Calls: queue.Stats{InFlight: 1, Queued: 2, Open: true, Opened: 3}}
	stat.Calls.Outcomes[queue.Timeout], stat.Calls.Outcomes[queue.OK] = 5, 6
	stat.Calls.Durations.Counts[0], stat.Calls.Durations.Sum = 7, 250*time.Millisecond
	stat.Calls.Waits.Counts[len(queue.Bounds)], stat.Calls.Waits.Sum = 8, time.Minute
	got := snapshotHooks(&hook.Set{Stats: func() []hook.Stat { return []hook.Stat{stat} }})
	want := ops.Hook{Event: "connect", Name: "rooms", Timeout: 1.5, InFlight: 1, Queued: 2, Open: true, Opened: 3, Hits: 4}
	want.Calls.Bounds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
	want.Waits.Bounds = want.Calls.Bounds
	want.Calls.Counts, want.Calls.Sum = make([]uint64, 14), 0.25
	want.Waits.Counts, want.Waits.Sum = make([]uint64, 14), 60
	want.Calls.Counts[0], want.Waits.Counts[13] = 7, 8
	want.Outcomes = map[string]uint64{"ok": 6, "error": 0, "disconnect": 0, "timeout": 5, "refused": 0, "status": 0, "decode": 0, "request": 0, "failed": 0,
		"canceled": 0, "overload": 0, "breaker": 0}
	if diff := cmp.Diff([]ops.Hook{want}, got); diff != "" {
		t.Error(diff)
	}
}
