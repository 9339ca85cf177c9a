package bench

import (
	"context"
	"math"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// account is what one phase gave.
type account struct {
	schedule
	counts
	rate      float64
	published int
	sendings  []sending

	subscribers int
	lost        int64
	lostCut     int64
	reads       int64
	bytes       int64
	cut         int64

	latency    *hdr.Histogram // of all; with several nodes, also apart:
	near       *hdr.Histogram // on the publisher's node
	far        *hdr.Histogram // on the others
	orders     int            // the most epochs that a channel had: 1 if all nodes agree
	nodeShares []NodeShare
	last       *hdr.Histogram // from the due time to the last subscriber
	incomplete int64
	lastSeen   int64 // on the clock

	elapsed time.Duration // first due to the end of the phase
	used    Usage
}

// await waits until all of a phase is delivered, until nothing has come for catchUp, or, when bound
// is not zero, until that long after the last message was due.
func (f *fleet) await(ctx context.Context, a *account, catchUp, bound time.Duration) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	progressAt, before := a.clock.now(), int64(-1)
	for {
		want := int64(a.published) * f.live() // before delivered: see loop.live
		switch {
		case a.apart && f.live() < int64(a.subscribers):
			want = math.MaxInt64 // it depends on who was cut: catchUp ends it
		case a.apart:
			want /= int64(a.streams)
		}
		got := f.delivered()
		now := a.clock.now()
		if got >= want {
			return
		}
		if got != before {
			progressAt, before = now, got
		}
		if bound > 0 && now > a.end(a.count)+int64(bound) || now-progressAt > int64(catchUp) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// settle takes the accounts of the loops and adds them up.
func (f *fleet) settle(a *account) {
	published := make([]uint32, a.streams)
	for i := range published {
		published[i] = a.of(i, a.sendings[i%a.publishers].published)
	}
	a.subscribers, a.latency, a.last = 0, newLatency(), newLatency()
	a.near, a.far = newLatency(), newLatency()
	a.nodeShares = make([]NodeShare, len(f.nodes))
	var places [][]place
	heard := make([]arrival, a.perStream()*a.streams)
	alive := make([]uint32, a.streams) // connections that should have got a stream
	for _, l := range f.loops {
		l.do(func() {
			t := l.finish()
			for _, c := range l.conns {
				if c.refused {
					continue // it has failed, and is counted as that
				}
				first, end := 0, a.streams
				if a.apart {
					first, end = c.stream, c.stream+1
				}
				n := t.lost(c.index, published[first:end])
				a.lost += n
				share := &a.nodeShares[c.node]
				share.Subscribers++
				share.Lost += n
				share.Delivered += t.received(c.index)
				if c.cut {
					a.lostCut += n
					a.cut++
					share.Cut++
				} else {
					for i := first; i < end; i++ {
						alive[i]++
					}
				}
			}
			a.subscribers += len(l.conns)
			a.reads += l.reads
			a.bytes += l.bytes
			a.add(t.counts)
			a.latency.Merge(t.latency) // ignored: all have the same bounds, nothing is dropped
			if t.far != nil {
				a.near.Merge(t.latency) // ignored: as above
				a.far.Merge(t.far)      // ignored: as above
				a.latency.Merge(t.far)  // ignored: as above
			}
			if t.places != nil {
				places = append(places, t.places)
			}
			for i, h := range t.heard {
				if h.count > 0 {
					heard[i].last = max(heard[i].last, h.last)
					heard[i].scheduled = h.scheduled
					heard[i].count += h.count
				}
			}
		})
	}
	a.settlePlaces(places)
	for stream, n := range published {
		for _, h := range heard[stream*a.perStream():][:n] {
			a.lastSeen = max(a.lastSeen, h.last)
			if h.count < alive[stream] || h.count == 0 {
				a.incomplete++
				continue
			}
			v := time.Duration(h.last - h.scheduled)
			a.last.RecordValue(min(max(v, 0), latencyMax).Microseconds()) // ignored: within the bounds
		}
	}
}

// settlePlaces compares the positions that messages had in all loops and on all nodes.
func (a *account) settlePlaces(loops [][]place) {
	if len(loops) == 0 {
		return
	}
	per, all := a.perStream(), len(loops[0])/a.nodes
	epochs := map[uint64]bool{}
	for stream := range a.streams {
		if a.apart {
			clear(epochs) // each is a channel
		}
		for i := stream * per; i < (stream+1)*per; i++ {
			first := map[uint64]uint64{} // the offset in each epoch
			for _, places := range loops {
				for node := range a.nodes {
					p := places[node*all+i]
					if p.epoch == 0 {
						continue
					}
					epochs[p.epoch] = true
					if offset, ok := first[p.epoch]; !ok {
						first[p.epoch] = p.offset
					} else if offset != p.offset {
						a.misled++
					}
				}
			}
		}
		a.orders = max(a.orders, len(epochs))
	}
}

// catchUp is how long after the last message was due the last delivery came.
func (a *account) catchUp() time.Duration {
	if a.published == 0 || a.lastSeen == 0 {
		return 0
	}
	return time.Duration(max(a.lastSeen-a.end(a.published), 0))
}

// report turns an account into figures.
func (r *fanout) report(a *account) {
	res := r.Result
	res.SetCounts(map[string]int64{
		"subscribers": int64(a.subscribers), "published": int64(a.published), "delivered": a.delivered, "incomplete": a.incomplete,
		"lost": a.lost, "lost_cut": a.lostCut, "repeated": a.repeated, "reordered": a.reordered, "stale": a.stale, "foreign": a.foreign, "cut": a.cut,
	})
	if a.apart {
		res.Set("channels", float64(a.streams))
	}
	several := a.home != nil
	switch {
	case several && r.Protocol.positions(): // a gap may be what a node has missed, and says so
		res.SetCounts(map[string]int64{"holes": a.holes, "repeats": a.repeats, "gaps": a.gaps, "disagreements": a.misled, "orders": int64(a.orders)})
	case r.Protocol.positions(): // nobody asked for the past, so that a gap is a hole
		res.SetCounts(map[string]int64{"holes": a.holes + a.gaps, "repeats": a.repeats})
	}
	res.setLatency("", a.latency)
	if several {
		res.Set("nodes", float64(a.nodes))
		res.setLatency("same_node_", a.near)
		res.setLatency("other_nodes_", a.far)
		res.Nodes = a.nodeShares
		for i, t := range r.fleet.nodes {
			res.Nodes[i].URL = t.url.String()
		}
	}
	res.setLatency("last_", a.last)
	if a.delivered > 0 {
		took := time.Duration(a.lastSeen - a.start)
		res.Set("elapsed", took.Seconds())
		res.Set("deliveries_per_second", float64(a.delivered)/took.Seconds())
		res.Set("catch_up", a.catchUp().Seconds())
		res.Set("messages_per_read", float64(a.delivered)/float64(max(a.reads, 1)))
		res.Set("bytes_per_delivery", float64(a.bytes)/float64(a.delivered))
	}
	r.SetUsage(a.used, a.elapsed, "server_cpu_per_delivery", a.delivered)
	for _, l := range r.fleet.loops {
		l.do(func() { res.addCloses(l.closes) })
	}
	res.setGenerator(a)
	res.judgeGenerator(a)
}

// setGenerator reports how well the tester did its own part.
func (res *Result) setGenerator(a *account) {
	late, blocked := newLatency(), time.Duration(0)
	var retries int64
	for _, s := range a.sendings {
		late.Merge(s.late) // ignored: the bounds are the same
		retries += s.retries
		blocked = max(blocked, s.blocked)
	}
	res.Set("push_back_max", blocked.Seconds())
	res.Set("publish_retries", float64(retries))
	if a.rate == 0 || late.TotalCount() == 0 {
		return
	}
	res.Set("late", 100*a.lateShare())
	res.Set("late_p99", float64(late.ValueAtPercentile(99))/1e6)
	res.Set("late_max", float64(late.Max())/1e6)
}

// judgeGenerator makes a run INVALID whose latencies the tester itself has spoilt.
func (res *Result) judgeGenerator(a *account) {
	if share := a.lateShare(); share > lateShareMax {
		res.invalidate("the tester sent %.1f %% of the messages more than %s after they were due: give it more CPU, or lower --rate or the number of connections",
			100*share, a.lateBound().Round(time.Millisecond))
	}
}

// lateShare is the part of the sends that were late, from 0 to 1.
func (a *account) lateShare() float64 {
	var late, sends int64
	for _, s := range a.sendings {
		late += s.lateSends
		sends += int64(s.published)
	}
	return float64(late) / float64(max(sends, 1))
}

// lateShareMax is the share of late sends from which a run is INVALID.
const lateShareMax = 0.01
