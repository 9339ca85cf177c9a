package main

import (
	"slices"
	"strings"
	"time"

	"sluice/bench"
)

// soak: everything is killed once in a while, one after the other, and in the end there is no quorum.
// Beside the row's own clients there are Centrifugo's, which publish and subscribe over WebSocket.
func soak(r *Run) error {
	gateways := Param(r, "gateways", 3, 3)
	servers := Param(r, "nats_servers", 3, 3)
	o := r.crowd(crowdOptions{120, 2, 60, 200}, crowdOptions{4500, 20, 120, 200})
	centrifugo := Param(r, "centrifugo_clients", 60, 4500)
	rate := Param(r, "centrifugo_messages_per_second", 30.0, 60.0)
	lasts := Param(r, "lasts", time.Second, 20*time.Minute)
	between := Param(r, "between", 300*time.Millisecond, 25*time.Second)
	away := Param(r, "away", 300*time.Millisecond, 4*time.Second)
	without := Param(r, "without_quorum", 5*time.Second, 30*time.Second)
	back := Param(r, "back_within", currentWithin, 10*time.Second)

	p := r.StartCluster(gateways, servers, 5000).populate(o)
	crowds := map[string]*bench.Crowd{}
	for _, channel := range []string{"kept-", "live:crowd-"} {
		crowds[channel] = must(bench.Gather(r.ctx, bench.CrowdOptions{
			Options: bench.Options{URL: "ws://" + p.started[0].Public, Protocol: bench.Centrifugo, Channel: channel, Channels: 2 * o.channels},
			Nodes:   p.urls()[1:], Clients: centrifugo / 2, Publishers: 2 * o.channels, Rate: rate / 2, Size: o.size,
		}))
		defer crowds[channel].Close() // ignored: what it has is judged before
		crowds[channel].Publish()
	}
	kills := 0
	for end := time.Now().Add(lasts); time.Now().Before(end) || kills < 2; kills++ {
		noError(r.Pause(between))
		if i := r.random.IntN(gateways); kills%2 == 0 {
			p.KillGateway(i)
			noError(r.Pause(away))
			p.StartGateway(i)
		} else {
			i := r.random.IntN(servers)
			p.KillServer(i)
			noError(r.Pause(away))
			p.StartServer(i)
		}
		p.AwaitCurrent(p.clients)
		for _, c := range crowds {
			r.Await(currentWithin, func() bool { return c.Connected() == centrifugo/2+2*o.channels })
		}
	}
	r.Count("kills", float64(kills))

	left := r.random.IntN(servers)
	for i := range servers {
		if i != left {
			p.KillServer(i)
		}
	}
	noError(r.Pause(without / 2)) // gateways that had one of these have found the other one
	middle := time.Since(r.began)
	published, live := acknowledged(r.authors)
	noError(r.Pause(without / 2))
	withoutQuorum, liveThen := acknowledged(r.authors)
	silent := slices.IndexFunc(p.clients, func(c *Client) bool { return c.numbers != nil && c.newest.Load() < int64(middle) })
	r.Check("without quorum", silent < 0 && liveThen > live && withoutQuorum == published,
		"channels without history: %d publications acknowledged, and a client without any of them: %t; with history: %d", liveThen-live, silent >= 0, withoutQuorum-published)
	for i := range servers {
		if i != left {
			p.StartServer(i)
		}
	}
	p.AwaitCurrent(p.clients)
	for channel, c := range crowds {
		r.finishCrowd(channel, c, strings.HasPrefix(channel, "kept"))
	}
	p.finish(back)
	return nil
}

// urls returns the addresses of the gateways for bench's clients.
func (c *Cluster) urls() (urls []string) {
	for _, g := range c.started {
		urls = append(urls, "ws://"+g.Public)
	}
	return urls
}

// acknowledged counts the publications with a receipt, of channels with history and of the others.
func acknowledged(authors []*author) (kept, live int) {
	for _, a := range authors {
		_, n := a.counts()
		if strings.HasPrefix(a.channel, "live:") {
			live += n
		} else {
			kept += n
		}
	}
	return kept, live
}

// finishCrowd judges what Centrifugo's clients have seen. Recovery is possible in channels that keep a
// history.
func (r *Run) finishCrowd(channel string, c *bench.Crowd, kept bool) {
	c.Pause(r.ctx)
	all := c.Await(r.ctx, currentWithin)
	got := c.Report()
	r.Check(channel+" current", all || !kept, "%d of %d clients connected, the last failure: %v", got.Connected, got.Clients, got.Failure)
	r.Check(channel+" silent", got.Missing == 0 && got.Repeated == 0 && got.Reordered == 0 && got.Unfounded == 0,
		"%d publications missing without notification, %d repeated, %d out of order, %d recoveries without ground; %d delivered", got.Missing, got.Repeated, got.Reordered, got.Unfounded, got.Delivered)
	share := float64(got.Recovered) / float64(max(got.Recovered+got.Unrecovered, 1))
	if kept {
		r.Check(channel+" lost", got.Lost == 0, "%d of %d acknowledged publications that no client has", got.Lost, got.Acknowledged)
		r.Check(channel+" recovered", share >= 0.999, "%d of %d (%.4f)", got.Recovered, got.Recovered+got.Unrecovered, share)
	}
	r.Count(channel+"acknowledged", float64(got.Acknowledged))
	r.Count(channel+"told_missing", float64(got.Told))
	r.Count(channel+"back_p50_seconds", got.Back.P50.Seconds())
	r.Count(channel+"back_p99_seconds", got.Back.P99.Seconds())
}
