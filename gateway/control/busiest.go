package control

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/gateway/api"
	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// The busiest channels are found by looking at all of them, of which there may be a million. So a
// list serves for a while: at least statsTime, and long enough that finding it takes no more than a
// hundredth of the time, however often anybody asks.
const (
	statsTime = time.Second
	statsCost = 100
	statsMost = 100 // channels of a list: what a request can ask for
)

// busiestOrders are what the busiest channels can have most of.
var busiestOrders = map[string]func(a, b channel.Busy) int{
	"rate": func(a, b channel.Busy) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Subscribers, a.Subscribers), cmp.Compare(a.Name, b.Name))
	},
	"clients": func(a, b channel.Busy) int {
		return cmp.Or(cmp.Compare(b.Subscribers, a.Subscribers), cmp.Compare(b.Rate, a.Rate), cmp.Compare(a.Name, b.Name))
	},
}

// busiest keeps the lists. The zero value is ready.
type busiest struct {
	mu    sync.Mutex // held while a list is made: those who ask meanwhile wait for it
	lists map[string]busiestList
}

// busiestList is a list that serves until a time. Immutable.
type busiestList struct {
	channels []api.ChannelStats
	all      int
	until    time.Time
}

// list returns the list of that order, a new one if the last has served.
func (b *busiest) list(space *channel.Space, order string) busiestList {
	b.mu.Lock()
	defer b.mu.Unlock()
	begun := time.Now()
	l := b.lists[order]
	if begun.Before(l.until) {
		return l
	}
	found, all := space.Busiest(statsMost, busiestOrders[order])
	l = busiestList{all: all, channels: make([]api.ChannelStats, 0, len(found))}
	for _, c := range found {
		l.channels = append(l.channels, stats(c))
	}
	l.until = begun.Add(max(statsTime, statsCost*time.Since(begun)))
	if b.lists == nil {
		b.lists = make(map[string]busiestList)
	}
	b.lists[order] = l
	return l
}

func stats(c channel.Busy) api.ChannelStats {
	return api.ChannelStats{Channel: c.Name, NumClients: c.Subscribers, Rate: c.Rate}
}

// ChannelStats implements api.Node. Every node that has a channel appends all of its publications: their
// rate is that of the node where it is highest.
func (n *Node) ChannelStats(ctx context.Context, r *api.ChannelStatsRequest) (api.ChannelStatsResult, error) {
	if r.Channel != "" && !channel.ValidName(r.Channel) {
		return api.ChannelStatsResult{}, n.fault(engine.BadChannel)
	}
	out, others, partial, err := everywhere(ctx, n, "channel_stats", r, (*Node).channelStats)
	if err != nil {
		return api.ChannelStatsResult{}, err
	}
	out.Partial = partial
	if len(others) > 0 {
		out.Channels = merged(append(others, out), busiestOrders[r.Sort])
		for _, one := range others {
			out.NumChannels = max(out.NumChannels, one.NumChannels)
		}
	}
	if r.Channel == "" {
		out.Channels = out.Channels[:min(r.Limit, len(out.Channels))]
	}
	return out, nil
}

// merged returns the lists of several nodes as one.
func merged(lists []api.ChannelStatsResult, order func(a, b channel.Busy) int) []api.ChannelStats {
	all := make(map[string]channel.Busy)
	for _, one := range lists {
		for _, c := range one.Channels {
			sum := all[c.Channel]
			all[c.Channel] = channel.Busy{Name: c.Channel, Subscribers: sum.Subscribers + c.NumClients, Rate: max(sum.Rate, c.Rate)}
		}
	}
	list := slices.Collect(maps.Values(all))
	if order != nil { // nil: of one channel
		slices.SortFunc(list, order)
	}
	out := make([]api.ChannelStats, 0, len(list))
	for _, c := range list {
		out = append(out, stats(c))
	}
	return out
}

// channelStats returns this node's busiest channels, or one of its channels.
func (n *Node) channelStats(_ context.Context, r *api.ChannelStatsRequest) (api.ChannelStatsResult, error) {
	if r.Channel == "" {
		if busiestOrders[r.Sort] == nil {
			return api.ChannelStatsResult{}, api.ErrBadRequest // a newer node knows it
		}
		l := n.busiest.list(n.Space, r.Sort)
		return api.ChannelStatsResult{NumChannels: l.all, Channels: l.channels}, nil
	}
	out := api.ChannelStatsResult{NumChannels: n.Space.Channels()}
	if c, ok := n.Space.Look(r.Channel); ok {
		out.Channels = []api.ChannelStats{stats(c)}
	}
	return out, nil
}
