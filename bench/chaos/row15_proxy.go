package main

import (
	"fmt"
	"slices"
	"time"
)

func proxyChaos(r *Run) error {
	clients := Param(r, "clients", 100, 5000)
	channels := Param(r, "channels", 2, 10)
	rate := Param(r, "messages_per_second_and_channel", 25.0, 1.0)
	size := Param(r, "message_bytes", 256, 256)
	lasts := Param(r, "lasts", 4*time.Second, 5*time.Minute)
	faults := Param(r, "faults", proxyFaults{Life: 700 * time.Millisecond, Half: 0.2, Delay: 20 * time.Millisecond, Chop: 0.25, Bytes: 32},
		proxyFaults{Life: 22 * time.Second, Half: 0.2, Delay: 200 * time.Millisecond, Chop: 0.25, Bytes: 32})
	g := must(r.Start())
	p, err := newProxy(g.Public, r.random.Uint64(), faults)
	if err != nil {
		return fmt.Errorf("start the proxy: %w", err)
	}
	defer p.Close()
	var all []*Client
	var publishers []*Publisher
	for i := range channels {
		name := fmt.Sprintf("row-%d", i)
		some := must(r.Join(g, clients/channels, ClientOptions{Name: name, Channel: name, ComeBack: true, Through: p.listen.Addr().String()}))
		all = append(all, some...)
		publishers = append(publishers, r.Publish(g, name, rate, size))
	}
	p.Rage()
	r.Say("%d clients, the proxy starts its faults", len(all))
	noError(r.Pause(lasts))
	p.Calm()
	back := r.Await(30*time.Second, func() bool {
		return !slices.ContainsFunc(all, func(c *Client) bool { return !c.Connected() })
	})
	r.Check("all have reconnected", back, "within 30 s of the last fault")
	must(r.StopPublishing(publishers...))
	r.Settle(30 * time.Second)
	r.Count("proxy_resets", float64(p.resets.Load()))
	r.Count("proxy_half_closes", float64(p.halves.Load()))
	r.Count("proxy_segments_of_one_byte", float64(p.chopped.Load()))
	r.Count("proxy_bytes", float64(p.carried.Load()))
	r.Check("the faults happened", p.resets.Load() >= int64(clients) && p.halves.Load() > 0 && p.chopped.Load() > 0,
		"%d resets, %d half closes, %d one-byte segments", p.resets.Load(), p.halves.Load(), p.chopped.Load())
	return r.Judge(g)
}
