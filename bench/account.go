package bench

import (
	"strconv"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// account is what one phase gave.
type account struct {
	schedule
	rate      float64
	published int
	sendings  []sending

	subscribers int
	delivered   int64
	lost        int64
	lostCut     int64
	repeated    int64
	reordered   int64
	stale       int64
	foreign     int64
	holes       int64
	repeats     int64
	gaps        int64
	reads       int64
	cut         int64

	latency    *hdr.Histogram
	last       *hdr.Histogram // from the due time to the last subscriber
	incomplete int64
	lastSeen   int64 // on the clock

	elapsed      time.Duration // first due to the end of the phase
	serverCPU    time.Duration
	generatorCPU time.Duration
}

// settle takes the accounts of the loops and adds them up.
func (r *fanout) settle(a *account) {
	published := make([]uint32, a.streams)
	for i := range published {
		published[i] = a.of(i, a.sendings[i%a.publishers].published)
	}
	a.latency, a.last = newLatency(), newLatency()
	heard := make([]arrival, a.perStream()*a.streams)
	alive := make([]uint32, a.streams) // connections that should have got a stream
	for _, l := range r.fleet.loops {
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
				if c.cut {
					a.lostCut += n
					a.cut++
				} else {
					for i := first; i < end; i++ {
						alive[i]++
					}
				}
			}
			a.subscribers += len(l.conns)
			a.reads += l.reads
			a.add(t)
			for i, h := range t.heard {
				if h.count > 0 {
					heard[i].last = max(heard[i].last, h.last)
					heard[i].scheduled = h.scheduled
					heard[i].count += h.count
				}
			}
		})
	}
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

func (a *account) add(t *tally) {
	a.delivered += t.delivered
	a.repeated += t.repeated
	a.reordered += t.reordered
	a.stale += t.stale
	a.foreign += t.foreign
	a.holes += t.holes
	a.gaps += t.gaps
	a.repeats += t.repeats
	a.latency.Merge(t.latency) // ignored: all have the same bounds, nothing is dropped
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
	res := r.result
	res.set("subscribers", float64(a.subscribers))
	if a.apart {
		res.set("channels", float64(a.streams))
	}
	res.set("published", float64(a.published))
	res.set("delivered", float64(a.delivered))
	res.set("lost", float64(a.lost))
	res.set("lost_cut", float64(a.lostCut))
	res.set("repeated", float64(a.repeated))
	res.set("reordered", float64(a.reordered))
	res.set("stale", float64(a.stale))
	res.set("foreign", float64(a.foreign))
	if r.Protocol.positions() {
		res.set("holes", float64(a.holes+a.gaps)) // nobody asked for the past
		res.set("repeats", float64(a.repeats))
	}
	res.set("cut", float64(a.cut))
	res.set("incomplete", float64(a.incomplete))
	res.setLatency("", a.latency)
	res.setLatency("last_", a.last)
	if a.delivered > 0 {
		took := time.Duration(a.lastSeen - a.start)
		res.set("elapsed", took.Seconds())
		res.set("deliveries_per_second", float64(a.delivered)/took.Seconds())
		res.set("catch_up", a.catchUp().Seconds())
		res.set("messages_per_read", float64(a.delivered)/float64(max(a.reads, 1)))
	}
	if r.server != nil {
		res.set("server_cpu", a.serverCPU.Seconds())
		res.set("server_cpu_percent", 100*a.serverCPU.Seconds()/a.elapsed.Seconds())
		if a.delivered > 0 {
			res.set("server_cpu_per_delivery", a.serverCPU.Seconds()/float64(a.delivered))
		}
		if rss, err := r.server.rss(); err == nil { // else it has died, and the figure is absent
			res.set("server_rss", float64(rss))
		}
	}
	for _, l := range r.fleet.loops {
		l.do(func() {
			for code, n := range l.closes {
				res.Closes[strconv.Itoa(int(code))] += n
			}
		})
	}
	res.setHandshakes(r.target)
	res.setGenerator(a)
	res.judgeGenerator(a)
}

// setGenerator reports how well the tester did its own part.
func (res *Result) setGenerator(a *account) {
	res.set("generator_cpu_percent", 100*a.generatorCPU.Seconds()/a.elapsed.Seconds())
	late, blocked := newLatency(), time.Duration(0)
	var retries int64
	for _, s := range a.sendings {
		late.Merge(s.late) // ignored: the bounds are the same
		retries += s.retries
		blocked = max(blocked, s.blocked)
	}
	res.set("push_back_max", blocked.Seconds())
	res.set("publish_retries", float64(retries))
	if a.rate == 0 || late.TotalCount() == 0 {
		return
	}
	res.set("late", 100*a.lateShare())
	res.set("late_p99", float64(late.ValueAtPercentile(99))/1e6)
	res.set("late_max", float64(late.Max())/1e6)
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
