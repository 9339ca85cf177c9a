package control

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/api"
	"sluice/gateway/channel"
	"sluice/gateway/engine/local"

	"github.com/google/go-cmp/cmp"
)

func TestTheBusiestChannelsAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		space := channel.NewSpace(1<<10, 100, channel.NewBudget(1<<20))
		space.KeepHistory(channel.History{Of: func(string) channel.Keep { return channel.Keep{Count: 1, TTL: 1 << 40} }, Budget: channel.NewBudget(1 << 20)}, time.Now().UnixMilli())
		node := &Node{Space: space, Engine: local.Engine{Space: space}, Text: func(s string) string { return s }}
		trim := func() {
			for range 8 {
				time.Sleep(time.Second) // of the bubble's clock
				space.Trim(time.Now().UnixMilli())
			}
		}
		publish := func(name string, n int) {
			c, err := space.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if _, err := c.Publish(&channel.Publication{}, new(channel.Scratch), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := func(why string, r api.ChannelStatsRequest, want api.ChannelStatsResult) {
			t.Helper()
			got, err := node.ChannelStats(t.Context(), &r)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%s: %v (-want +got):\n%s", why, err, diff)
			}
		}
		publish("quiet", 0)
		space.Find("quiet").Joined()
		publish("loud", 0)
		trim()
		publish("loud", 4)
		trim()
		quiet, loud := api.ChannelStats{Channel: "quiet", NumClients: 1}, api.ChannelStats{Channel: "loud", Rate: 0.5}
		want("by rate", api.ChannelStatsRequest{Sort: "rate", Limit: 2}, api.ChannelStatsResult{NumChannels: 2, Channels: []api.ChannelStats{loud, quiet}})
		want("by clients", api.ChannelStatsRequest{Sort: "clients", Limit: 1}, api.ChannelStatsResult{NumChannels: 2, Channels: []api.ChannelStats{quiet}})
		publish("new", 1)
		want("within a second", api.ChannelStatsRequest{Sort: "rate", Limit: 9}, api.ChannelStatsResult{NumChannels: 2, Channels: []api.ChannelStats{loud, quiet}})
		time.Sleep(statsTime)
		want("later", api.ChannelStatsRequest{Sort: "rate", Limit: 9}, api.ChannelStatsResult{NumChannels: 3, Channels: []api.ChannelStats{loud, quiet, {Channel: "new"}}})
		want("one", api.ChannelStatsRequest{Channel: "loud"}, api.ChannelStatsResult{NumChannels: 3, Channels: []api.ChannelStats{loud}})
		want("nobody's", api.ChannelStatsRequest{Channel: "nobody's"}, api.ChannelStatsResult{NumChannels: 3})
		if _, err := node.ChannelStats(t.Context(), &api.ChannelStatsRequest{Channel: "a b"}); err == nil {
			t.Error("a name that no channel can have")
		}
	})
}
