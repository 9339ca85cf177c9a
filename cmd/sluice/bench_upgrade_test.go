package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/bench"
)

// benchUpgrade runs sluice bench upgrade and returns some of its figures.
func benchUpgrade(t *testing.T, names []string, args ...string) map[string]float64 {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runOnce(nil, append([]string{"bench", "upgrade", "--json", "--program", path, "--catch-up", "30s", "--loops", "1"}, args...)...)
	var r bench.Result
	if err := json.Unmarshal([]byte(stdout), &r); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v: %s\n%s", code, err, stderr, stdout)
	}
	got := make(map[string]float64)
	for _, name := range names {
		if value, ok := r.Metrics[name]; ok {
			got[name] = value
		}
	}
	for _, name := range []string{"freeze_p50", "freeze_max", "published", "delivered"} {
		if r.Metrics[name] <= 0 {
			t.Errorf("%s is %v", name, r.Metrics[name])
		}
	}
	return got
}

func TestBenchUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	got := benchUpgrade(t, []string{"connections", "upgrades", "moved", "disconnected", "lost", "repeated", "holes", "presence_missing", "parked_published", "parked_lost", "parked_repeated"},
		"--connections", "20", "--protocols", "raw,json,sse,centrifugo,centrifugo-protobuf", "--rate", "100", "--parked", "50", "--upgrades", "2", "--every", "300ms")
	// 10 probes, a publisher, 50 parked ones and their reader move, too.
	want := map[string]float64{"connections": 20, "upgrades": 2, "moved": 82, "disconnected": 0, "lost": 0, "repeated": 0, "holes": 0, "presence_missing": 0,
		"parked_published": 750, "parked_lost": 0, "parked_repeated": 0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestBenchUpgradeTellsClientsWithTLS(t *testing.T) {
	t.Parallel()
	names := []string{"closed", "asked", "returned", "recovered", "unrecovered", "lost", "told", "repeated"}
	got := benchUpgrade(t, names, "--tls", "--connections", "5", "--rate", "50", "--history", "1000", "--upgrades", "1", "--every", "100ms")
	want := map[string]float64{"closed": 6, "asked": 6, "returned": 5, "recovered": 5, "unrecovered": 0, "lost": 0, "told": 0, "repeated": 0} // with the publisher
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}
