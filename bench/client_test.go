package bench

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/google/go-cmp/cmp"
)

var clientProtocols = []Protocol{Centrifugo, CentrifugoProtobuf}

// pubs is what a faulty server sends for one publication.
type pubs = []*protocol.Publication

func TestFanoutChecksClientsOfCentrifugosProtocol(t *testing.T) {
	t.Parallel()
	var kept *protocol.Publication
	for _, tc := range []struct {
		name  string
		wrong func(offset int, p *protocol.Publication) pubs
		want  map[string]float64
	}{
		{"nothing", nil, map[string]float64{"delivered": 30}},
		{"drops one", func(offset int, p *protocol.Publication) pubs {
			if offset == 4 {
				return nil
			}
			return pubs{p}
		}, map[string]float64{"delivered": 27, "lost": 3, "incomplete": 1}},
		{"drops the first", func(offset int, p *protocol.Publication) pubs {
			if offset == 1 {
				return nil
			}
			return pubs{p}
		}, map[string]float64{"delivered": 27, "lost": 3, "incomplete": 1}},
		{"repeats one", func(offset int, p *protocol.Publication) pubs {
			if offset == 4 {
				return pubs{p, p}
			}
			return pubs{p}
		}, map[string]float64{"delivered": 30, "repeated": 3, "repeats": 3}},
		{"swaps two", func(offset int, p *protocol.Publication) pubs {
			switch offset {
			case 4:
				kept = p
				return nil
			case 5:
				return pubs{p, kept}
			}
			return pubs{p}
		}, map[string]float64{"delivered": 30, "reordered": 3, "repeats": 3}},
		{"has a hole in its offsets", func(offset int, p *protocol.Publication) pubs {
			if offset >= 4 {
				return pubs{{Data: p.Data, Offset: p.Offset + 1}}
			}
			return pubs{p}
		}, map[string]float64{"delivered": 30}},
		{"forgets an offset", func(offset int, p *protocol.Publication) pubs {
			if offset == 10 {
				return pubs{{Data: p.Data}}
			}
			return pubs{p}
		}, map[string]float64{"delivered": 30, "holes": 3}},
		{"talks of other things", func(offset int, p *protocol.Publication) pubs {
			if offset == 4 {
				return pubs{{Data: []byte(`{"offset":7}`)}, p} // as if another had published it
			}
			return pubs{p}
		}, map[string]float64{"delivered": 30, "foreign": 3, "holes": 3}},
		{"has tags and information", func(_ int, p *protocol.Publication) pubs {
			return pubs{{Data: p.Data, Offset: p.Offset, Info: &protocol.ClientInfo{User: "u"}, Tags: map[string]string{"a": "b"}}}
		}, map[string]float64{"delivered": 30}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range clientProtocols {
				t.Run(string(p), func(t *testing.T) {
					s := newClientServer(t)
					s.wrong = tc.wrong
					o := FanoutOptions{Options: s.options(p), Subscribers: 3, Rate: 200, Duration: 50 * time.Millisecond,
						Warmup: -1, CatchUp: 5 * time.Second} // a machine under load stalls; it ends when all is there
					if tc.want["lost"] > 0 {
						o.CatchUp = catchUpOfLoss
					}
					r, err := Fanout(t.Context(), o)
					if err != nil {
						t.Fatal(err)
					}
					want := map[string]float64{"published": 10, "lost": 0, "repeated": 0, "reordered": 0, "holes": 0,
						"repeats": 0, "foreign": 0, "cut": 0, "incomplete": 0}
					maps.Copy(want, tc.want)
					if diff := cmp.Diff(want, figures(r, slices.Collect(maps.Keys(want))...)); diff != "" {
						t.Errorf("want -, got +:\n%s", diff)
					}
				})
			}
		})
	}
}

func TestFanoutOfChannelsWithoutPositions(t *testing.T) {
	for _, p := range clientProtocols {
		s := newClientServer(t)
		s.plain = true
		r, err := Fanout(t.Context(), FanoutOptions{Options: s.options(p), Subscribers: 3, Burst: 10, Warmup: -1})
		if err != nil || r.Metrics["delivered"] != 30 || r.Metrics["holes"] != 0 {
			t.Errorf("%s: %v, %v", p, r.Metrics, err)
		}
	}
}

func TestFanoutDealsPublicationsToManyChannels(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		wrong func(offset int, p *protocol.Publication) pubs
		want  map[string]float64
	}{
		{"nothing", nil, map[string]float64{"delivered": 60}},
		// Each of the four channels has five publications, or six with the warm-up.
		{"drops the last of each", func(offset int, p *protocol.Publication) pubs {
			if offset == 6 {
				return nil
			}
			return pubs{p}
		}, map[string]float64{"delivered": 48, "lost": 12, "incomplete": 4}},
		{"sends another channel's", func(offset int, p *protocol.Publication) pubs {
			if offset != 6 {
				return pubs{p}
			}
			data := slices.Clone(p.Data)
			data[stampAt+seqAt-1] ^= 1 // the lowest bit of the channel's number
			return pubs{{Data: data, Offset: p.Offset}}
		}, map[string]float64{"delivered": 48, "lost": 12, "incomplete": 4, "foreign": 12}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newClientServer(t)
			s.wrong = tc.wrong
			o := FanoutOptions{Options: s.options(Centrifugo), Subscribers: 12, Publishers: 2, Rate: 400,
				PublishURLs: []string{s.URL + "/publish/{channel}"}, Duration: 50 * time.Millisecond, Warmup: 10 * time.Millisecond, CatchUp: catchUpOfLoss}
			o.Channels = 4
			r, err := Fanout(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]float64{"published": 20, "channels": 4, "lost": 0, "repeated": 0, "reordered": 0, "holes": 0,
				"repeats": 0, "foreign": 0, "cut": 0, "incomplete": 0}
			maps.Copy(want, tc.want)
			if diff := cmp.Diff(want, figures(r, slices.Collect(maps.Keys(want))...)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func secretFile(t *testing.T, secret string) string {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestClientsAnswerPingsAndHaveTokens(t *testing.T) {
	const secret = "a secret that is long enough"
	for _, p := range clientProtocols {
		s := newClientServer(t)
		s.secret = secret
		o := StormOptions{Options: s.options(p), Connections: 20, Outstanding: 4, Hold: 100 * time.Millisecond}
		o.PID, o.TokenSecretFile = os.Getpid(), secretFile(t, secret)
		r, err := Storm(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]float64{"upgraded": 20, "failed": 0, "cut": 0}, figures(r, "upgraded", "failed", "cut")); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", p, diff)
		}
		s.mu.Lock()
		if len(s.users) != 20 || s.users["7"] != 1 || s.pongs != 20 || s.commands != 40 {
			t.Errorf("%s: users %v, %d pongs, %d commands; want 20 of each, and a connect and a subscribe for each", p, s.users, s.pongs, s.commands)
		}
		s.mu.Unlock()
	}
}

func TestClientsTellWhyTheyWereRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		set  func(*clientServer, *Options)
		want string
	}{
		{func(s *clientServer, _ *Options) { s.secret = "x" }, "refused to connect: 109, token expired"},
		{func(s *clientServer, _ *Options) { s.refuses = "news" }, "refused to subscribe to news: 103, permission denied"},
		{func(_ *clientServer, o *Options) { o.Path = "/ws/news" }, "did not respond within --timeout"},
	} {
		for _, p := range clientProtocols {
			s := newClientServer(t)
			o := StormOptions{Options: s.options(p), Connections: 2}
			o.Timeout = 2 * time.Second
			tc.set(s, &o.Options)
			want := tc.want
			if p == CentrifugoProtobuf && o.Path != "" {
				want = "does not speak the subprotocol"
			}
			if r, err := Storm(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) || r.Metrics["failed"] != 2 || r.Metrics["cut"] != 0 {
				t.Errorf("%s: got %v, want %q; %v", p, err, want, r.Metrics)
			}
		}
	}
}

func TestWrongOptionsOfClientsAreUsageErrors(t *testing.T) {
	empty := secretFile(t, "")
	for _, tc := range []struct {
		o   FanoutOptions
		why string
	}{
		{FanoutOptions{Options: Options{Token: "t"}}, "--token and --token-hmac-secret-file need"},
		{FanoutOptions{Options: Options{Channels: 2}}, "--channels needs --protocol centrifugo"},
		{FanoutOptions{Options: Options{Protocol: Centrifugo, Hello: "hi"}}, "--hello does not work"},
		{FanoutOptions{Options: Options{Protocol: Centrifugo, Channel: `a"b`}}, "--channel is"},
		{FanoutOptions{Options: Options{Protocol: Centrifugo, TokenSecretFile: "/nonexistent"}}, "no such file"},
		{FanoutOptions{Options: Options{Protocol: Centrifugo, TokenSecretFile: empty}}, "is empty"},
		{FanoutOptions{Options: Options{Protocol: Centrifugo}, Size: SizeMin}, "use 40 to "},
		{FanoutOptions{Options: Options{Protocol: Centrifugo, Channels: 3}, Subscribers: 10}, "a multiple of --channels (3)"},
		{FanoutOptions{Options: Options{Protocol: Centrifugo, Channels: 3}, Publishers: 2}, "a multiple of --publishers (2)"},
		{FanoutOptions{Options: Options{Protocol: Centrifugo, Channels: 3}, PublishURLs: []string{"http://h/p"}}, "{channel} in it"},
	} {
		if _, err := Fanout(t.Context(), tc.o); !errors.As(err, new(*UsageError)) || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("got %v, want a usage error with %q", err, tc.why)
		}
	}
}

func TestIdleMeasuresSubscriptionsBeyondConnections(t *testing.T) {
	for _, p := range clientProtocols {
		s := newClientServer(t)
		o := IdleOptions{Options: s.options(p), Connections: 20, Settle: -1, Duration: time.Millisecond, Each: 5}
		o.PID = os.Getpid()
		r, err := Idle(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Metrics["subscriptions"] != 100 || r.Metrics["connections"] != 20 || r.Metrics["cut"] != 0 {
			t.Errorf("%s: %v", p, r.Metrics)
		}
		if _, ok := r.Metrics["rss_per_subscription"]; !ok {
			t.Errorf("%s: rss_per_subscription is missing", p)
		}
		s.mu.Lock()
		if len(s.channels) != 100 || s.channels["news-19-4"] == nil {
			t.Errorf("%s: %d channels, want 100, each with the name of its connection", p, len(s.channels))
		}
		s.mu.Unlock()
	}
}

func TestIdleExchangesAPublication(t *testing.T) {
	s := newClientServer(t)
	o := IdleOptions{Options: s.options(Centrifugo), Connections: 20, Settle: -1, Duration: time.Millisecond, Exchange: 1024}
	o.PID = os.Getpid()
	if r, err := Idle(t.Context(), o); err != nil || r.Metrics["exchanged"] != 20 {
		t.Errorf("exchanged %v, %v", r.Metrics["exchanged"], err)
	}
}

func TestReconnectChecksWhatEachRecovered(t *testing.T) {
	for _, tc := range []struct {
		name    string
		recover func(missed pubs) pubs
		kept    int
		want    map[string]float64
	}{
		{"nothing", nil, 0, map[string]float64{"delivered": 200}},
		{"drops one", func(m pubs) pubs { return slices.Delete(slices.Clone(m), 3, 4) }, 0,
			map[string]float64{"delivered": 190, "lost": 10}},
		{"drops the last", func(m pubs) pubs { return m[:19] }, 0, map[string]float64{"delivered": 190, "lost": 10, "holes": 10}},
		{"repeats one", func(m pubs) pubs { return slices.Insert(slices.Clone(m), 3, m[2]) }, 0,
			map[string]float64{"delivered": 200, "repeated": 10, "repeats": 10}},
		{"swaps two", func(m pubs) pubs { m = slices.Clone(m); m[3], m[4] = m[4], m[3]; return m }, 0,
			map[string]float64{"delivered": 200, "reordered": 10, "repeats": 10}},
		{"keeps too little", nil, 19, map[string]float64{"lost": 200, "gaps": 10}},
	} {
		for _, p := range clientProtocols {
			t.Run(tc.name+"/"+string(p), func(t *testing.T) {
				s := newClientServer(t)
				s.recover, s.kept = tc.recover, tc.kept
				s.publish("news", []byte(`"before"`))
				r, err := Reconnect(t.Context(), ReconnectOptions{Options: s.options(p), Connections: 10, Outstanding: 4, Settle: -1})
				if err != nil {
					t.Fatal(err)
				}
				want := map[string]float64{"returned": 10, "failed": 0, "published": 20, "delivered": 0, "lost": 0, "repeated": 0,
					"reordered": 0, "holes": 0, "repeats": 0, "gaps": 0, "foreign": 0, "cut": 0}
				maps.Copy(want, tc.want)
				if diff := cmp.Diff(want, figures(r, slices.Collect(maps.Keys(want))...)); diff != "" {
					t.Errorf("want -, got +:\n%s", diff)
				}
			})
		}
	}
}

func TestJoinsOfSubscriptionsAreChecked(t *testing.T) {
	var mu sync.Mutex
	calls := 0
	now := func(n int) bool { mu.Lock(); defer mu.Unlock(); calls++; return calls%n == 0 }
	for _, tc := range []struct {
		name    string
		set     func(s *clientServer)
		faults  []string
		failing bool
	}{
		{name: "nothing", set: func(*clientServer) {}},
		{name: "drops every tenth", faults: []string{"lost"}, set: func(s *clientServer) {
			s.wrong = func(offset int, p *protocol.Publication) pubs {
				if offset%10 == 0 {
					return nil
				}
				return pubs{p}
			}
		}},
		{name: "begins one too late", faults: []string{"lost"}, set: func(s *clientServer) {
			s.recover = func(m pubs) pubs { return m[min(1, len(m)):] }
		}},
		{name: "recovers what is live again", faults: []string{"repeats"}, set: func(s *clientServer) {
			s.wrong = func(offset int, p *protocol.Publication) pubs {
				if now(10) {
					return pubs{p, p}
				}
				return pubs{p}
			}
		}},
		{name: "gives an offset the payload of another", faults: []string{"wrong"}, set: func(s *clientServer) {
			var last []byte
			s.wrong = func(offset int, p *protocol.Publication) pubs {
				data := p.Data
				if offset%10 == 0 {
					data = last
				}
				last = p.Data
				return pubs{{Data: data, Offset: p.Offset}}
			}
		}},
		{name: "keeps too little", faults: []string{"gaps"}, set: func(s *clientServer) { s.kept = 2 }},
		{name: "goes on after the end of a subscription", failing: true, set: func(s *clientServer) { s.stray = true }},
	} {
		for _, p := range clientProtocols {
			t.Run(tc.name+"/"+string(p), func(t *testing.T) {
				s := newClientServer(t)
				tc.set(s)
				o := RecoverOptions{Options: s.options(p), Joins: 60, Concurrency: 4, Behind: 20, Live: 3, Rate: 500}
				o.Timeout = 20 * time.Second
				r, err := Recover(t.Context(), o)
				if tc.failing && err != nil && strings.Contains(err.Error(), "after the client unsubscribed") {
					return // it met every join
				}
				if err != nil {
					t.Fatal(err)
				}
				if r.Metrics["joins"]+r.Metrics["failed"] != 60 || (r.Metrics["failed"] > 0) != tc.failing || r.Metrics["foreign"] != 0 {
					t.Errorf("got %v; notes %q", r.Metrics, r.Notes)
				}
				var faults []string
				for _, name := range []string{"lost", "repeats", "wrong", "gaps"} {
					if r.Metrics[name] > 0 {
						faults = append(faults, name)
					}
				}
				if diff := cmp.Diff(tc.faults, faults); diff != "" {
					t.Errorf("figures above zero: want -, got +:\n%s", diff)
				}
				if r.Metrics["recovered"] == 0 && tc.name != "keeps too little" || r.Metrics["live"] == 0 {
					t.Errorf("nothing was recovered or live: %v", r.Metrics)
				}
			})
		}
	}
}

func TestJoinsTellOfAChannelWithoutPositions(t *testing.T) {
	s := newClientServer(t)
	s.plain = true
	o := RecoverOptions{Options: s.options(Centrifugo), Joins: 5}
	if _, err := Recover(t.Context(), o); err == nil || !strings.Contains(err.Error(), "force_recovery") {
		t.Errorf("got %v", err)
	}
	if _, err := Reconnect(t.Context(), ReconnectOptions{Options: s.options(Centrifugo), Connections: 5}); err == nil || !strings.Contains(err.Error(), "force_recovery") {
		t.Errorf("got %v", err)
	}
}
