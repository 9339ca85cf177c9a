package suite

import (
	"fmt"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
	"github.com/google/go-cmp/cmp"
)

func TestPublicationsReachBothEncodings(t *testing.T) {
	t.Parallel()
	a, b := connect(t, "JSON", shared.client(), "ann", claims{"info": claims{"a": 1}}), connect(t, "Protobuf", shared.client(), "ben", nil)
	subs := []*subscription{a.subscribe(t, "stream:go-both"), b.subscribe(t, "stream:go-both")}
	for _, p := range []struct {
		c    *client
		data string
	}{{a, `{"from":"JSON"}`}, {b, `{"from":"Protobuf"}`}, {b, "\xff\x00"}, {b, "words"}} {
		if _, err := p.c.Publish(short(t), "stream:go-both", []byte(p.data)); err != nil {
			t.Fatal(err)
		}
	}
	shared.api(t, "publish", map[string]any{"channel": "stream:go-both", "data": "api", "tags": map[string]string{"k": "v"}}, nil)
	ann := &centrifuge.ClientInfo{Client: a.id, User: "ann", ConnInfo: []byte(`{"a":1}`)}
	ben := &centrifuge.ClientInfo{Client: b.id, User: "ben"}
	tags := map[string]string{"k": "v"}
	want := [2][]centrifuge.Publication{{
		{Offset: 1, Data: []byte(`{"from":"JSON"}`), Info: ann}, {Offset: 2, Data: []byte(`{"from":"Protobuf"}`), Info: ben},
		{Offset: 3, Data: []byte(`{"base64":"/wA="}`), Info: ben}, {Offset: 4, Data: []byte(`"words"`), Info: ben},
		{Offset: 5, Data: []byte(`"api"`), Tags: tags},
	}, {
		{Offset: 1, Data: []byte(`{"from":"JSON"}`), Info: ann}, {Offset: 2, Data: []byte(`{"from":"Protobuf"}`), Info: ben},
		{Offset: 3, Data: []byte("\xff\x00"), Info: ben}, {Offset: 4, Data: []byte("words"), Info: ben},
		{Offset: 5, Data: []byte(`"api"`), Tags: tags},
	}}
	for i, s := range subs {
		var got []centrifuge.Publication
		for range want[i] {
			got = append(got, next(t, s.published, "a publication").Publication)
		}
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Errorf("%d (-want +got):\n%s", i, diff)
		}
	}
}

func TestPresenceJoinsAndLeaves(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		channel := "room:go-" + string(e)
		c := connect(t, e, shared.client(), "ann", nil)
		s := c.ask(t, channel, centrifuge.SubscriptionConfig{JoinLeave: true})
		next(t, s.subscribed, "subscribed")
		other := connect(t, e, shared.client(), "ben", claims{"info": []int{1}})
		cfg := centrifuge.SubscriptionConfig{Token: token("ben", claims{"channel": channel, "info": []int{2}})}
		theirs := other.ask(t, channel, cfg)
		next(t, theirs.subscribed, "subscribed")
		ben := centrifuge.ClientInfo{Client: other.id, User: "ben", ConnInfo: []byte("[1]"), ChanInfo: []byte("[2]")}
		x := next(t, s.joined, "a join")
		if x.User == "ann" { // its own
			x = next(t, s.joined, "ben's join")
		}
		if diff := cmp.Diff(ben, x.ClientInfo); diff != "" {
			t.Error(diff)
		}
		p, err := s.Presence(short(t))
		want := map[string]centrifuge.ClientInfo{c.id: {Client: c.id, User: "ann"}, other.id: ben}
		if diff := cmp.Diff(want, p.Clients); err != nil || diff != "" {
			t.Error(err, diff)
		}
		stats, err := s.PresenceStats(short(t))
		if err != nil || stats.NumClients != 2 || stats.NumUsers != 2 {
			t.Error(stats, err)
		}
		if err := theirs.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ben, next(t, s.gone, "a leave").ClientInfo); diff != "" {
			t.Error(diff)
		}
		if stats, err := s.PresenceStats(short(t)); err != nil || stats.NumClients != 1 {
			t.Error(stats, err)
		}
		none(t, theirs.joined, "a join for whom did not ask")
	})
}

func TestHistoryIsReadByLimitFromAPositionAndBackwards(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		channel := "stream:go-history-" + string(e)
		shared.publish(t, channel, 1, 25) // 20 are kept
		c := connect(t, e, shared.client(), "ann", nil)
		newest, err := c.History(short(t), channel)
		if err != nil || newest.Offset != 25 || len(newest.Publications) > 0 {
			t.Fatal(newest, err)
		}
		at := &centrifuge.StreamPosition{Offset: 10, Epoch: newest.Epoch}
		for i, tc := range []struct {
			opts []centrifuge.HistoryOption
			want []uint64
		}{
			{[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(2)}, []uint64{6, 7}},
			{[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(2), centrifuge.WithHistoryReverse(true)}, []uint64{25, 24}},
			{[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(2), centrifuge.WithHistorySince(at)}, []uint64{11, 12}},
			{[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(2), centrifuge.WithHistorySince(at), centrifuge.WithHistoryReverse(true)}, []uint64{9, 8}},
		} {
			r, err := c.History(short(t), channel, tc.opts...)
			if err != nil {
				t.Fatal(err)
			}
			var got []uint64
			for _, p := range r.Publications {
				if got = append(got, p.Offset); string(p.Data) != fmt.Sprint(p.Offset) {
					t.Errorf("%d: %s at %d", i, p.Data, p.Offset)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%d (-want +got):\n%s", i, diff)
			}
		}
		at.Offset, at.Epoch = 23, ""
		if r, err := c.History(short(t), channel, centrifuge.WithHistoryLimit(5), centrifuge.WithHistorySince(at)); err != nil || len(r.Publications) != 2 {
			t.Errorf("any epoch: %+v, %v", r, err)
		}
		at.Epoch = "another"
		if _, err := c.History(short(t), channel, centrifuge.WithHistoryLimit(1), centrifuge.WithHistorySince(at)); code(t, err) != 112 {
			t.Errorf("another epoch: %v", err)
		}
	})
}

func TestRecoveryAcrossACut(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		w := newWire(t, shared.Public)
		c := connect(t, e, w.client(), "ann", claims{"channels": []string{"stream:go-server-" + string(e)}})
		s := c.subscribe(t, "stream:go-cut-"+string(e))
		cache := c.subscribe(t, "cache:go-"+string(e))
		server := next(t, c.subscribed, "the server's subscription")
		shared.publish(t, s.Channel, 1, 3)
		shared.publish(t, cache.Channel, 1, 1)
		s.hears(t, 1, 3, 1)
		cache.hears(t, 1, 1, 1)

		w.cut()
		next(t, c.connecting, "the cut")
		shared.publish(t, s.Channel, 4, 23)
		shared.publish(t, cache.Channel, 2, 50)
		shared.publish(t, server.Channel, 1, 5)
		w.mend()
		s.recovers(t, recovery{WasRecovering: true, Recovered: true})
		cache.recovers(t, recovery{WasRecovering: true, Recovered: true})
		if x := next(t, c.subscribed, "the server's again"); !x.WasRecovering || !x.Recovered {
			t.Errorf("%+v", x)
		}
		shared.publish(t, s.Channel, 24, 24)
		s.hears(t, 4, 24, 4)
		cache.hears(t, 50, 50, 50)
		for i := 1; i <= 5; i++ {
			if p := next(t, c.published, "the server's"); string(p.Data) != fmt.Sprint(i) || p.Offset != uint64(i) {
				t.Errorf("%s at %d", p.Data, p.Offset)
			}
		}

		w.cut()
		next(t, c.connecting, "the second cut")
		shared.publish(t, s.Channel, 25, 45)
		w.mend()
		x := s.recovers(t, recovery{WasRecovering: true}) // 20 are kept
		if x.StreamPosition == nil || x.StreamPosition.Offset != 45 {
			t.Errorf("it goes on from %+v", x.StreamPosition)
		}
		shared.publish(t, s.Channel, 46, 46)
		s.hears(t, 46, 46, 46)
	})
}

func TestRestartIsANewLife(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		n := newNode(t)
		c := connect(t, e, n.client(), "ann", claims{"channels": []string{"stream:server"}})
		next(t, c.subscribed, "the server's subscription")
		s := c.subscribe(t, "stream:restart")
		n.publish(t, s.Channel, 1, 3)
		s.hears(t, 1, 3, 1)
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(centrifuge.ConnectingEvent{Code: 3001, Reason: "shutdown"}, next(t, c.connecting, "the end")); diff != "" {
			t.Error(diff)
		}
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		if x := s.recovers(t, recovery{WasRecovering: true}); x.StreamPosition == nil || x.StreamPosition.Offset != 0 {
			t.Errorf("it goes on from %+v", x.StreamPosition)
		}
		if x := next(t, c.subscribed, "the server's again"); !x.WasRecovering || x.Recovered {
			t.Errorf("%+v", x)
		}
		n.publish(t, s.Channel, 4, 4)
		s.hears(t, 4, 4, 1)
		none(t, c.disconnected, "disconnected")
	})
}

func TestPingsKeepAConnection(t *testing.T) {
	both(t, func(t *testing.T, e encoding) { // the shared gateway pings every second, and waits for one
		c := dial(t, e, shared.client(), centrifuge.Config{MaxServerPingDelay: time.Second})
		next(t, c.connected, "connected")
		select {
		case x := <-c.connecting:
			t.Errorf("it ended: %+v", x)
		case <-time.After(5 * time.Second):
		}
	})
}

func TestServersAPIRulesConnections(t *testing.T) {
	both(t, func(t *testing.T, e encoding) {
		user, channel := "ruled-"+string(e), "stream:go-api-"+string(e)
		c := connect(t, e, shared.client(), user, nil)
		shared.publish(t, channel, 1, 1)
		shared.api(t, "subscribe", map[string]any{"user": user, "channel": channel, "data": "hello"}, nil)
		x := next(t, c.subscribed, "subscribed by the API")
		if x.Channel != channel || string(x.Data) != `"hello"` || x.StreamPosition == nil || x.StreamPosition.Offset != 1 {
			t.Errorf("%+v, %s", x, x.Data)
		}
		var published struct{ Subscribers int }
		shared.api(t, "publish", map[string]any{"channel": channel, "data": 2}, &published)
		if p := next(t, c.published, "a publication"); string(p.Data) != "2" || p.Offset != 2 || published.Subscribers != 1 {
			t.Errorf("%s at %d, %+v", p.Data, p.Offset, published)
		}
		shared.api(t, "unsubscribe", map[string]any{"user": user, "channel": channel}, nil)
		next(t, c.unsubscribed, "unsubscribed by the API")
		own := c.subscribe(t, "open:"+user)
		shared.api(t, "unsubscribe", map[string]any{"user": user, "channel": own.Channel}, nil)
		if diff := cmp.Diff(centrifuge.UnsubscribedEvent{Code: 2000, Reason: "server unsubscribe"}, next(t, own.unsubscribed, "its own")); diff != "" {
			t.Error(diff)
		}
		for _, code := range []uint32{4000, 3011} {
			shared.api(t, "disconnect", map[string]any{"user": user, "disconnect": map[string]any{"code": code, "reason": "because"}}, nil)
			if diff := cmp.Diff(centrifuge.ConnectingEvent{Code: code, Reason: "because"}, next(t, c.connecting, "a disconnect")); diff != "" {
				t.Error(diff)
			}
			next(t, c.connected, "connected again")
		}
		shared.api(t, "refresh", map[string]any{"user": user, "expired": true}, nil)
		if x := next(t, c.connecting, "expired"); x.Code != 3005 {
			t.Errorf("%+v", x)
		}
		next(t, c.connected, "connected again")
		shared.api(t, "disconnect", map[string]any{"user": user}, nil)
		if diff := cmp.Diff(centrifuge.DisconnectedEvent{Code: 3503, Reason: "force disconnect"}, next(t, c.disconnected, "the end")); diff != "" {
			t.Error(diff)
		}
		none(t, c.connecting, "it comes back")
	})
}
