package bench

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestIdleMeasuresMemoryAndCPU(t *testing.T) {
	s := newFaultyServer(t, nil)
	o := IdleOptions{Options: own(), Connections: 20, Settle: -1, Duration: 10 * time.Millisecond}
	o.URL = s.url()
	r, err := Idle(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := figures(r, "connections", "cut"); got["connections"] != 20 || got["cut"] != 0 {
		t.Errorf("got %v", got)
	}
	for _, name := range []string{"rss", "rss_fresh", "rss_per_connection", "slab_per_connection", "server_cpu_percent"} {
		if _, ok := r.Metrics[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestIdleExchangesAMessageOnEachConnectionBefore(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		path    string
		secure  bool
		deliver func(*faultyServer, int, []byte)
		want    float64
		why     string
	}{
		{path: "/ws", want: 20},
		{path: "/echo", want: 20},
		{path: "/ws", secure: true, want: 20},
		{path: "/echo", secure: true, want: 20},
		{path: "/ws", deliver: func(*faultyServer, int, []byte) {}, why: "only 0 of 20 connections received a message"},
	} {
		s := startFaultyServer(t, tc.secure, tc.deliver)
		o := IdleOptions{Options: own(), Connections: 20, Settle: -1, Duration: time.Millisecond, Exchange: 1024}
		o.URL, o.TLS.CACert, o.Path, o.Timeout = s.url(), s.cacert, tc.path, 10*time.Second
		if tc.why != "" {
			o.Timeout = 2 * time.Second
		}
		r, err := Idle(t.Context(), o)
		if (err != nil) != (tc.why != "") || err != nil && !strings.Contains(err.Error(), tc.why) || r.Metrics["exchanged"] != tc.want {
			t.Errorf("%s, TLS %v: exchanged %v, %v", tc.path, tc.secure, r.Metrics["exchanged"], err)
		}
	}
}

func TestStormCountsUpgradesAndFailures(t *testing.T) {
	s := newFaultyServer(t, nil)
	o := StormOptions{Options: own(), Connections: 50, Outstanding: 8}
	o.URL = s.url()
	r, err := Storm(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"upgraded": 50, "failed": 0, "cut": 0}, figures(r, "upgraded", "failed", "cut")); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if r.Metrics["server_cpu_per_upgrade"] <= 0 || r.Metrics["p99"] <= 0 {
		t.Errorf("no CPU or no latency: %v", r.Metrics)
	}
	o.Path = "/nothing"
	r, err = Storm(t.Context(), o)
	if err == nil || r.Verdict != VerdictFailed {
		t.Errorf("verdict %s, %v: not one connection was upgraded", r.Verdict, err)
	}
	if diff := cmp.Diff(map[string]float64{"upgraded": 0, "failed": 50}, figures(r, "upgraded", "failed")); diff != "" || len(r.Reasons) != 1 || len(r.Notes) != 0 {
		t.Errorf("reasons %q, notes %q, want one reason alone; want -, got +:\n%s", r.Reasons, r.Notes, diff)
	}
}

func TestFloorCountsEverySend(t *testing.T) {
	t.Setenv("BENCH_TEST_FLOOR_SENDER", "1")
	o := FloorOptions{Connections: 20, Burst: 10, Sender: []string{os.Args[0]}}
	r, err := Floor(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"connections": 20, "rounds": 10, "delivered": 200, "lost": 0}
	if diff := cmp.Diff(want, figures(r, "connections", "rounds", "delivered", "lost")); diff != "" {
		t.Errorf("flat out: want -, got +:\n%s", diff)
	}
	o.Rate, o.Duration = 100, 50*time.Millisecond
	if r, err = Floor(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if r.Metrics["rounds"] != 5 || r.Metrics["delivered"] != 100 {
		t.Errorf("at a rate: %v", r.Metrics)
	}
	o.Upgrade = true
	if r, err = Floor(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if r.Metrics["upgraded"] != 20 || r.Metrics["failed"] != 0 || r.Metrics["sender_cpu_per_upgrade"] <= 0 {
		t.Errorf("upgrades: %v, %v", r.Metrics, r.Notes)
	}
}
