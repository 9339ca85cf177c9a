package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// figures picks some of a result's.
func figures(r *Result, names ...string) map[string]float64 {
	got := map[string]float64{}
	for _, n := range names {
		if v, ok := r.Metrics[n]; ok {
			got[n] = v
		}
	}
	return got
}

func TestFanoutReportsWhatTheServerDidWrong(t *testing.T) {
	t.Parallel()
	var kept []byte
	for _, tc := range []struct {
		name    string
		deliver func(s *faultyServer, n int, msg []byte)
		want    map[string]float64
	}{
		{"nothing", nil, map[string]float64{"delivered": 30}},
		{"drops one message to one", func(s *faultyServer, n int, msg []byte) {
			for i, c := range s.clients {
				if n != 4 || i != 1 {
					c.WriteMessage(websocket.TextMessage, msg)
				}
			}
		}, map[string]float64{"delivered": 29, "lost": 1, "incomplete": 1}},
		{"drops the last message", func(s *faultyServer, n int, msg []byte) {
			if n != 9 {
				s.toAll(msg)
			}
		}, map[string]float64{"delivered": 27, "lost": 3, "incomplete": 1}},
		{"repeats one", func(s *faultyServer, n int, msg []byte) {
			s.toAll(msg)
			if n == 4 {
				s.toAll(msg)
			}
		}, map[string]float64{"delivered": 30, "repeated": 3}},
		{"swaps two", func(s *faultyServer, n int, msg []byte) {
			switch n {
			case 4:
				kept = slices.Clone(msg)
			case 5:
				s.toAll(msg)
				s.toAll(kept)
			default:
				s.toAll(msg)
			}
		}, map[string]float64{"delivered": 30, "reordered": 3}},
		{"talks of other things", func(s *faultyServer, n int, msg []byte) {
			if n == 4 {
				s.toAll([]byte("hello, world"))
			}
			s.toAll(msg)
		}, map[string]float64{"delivered": 30, "foreign": 3}},
		{"puts messages into an envelope", func(s *faultyServer, n int, msg []byte) {
			s.toAll([]byte(`{"push":{"pub":{"data":"` + string(msg) + `"}}}`))
		}, map[string]float64{"delivered": 30}},
		{"cuts one subscriber", func(s *faultyServer, n int, msg []byte) {
			if n == 4 { // the first three clients are the subscribers
				s.clients[0].WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1013, "slow"))
			}
			s.toAll(msg)
		}, map[string]float64{"delivered": 24, "lost": 6, "lost_cut": 6, "cut": 1}},
	} {
		test := func(t *testing.T, secure bool) {
			s := startFaultyServer(t, secure, tc.deliver)
			r, err := Fanout(t.Context(), fanoutOptions(s))
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]float64{"published": 10, "subscribers": 3, "lost": 0, "lost_cut": 0, "repeated": 0,
				"reordered": 0, "foreign": 0, "stale": 0, "cut": 0, "incomplete": 0}
			names := []string{"delivered"}
			for k := range want {
				names = append(names, k)
			}
			for k, v := range tc.want {
				want[k] = v
			}
			if diff := cmp.Diff(want, figures(r, names...)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if tc.want["cut"] > 0 && r.Closes["1013"] != 1 {
				t.Errorf("Close frames by code: %v, want one of 1013", r.Closes)
			}
		}
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			t.Run("plain", func(t *testing.T) { test(t, false) })
			t.Run("TLS", func(t *testing.T) { test(t, true) })
		})
	}
}

func TestFanoutSaysHelloAnswersPingsAndExcludesTheWarmup(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t, func(s *faultyServer, n int, msg []byte) {
		if n == 0 { // in the warm-up
			for _, c := range s.clients {
				c.WriteMessage(websocket.PingMessage, []byte("ping"))
			}
		}
		if n > 0 { // so that the warm-up loses a message
			s.toAll(msg)
		}
	})
	o := fanoutOptions(s)
	o.Hello, o.Warmup, o.Publishers, o.Burst = "hello", time.Millisecond, 2, 7
	r, err := Fanout(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"published": 7, "delivered": 21, "lost": 0, "reordered": 0, "stale": 0}
	if diff := cmp.Diff(want, figures(r, "published", "delivered", "lost", "reordered", "stale")); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	s.mu.Lock()
	hellos := s.hellos
	s.mu.Unlock()
	if hellos != 5 {
		t.Errorf("%d said hello, want 3 subscribers and 2 publishers", hellos)
	}
	for range 5 {
		select {
		case data := <-s.pongs:
			if data != "ping" {
				t.Errorf("pong says %q", data)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("a ping was not answered")
		}
	}
}

func TestFanoutPublishesByPOSTAndTriesAgainWhenRefused(t *testing.T) {
	s := newFaultyServer(t, nil)
	s.refusals = 2
	o := fanoutOptions(s)
	o.PublishURLs = []string{s.URL + "/publish"}
	r, err := Fanout(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"published": 10, "delivered": 30, "lost": 0, "publish_retries": 2}
	if diff := cmp.Diff(want, figures(r, "published", "delivered", "lost", "publish_retries")); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	o.PublishURLs = []string{s.URL + "/nowhere"}
	if _, err = Fanout(t.Context(), o); err == nil || !strings.Contains(err.Error(), "check --publish-url") {
		t.Errorf("got %v for a wrong --publish-url", err)
	}
}

func TestFindMaxFindsTheRateThatIsHeld(t *testing.T) {
	// A server that drops what comes within 2 ms of the message before it
	// holds less than 500 a second.
	var before time.Time
	s := newFaultyServer(t, func(s *faultyServer, n int, msg []byte) {
		if now := time.Now(); now.Sub(before) > 2*time.Millisecond {
			s.toAll(msg)
			before = now
		}
	})
	o := fanoutOptions(s)
	o.FindMax, o.Rate, o.Duration, o.CatchUp = true, 20, 250*time.Millisecond, 500*time.Millisecond
	r, err := Fanout(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if held := r.Metrics["rate_held"]; held <= 0 || held > 520 || r.Metrics["lost"] != 0 {
		t.Errorf("held %v a second with %v lost, want at most 500 and none", held, r.Metrics["lost"])
	}
	last := r.Tries[len(r.Tries)-1]
	if !last.Held || last.Duration != o.Duration.String() {
		t.Errorf("the last try is %+v, want one that held for %s", last, o.Duration)
	}
	if !slices.ContainsFunc(r.Tries, func(y Try) bool { return !y.Held }) {
		t.Errorf("no try failed: %+v", r.Tries)
	}
}

func TestRateIsHeldOnlyWithoutAnyFault(t *testing.T) {
	for _, tc := range []struct {
		name string
		a    account
		held bool
	}{
		{"all well", account{lastSeen: int64(time.Second)}, true},
		{"one lost", account{lost: 1}, false},
		{"one cut", account{cut: 1}, false},
		{"one repeated", account{counts: counts{repeated: 1}}, false},
		{"one reordered", account{counts: counts{reordered: 1}}, false},
		{"generator late", account{sendings: []sending{{published: 10, lateSends: 1}}}, false},
		{"too late", account{lastSeen: int64(time.Second) + 1}, false},
	} {
		tc.a.schedule, tc.a.published = schedule{phase: phase{streams: 1, count: 1}, rate: 1, publishers: 1}, 1
		if why := tc.a.whyNotHeld(time.Second); (why == "") != tc.held {
			t.Errorf("%s: %q", tc.name, why)
		}
	}
}

// lazyPublisher takes a message at once, but the first of them late.
type lazyPublisher struct{ first func() }

func (p *lazyPublisher) send(context.Context, int, []byte) (int, error) {
	if p.first != nil {
		p.first()
		p.first = nil
	}
	return 0, nil
}
func (p *lazyPublisher) close() {}

func TestLateGeneratorIsToldFromPushBack(t *testing.T) {
	s := schedule{phase: phase{mark: 1, streams: 1, count: 100}, clock: newClock(), rate: 1000, size: 64, publishers: 1}

	s.start = s.clock.now() - int64(time.Second) // the generator begins a second late
	out := s.publish(t.Context(), &lazyPublisher{}, 0)
	if out.published != 100 || out.lateSends != 100 {
		t.Errorf("begun late: %d of %d sends count as late, want all 100", out.lateSends, out.published)
	}
	r := newResult("fanout")
	a := &account{schedule: s, rate: s.rate, sendings: []sending{out}, elapsed: time.Second}
	r.setGenerator(a)
	r.judgeGenerator(a)
	if r.Verdict != VerdictInvalid || r.Metrics["invalid"] != 1 || r.Metrics["late"] != 100 {
		t.Errorf("verdict %q with %v %% late", r.Verdict, r.Metrics["late"])
	}

	s.start = s.clock.now()
	out = s.publish(t.Context(), &lazyPublisher{first: func() { // the server takes a second
		for until := s.clock.now() + int64(time.Second); s.clock.now() < until; {
		}
	}}, 0)
	if out.published != 100 || out.lateSends > 1 || out.blocked < time.Second {
		t.Errorf("pushed back: %d of %d sends count as late, blocked for %s", out.lateSends, out.published, out.blocked)
	}
}

func TestInterruptedRunTellsWhatThereIs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newFaultyServer(t, func(s *faultyServer, n int, msg []byte) {
		s.toAll(msg)
		if n == 4 {
			cancel()
		}
	})
	o := fanoutOptions(s)
	o.Rate, o.Duration = 20, time.Hour
	r, err := Fanout(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Metrics["published"]; r.Metrics["interrupted"] != 1 || got < 4 || got > 6 {
		t.Errorf("verdict %q with %v published, want interrupted with about 5", r.Verdict, got)
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "interrupted: the figures cover the time") {
		t.Errorf("%v:\n%s", err, &table)
	}
}

func TestResultIsJSONWithMachineFacts(t *testing.T) {
	s := newFaultyServer(t, nil)
	o := fanoutOptions(s)
	o.PID = own().PID
	r, err := Fanout(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Schema != Schema || back.Machine.Kernel == "" || back.Machine.Cores == 0 || back.Machine.Descriptors == 0 {
		t.Errorf("schema %q, machine %+v", back.Schema, back.Machine)
	}
	for _, name := range []string{"lost", "repeated", "reordered", "p50", "p90", "p99", "p99.9", "max", "last_max",
		"server_cpu_per_delivery", "server_rss", "generator_cpu_percent", "late_max", "catch_up"} {
		if _, ok := back.Metrics[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestWrongOptionsAreToldAllAtOnce(t *testing.T) {
	_, err := Fanout(t.Context(), FanoutOptions{
		Options: Options{URL: "tcp://example.com", Loops: -1}, Subscribers: -1, Size: 31, Burst: 1, FindMax: true,
	})
	if !errors.As(err, new(*UsageError)) {
		t.Fatalf("got %v, want a usage error", err)
	}
	for _, want := range []string{"is not a WebSocket URL", "--loops", "--subscribers", "--size", "--find-max"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}

func TestServerThatIsNotThereIsToldInOneLine(t *testing.T) {
	s := newFaultyServer(t, nil)
	o := fanoutOptions(s)
	o.Path = "/nothing"
	if _, err := Fanout(t.Context(), o); err == nil || !strings.Contains(err.Error(), "404") || !strings.Contains(err.Error(), "check --path") {
		t.Errorf("wrong path: %v", err)
	}
	o.URL, o.Path = "ws://127.0.0.1:1", ""
	if _, err := Fanout(t.Context(), o); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "--url") {
		t.Errorf("nobody listens: %v", err)
	}
	o.URL, o.Subscribers = s.url(), 10_000_000
	if _, err := Fanout(t.Context(), o); err == nil || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("too many: %v", err)
	}
}
