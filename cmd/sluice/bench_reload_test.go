package main

import (
	"encoding/json"
	"testing"

	"sluice/bench"
)

func TestBenchReloadLosesNothing(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runOnce(nil, "bench", "reload", "--json", "--program", path, "--catch-up", "30s", "--loops", "1", "--connections", "20", "--subscriptions", "3", "--rate", "100", "--reloads", "3", "--every", "200ms")
	var r bench.Result
	if err := json.Unmarshal([]byte(stdout), &r); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v: %s\n%s", code, err, stderr, stdout)
	}
	for name, want := range map[string]float64{"connections": 20, "subscriptions": 60, "reloads": 3, "disconnected": 0, "ended": 0, "lost": 0, "repeated": 0, "holes": 0} {
		if got, ok := r.Metrics[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"took_p50", "took_max", "answered_max", "published", "delivered"} {
		if r.Metrics[name] <= 0 {
			t.Errorf("%s is %v", name, r.Metrics[name])
		}
	}
}
