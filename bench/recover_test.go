package bench

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/bench/clienttls"
)

func recoverOptions(s *channelServer) RecoverOptions {
	return RecoverOptions{
		Options: Options{URL: s.url(), TLS: clienttls.Flags{CACert: s.cacert}, Path: "/ws/news", Timeout: 5 * time.Second},
		Joins:   60, Concurrency: 4, Behind: 20, Live: 3, Rate: 500,
	}
}

func TestRecoverReportsWhatTheServerDidWrong(t *testing.T) {
	for _, tc := range []struct {
		name   string
		wrong  func(offset int, record string) []string
		kept   int
		skips  int
		faults []string // figures above zero
	}{
		{name: "nothing"},
		{name: "drops every tenth", faults: []string{"lost", "holes"}, wrong: func(offset int, record string) []string {
			if offset%10 == 0 {
				return nil
			}
			return []string{record}
		}},
		{name: "repeats every tenth", faults: []string{"repeats"}, wrong: func(offset int, record string) []string {
			if offset%10 == 0 {
				return []string{record, record}
			}
			return []string{record}
		}},
		{name: "gives an offset the payload of another", faults: []string{"wrong"}, wrong: swapPayloads()},
		{name: "begins one too late", skips: 1, faults: []string{"lost", "holes"}},
		{name: "keeps too little", kept: 2, faults: []string{"gaps"}},
	} {
		for _, protocol := range []Protocol{JSON, SSE} {
			t.Run(tc.name+"/"+string(protocol), func(t *testing.T) {
				s := newChannelServer(t, tc.wrong)
				s.kept, s.skips = tc.kept, tc.skips
				o := recoverOptions(s)
				o.Protocol = protocol
				r, err := Recover(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if got := figures(r, "joins", "failed", "foreign"); !maps.Equal(got, map[string]float64{"joins": 60, "failed": 0, "foreign": 0}) {
					t.Errorf("got %v; notes %q", got, r.Notes)
				}
				var faults []string
				for _, name := range []string{"lost", "holes", "repeats", "wrong", "gaps"} {
					if r.Metrics[name] > 0 {
						faults = append(faults, name)
					}
				}
				want := tc.faults
				if protocol == SSE && slices.Contains(want, "holes") {
					want = []string{"lost"} // an event does not name the one before it
				}
				if diff := cmp.Diff(want, faults); diff != "" {
					t.Errorf("figures above zero: want -, got +:\n%s", diff)
				}
				if r.Metrics["recovered"] == 0 || r.Metrics["live"] == 0 || r.Metrics["p99"] == 0 {
					t.Errorf("nothing was recovered, live or timed: %v", r.Metrics)
				}
				if hint := "sluice serve --history"; tc.kept > 0 != strings.Contains(strings.Join(r.Notes, "\n"), hint) {
					t.Errorf("notes %q, want %q: %v", r.Notes, hint, tc.kept > 0)
				}
			})
		}
	}
}

// swapPayloads returns every tenth offset the payload that the tenth before it had.
func swapPayloads() func(offset int, record string) []string {
	payload := func(record string) string {
		return record[max(strings.Index(record, `"data":`), strings.Index(record, "data: ")):]
	}
	var mu sync.Mutex
	seen := map[int]string{}
	return func(offset int, record string) []string {
		mu.Lock()
		defer mu.Unlock()
		if offset%10 != 0 || offset < 20 {
			if offset%10 == 0 {
				seen[offset] = payload(record)
			}
			return []string{record}
		}
		seen[offset] = payload(record)
		return []string{strings.TrimSuffix(record, payload(record)) + seen[offset-10]}
	}
}

func TestRecoverAsksForPositionsOfThePast(t *testing.T) {
	s := newChannelServer(t, nil)
	if _, err := Recover(t.Context(), recoverOptions(s)); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.paths) != 62 {
		t.Fatalf("%d requests, want 60 joins, a publisher and a scout", len(s.paths))
	}
	for _, want := range []string{"/ws/news?mode=publish", "/ws/news?format=json&since=now"} {
		if !slices.Contains(s.paths, want) {
			t.Errorf("nobody asked for %s", want)
		}
	}
	for _, path := range s.paths {
		if !strings.HasSuffix(path, "mode=publish") && !strings.HasSuffix(path, "since=now") &&
			!strings.Contains(path, "since="+s.epoch+":") {
			t.Errorf("%s asks for no position", path)
		}
	}
}

func TestRecoverPublishesByPOST(t *testing.T) {
	s := newChannelServer(t, nil)
	o := recoverOptions(s)
	o.PublishURL = s.URL + "/publish/news"
	r, err := Recover(t.Context(), o)
	if err != nil || r.Metrics["joins"] != 60 || r.Metrics["holes"] != 0 {
		t.Errorf("%v, %v", r.Metrics, err)
	}
	o.PublishURL = s.URL + "/nowhere"
	if _, err = Recover(t.Context(), o); err == nil || !strings.Contains(err.Error(), "check --publish-url") {
		t.Errorf("got %v for a wrong --publish-url", err)
	}
}

func TestRecoverTellsOfAServerWithoutRecords(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t, nil)
	_, err := Recover(t.Context(), RecoverOptions{Options: Options{URL: s.url(), Timeout: 2 * time.Second}, Joins: 5})
	if err == nil || !strings.Contains(err.Error(), "does the server support ?since=") {
		t.Errorf("got %v", err)
	}
}

func TestRecoverNoticesThatOthersPublish(t *testing.T) {
	s := newChannelServer(t, func(offset int, record string) []string {
		if offset%7 == 0 { // as if another had published it
			at := strings.Index(record, `"data":`)
			record = record[:at] + `"data":"goal!"}`
		}
		return []string{record}
	})
	r, err := Recover(t.Context(), recoverOptions(s))
	if err != nil || r.Metrics["foreign"] == 0 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "others publish") {
		t.Errorf("foreign %v, notes %q, %v", r.Metrics["foreign"], r.Notes, err)
	}
}
