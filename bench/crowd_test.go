package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/google/go-cmp/cmp"
)

// gather connects a crowd of 4 subscribers and 2 publishers on 2 channels.
func gather(t *testing.T, s *clientServer, rate float64) *Crowd {
	t.Helper()
	o := s.options(Centrifugo)
	o.Channels = 2
	c, err := Gather(t.Context(), CrowdOptions{Options: o, Clients: 4, Publishers: 2, Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// publish has a crowd publish until it has so many more receipts, and reports what came of it.
func (c *Crowd) publishSome(t *testing.T, more int64) CrowdReport {
	t.Helper()
	c.Publish()
	c.acknowledge(t, more)
	c.Pause(t.Context())
	c.Await(t.Context(), 30*time.Second)
	return c.Report()
}

// acknowledge waits until a crowd that publishes has so many more receipts.
func (c *Crowd) acknowledge(t *testing.T, more int64) {
	t.Helper()
	begin := c.Acknowledged()
	for end := time.Now().Add(time.Minute); c.Acknowledged() < begin+more; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d receipts in a minute: %+v", c.Acknowledged()-begin, c.Report())
		}
	}
}

func TestCrowdHasEveryAcknowledgedPublication(t *testing.T) {
	t.Parallel()
	s := newClientServer(t)
	c := gather(t, s, 0)
	r := c.publishSome(t, 100)
	if r.Acknowledged < 100 || r.Delivered != 2*r.Acknowledged || r.Latency.Count != r.Delivered || r.Receipt.Count != r.Acknowledged {
		t.Errorf("%+v", r)
	}
	if r.Missing+r.Told+r.Lost+r.Repeated+r.Reordered+r.Refused+r.Unknown != 0 || r.Connected != 6 {
		t.Errorf("%+v", r)
	}
}

func TestCrowdPublishesAtItsRate(t *testing.T) {
	t.Parallel()
	c := gather(t, newClientServer(t), 200)
	begin := time.Now()
	c.Publish()
	c.acknowledge(t, 100)
	n := c.Acknowledged()
	if most := int64(200*time.Since(begin).Seconds()) + 2; n > most {
		t.Errorf("%d publications, at most %d are due", n, most)
	}
	c.Pause(t.Context())
}

func TestCrowdComesBackAndRecovers(t *testing.T) {
	t.Parallel()
	s := newClientServer(t)
	c := gather(t, s, 200)
	c.publishSome(t, 10)
	c.Publish()
	s.cut()
	r := c.publishSome(t, 50)
	want := CrowdReport{Clients: 6, Connected: 6, Acknowledged: r.Acknowledged, Unknown: r.Unknown, Delivered: r.Delivered, Recovered: 4,
		Latency: r.Latency, Receipt: r.Receipt, Back: r.Back, Failure: r.Failure}
	if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(r)); diff != "" {
		t.Error(diff)
	}
	if r.Back.Count != 4 || r.Back.P50 < backoffLeast {
		t.Errorf("back: %+v", r.Back)
	}
}

func TestCrowdTellsAnnouncedLossFromSilentLoss(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		wrong   func(s *clientServer)
		want    map[string]bool // above zero
		between func(*testing.T, *clientServer, *Crowd)
	}{
		"one is not delivered": {func(s *clientServer) {
			s.wrong = func(offset int, pub *protocol.Publication) []*protocol.Publication {
				if offset == 4 {
					return nil
				}
				return []*protocol.Publication{pub}
			}
		}, map[string]bool{"missing": true, "lost": true}, nil},
		"one comes twice": {func(s *clientServer) {
			s.wrong = func(offset int, pub *protocol.Publication) []*protocol.Publication {
				if offset == 4 {
					return []*protocol.Publication{pub, pub}
				}
				return []*protocol.Publication{pub}
			}
		}, map[string]bool{"repeated": true}, nil},
		"one is refused": {func(s *clientServer) {
			n := 0
			s.publishing = func(*protocol.PublishRequest) *protocol.Reply {
				if n++; n == 4 {
					return &protocol.Reply{Error: &protocol.Error{Code: 100, Message: "internal", Temporary: true}}
				}
				return nil
			}
		}, map[string]bool{"refused": true}, nil},
		"one is acknowledged and not published": {func(s *clientServer) {
			n := 0
			s.publishing = func(*protocol.PublishRequest) *protocol.Reply {
				if n++; n == 4 {
					return &protocol.Reply{Publish: &protocol.PublishResult{}}
				}
				return nil
			}
		}, map[string]bool{"missing": true, "lost": true}, nil},
		"history is too short": {func(s *clientServer) { s.kept = 1 }, map[string]bool{"told": true, "lost": true, "unrecovered": true}, away},
		"recovery is cut short": {func(s *clientServer) {
			s.recover = func(pubs []*protocol.Publication) []*protocol.Publication { return pubs[1:] }
		}, map[string]bool{"missing": true, "lost": true, "recovered": true}, away},
		"recovery is complete": {func(*clientServer) {}, map[string]bool{"recovered": true}, away},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newClientServer(t)
			tc.wrong(s)
			c := gather(t, s, 0)
			c.publishSome(t, 20)
			if tc.between != nil {
				tc.between(t, s, c)
			}
			r := c.publishSome(t, 20)
			got := map[string]bool{}
			for name, n := range map[string]int64{"missing": r.Missing, "told": r.Told, "lost": r.Lost, "repeated": r.Repeated, "reordered": r.Reordered,
				"refused": r.Refused, "unknown": r.Unknown, "recovered": r.Recovered, "unrecovered": r.Unrecovered, "unfounded": r.Unfounded} {
				if n > 0 {
					got[name] = true
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s%+v", diff, r)
			}
		})
	}
}

// away has the subscribers miss some publications.
func away(t *testing.T, s *clientServer, c *Crowd) {
	t.Helper()
	c.Depart()
	c.Publish()
	_, before := c.ackedEnds()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		_, now := c.ackedEnds()
		if now[0] >= before[0]+10 && now[1] >= before[1]+10 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no receipts")
		}
	}
	c.Pause(t.Context())
	if _, err := c.Return(t.Context(), 0, 2); err != nil {
		t.Fatal(err)
	}
}

func TestCrowdWithMoreChannelsThanClients(t *testing.T) {
	t.Parallel()
	s := newClientServer(t)
	o := s.options(Centrifugo)
	o.Channels = 10
	c, err := Gather(t.Context(), CrowdOptions{Options: o, Clients: 3, Publishers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := c.publishSome(t, 100)
	if r.Delivered != r.Acknowledged || r.Missing+r.Lost+r.Repeated != 0 {
		t.Errorf("%+v", r)
	}
}
