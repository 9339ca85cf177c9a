package bench

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAddressesOfAChannelInEachProtocol(t *testing.T) {
	for _, tc := range []struct {
		protocol           Protocol
		url                string
		subscribe, publish string
	}{
		{Raw, "ws://h:1/ws/news?x=1", "ws://h:1/ws/news?x=1", "ws://h:1/ws/news?x=1"},
		{JSON, "ws://h:1/ws/news", "ws://h:1/ws/news?format=json", "ws://h:1/ws/news?mode=publish"},
		{SSE, "ws://h:1/ws/news", "http://h:1/sse/news", "ws://h:1/ws/news?mode=publish"},
		{SSE, "ws://h:1/ws", "http://h:1/sse/lobby", "ws://h:1/ws?mode=publish"},
		{SSE, "ws://h:1/ws/a%2Fb?history=3", "http://h:1/sse/a%2Fb?history=3", "ws://h:1/ws/a%2Fb?history=3&mode=publish"},
		{SSE, "ws://h:1/ws?channel=a%20b", "http://h:1/sse/a%20b", "ws://h:1/ws?channel=a+b&mode=publish"},
		{SSE, "ws://h:1/prefix/ws/ws", "http://h:1/prefix/sse/ws", "ws://h:1/prefix/ws/ws?mode=publish"},
		{Centrifugo, "ws://h:1/connection/websocket", "ws://h:1/connection/websocket", "ws://h:1/ws/news?mode=publish"},
		{SSE, "ws://h:1/wsx/ws/news", "http://h:1/wsx/sse/news", "ws://h:1/wsx/ws/news?mode=publish"},
	} {
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		subscribe, publish, err := tc.protocol.addresses(u, "news")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{tc.subscribe, tc.publish}, []string{subscribe.String(), publish.String()}); diff != "" {
			t.Errorf("%s of %s: want -, got +:\n%s", tc.protocol, tc.url, diff)
		}
	}
}

func TestWrongProtocolIsAUsageError(t *testing.T) {
	for _, tc := range []struct {
		o   Options
		why string
	}{
		{Options{Protocol: "xml"}, `--protocol is "xml"`},
		{Options{Protocol: SSE, Path: "/events"}, "needs a --path of the form /ws/CHANNEL"},
		{Options{Protocol: SSE, Hello: "hi"}, "--hello needs a WebSocket"},
	} {
		_, err := Storm(t.Context(), StormOptions{Options: tc.o})
		if !errors.As(err, new(*UsageError)) || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("got %v, want a usage error with %q", err, tc.why)
		}
	}
}

func TestFanoutChecksOffsetsAndPayloads(t *testing.T) {
	t.Parallel()
	const path = "/ws/news"
	var kept string
	for _, tc := range []struct {
		name  string
		wrong func(offset int, record string) []string
		want  map[string]float64
	}{
		{"nothing", nil, map[string]float64{"delivered": 10}},
		{"drops one", func(offset int, record string) []string {
			if offset == 4 {
				return nil
			}
			return []string{record}
		}, map[string]float64{"delivered": 9, "lost": 1, "holes": 1}},
		{"drops the first", func(offset int, record string) []string {
			if offset == 1 {
				return nil
			}
			return []string{record}
		}, map[string]float64{"delivered": 9, "lost": 1, "holes": 1}},
		{"repeats one", func(offset int, record string) []string {
			if offset == 4 {
				return []string{record, record}
			}
			return []string{record}
		}, map[string]float64{"delivered": 10, "repeated": 1, "repeats": 1}},
		{"swaps two", func(offset int, record string) []string {
			switch offset {
			case 4:
				kept = record
				return nil
			case 5:
				return []string{record, kept}
			}
			return []string{record}
		}, map[string]float64{"delivered": 10, "reordered": 1, "holes": 1, "repeats": 1}},
		{"has a hole in its offsets", func(offset int, record string) []string {
			if offset >= 4 {
				record = strings.Replace(record, offsetText(offset), offsetText(offset+1), 1)
			}
			if offset > 4 {
				record = strings.Replace(record, prevText(offset-1), prevText(offset), 1)
			}
			return []string{record}
		}, map[string]float64{"delivered": 10}},
		{"names another one before it", func(offset int, record string) []string {
			if offset == 4 {
				record = strings.Replace(record, prevText(3), prevText(2), 1)
			}
			return []string{record}
		}, map[string]float64{"delivered": 10, "holes": 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, protocol := range []Protocol{JSON, SSE} {
				if tc.name == "drops the first" && protocol == JSON {
					continue // a JSON client learns where it stands from its first record
				}
				t.Run(string(protocol), func(t *testing.T) {
					s := newChannelServer(t, func(offset int, record string) []string {
						if tc.wrong == nil {
							return []string{record}
						}
						return tc.wrong(offset, record)
					})
					catchUp := 5 * time.Second // a machine under load stalls; it ends when all is there
					if tc.want["lost"] > 0 {
						catchUp = catchUpOfLoss
					}
					r, err := Fanout(t.Context(), FanoutOptions{
						Options:     Options{URL: s.url(), Path: path, Protocol: protocol},
						Subscribers: 1, Rate: 200, Duration: 50 * time.Millisecond, Warmup: -1, CatchUp: catchUp,
					})
					if err != nil {
						t.Fatal(err)
					}
					want := map[string]float64{"published": 10, "lost": 0, "repeated": 0, "reordered": 0, "holes": 0, "repeats": 0, "foreign": 0, "cut": 0}
					for k, v := range tc.want {
						want[k] = v
					}
					if protocol == SSE {
						want["holes"] = 0 // an event does not name the one before it
					}
					if diff := cmp.Diff(want, figures(r, slices.Collect(maps.Keys(want))...)); diff != "" {
						t.Errorf("want -, got +:\n%s", diff)
					}
				})
			}
		})
	}
}

// offsetText is how an offset of one digit stands in a record of either kind, and prevText how that of the
// publication before it stands in JSON.
func offsetText(offset int) string { return fmt.Sprintf(":%d", offset) }

func prevText(offset int) string { return fmt.Sprintf(`"prev":%d`, offset) }
