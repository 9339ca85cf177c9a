package bench

import (
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/centrifugal/protocol"
)

// crowded makes the loop one of a crowd's.
func (l *loop) crowded(c *Crowd) {
	j := &journal{
		seen:    make([]bitset, min(len(c.run.target.audience.channels), streamsMost)),
		latency: newLatency(), back: newLatency(), receipt: newLatency(),
	}
	l.do(func() {
		l.journal = j
		l.tally = newTally(phase{mark: c.mark, streams: 1}, 0)
		l.joined = func(k *conn, s stamp, now int64) { k.member.took(j, s, now) }
		l.rejoined = func(k *conn, sub *subscription, res *protocol.SubscribeResult) { k.member.placed(j, sub, res) }
	})
}

// seatOf returns the account of a stream's channel, nil if it is none of the member's.
func (m *member) seatOf(stream int) *seat {
	i := 0
	if n := m.crowd.options.Clients; len(m.seats) > 1 {
		i = stream / n
	}
	if i >= len(m.seats) || m.seats[i].stream != stream {
		return nil
	}
	return &m.seats[i]
}

// placed takes the answer to a subscription, before what was recovered with it.
func (m *member) placed(j *journal, sub *subscription, res *protocol.SubscribeResult) {
	s := &m.seats[0]
	for i := range m.seats {
		if sub.channel == m.crowd.run.target.audience.channels[m.seats[i].stream] {
			s = &m.seats[i]
		}
	}
	switch {
	case !sub.recover:
		s.told = m.downAt > 0 // it comes back without a position
	case !res.Recovered:
		if away := m.loop.clock.now() - m.downAt; m.crowd.options.Window > 0 && m.downAt > 0 && away > int64(m.crowd.options.Window) {
			j.outside++
		} else {
			j.unrecovered++
		}
		s.told = true
	default:
		j.recovered++
		if res.Epoch != sub.epoch {
			j.unfounded++
		}
	}
}

// took takes a publication.
func (m *member) took(j *journal, st stamp, now int64) {
	s := m.seatOf(int(st.stream))
	if s == nil {
		m.loop.foreign++
		return
	}
	switch {
	case st.seq > s.next:
		s.missed = append(s.missed, missed{span{s.next, st.seq}, s.told})
	case st.seq < s.next:
		if !s.late(st.seq) {
			j.repeated++
			return
		}
		j.reordered++
	}
	if st.seq >= s.next {
		s.next, s.told = st.seq+1, false
	}
	j.delivered++
	j.seen[st.stream].add(st.seq)
	j.latency.RecordValue(min(max(time.Duration(now-st.scheduled), 0), latencyMax).Microseconds()) // ignored: within the bounds
}

// late takes a number out of what was missed, and reports whether it was there.
func (s *seat) late(seq uint32) bool {
	for i, g := range s.missed {
		if seq < g.from || seq >= g.to {
			continue
		}
		rest := append([]missed(nil), s.missed[:i]...) // a copy: a hole may become two
		if g.from < seq {
			rest = append(rest, missed{span{g.from, seq}, g.told})
		}
		if seq+1 < g.to {
			rest = append(rest, missed{span{seq + 1, g.to}, g.told})
		}
		s.missed = append(rest, s.missed[i+1:]...)
		return true
	}
	return false
}

// CrowdReport is what a crowd has seen so far.
type CrowdReport struct {
	Clients   int // subscribers and publishers
	Connected int

	Acknowledged int64 // publications with a receipt
	Refused      int64 // ... with an error instead
	Unknown      int64 // ... with neither: the connection was lost before

	Delivered int64 // distinct publications, of all subscribers
	Repeated  int64
	Reordered int64
	Missing   int64 // acknowledged publications that a subscriber has not got, and does not know of
	Told      int64 // ... and was told that it may miss something
	Lost      int64 // acknowledged publications that no subscriber has got

	Recovered   int64 // subscriptions with a position, answered with recovered: true
	Unrecovered int64 // ... with false
	Outside     int64 // ... with false, after the window
	Unfounded   int64 // of the recovered: in another epoch

	Latency, Receipt, Back Times // of deliveries, receipts and returns
	Failure                error // the last one of a client that tried to come back
}

// Times are the percentiles of some durations.
type Times struct {
	Count         int64
	P50, P99, Max time.Duration
}

func timesOf(h *hdr.Histogram) Times {
	at := func(q float64) time.Duration { return time.Duration(h.ValueAtPercentile(q)) * time.Microsecond }
	return Times{h.TotalCount(), at(50), at(99), time.Duration(h.Max()) * time.Microsecond}
}

// ackedEnds returns what was acknowledged in each stream, and the number behind the last one.
func (c *Crowd) ackedEnds() (acked []bitset, ends []uint32) {
	n := len(c.run.target.audience.channels)
	acked, ends = make([]bitset, n), make([]uint32, n)
	for _, m := range c.authors {
		m.loop.do(func() {
			for i, s := range m.author.streams {
				acked[s] = append(bitset(nil), m.author.acked[i]...)
				ends[s] = m.author.ackedEnd[i]
			}
		})
	}
	return acked, ends
}

// current reports whether every subscriber has all that was acknowledged, or was told that it may
// have missed it.
func (c *Crowd) current() bool {
	_, ends := c.ackedEnds()
	for _, l := range c.fleet.loops {
		behind := false
		l.do(func() {
			for _, m := range c.members {
				if m.loop != l || behind {
					continue
				}
				for _, s := range m.seats {
					behind = behind || s.next < ends[s.stream] && !s.told
				}
			}
		})
		if behind {
			return false
		}
	}
	return true
}

// Report returns the figures so far. Publications under way count as missing: call Await before.
func (c *Crowd) Report() CrowdReport {
	r := CrowdReport{Clients: len(c.members), Connected: c.Connected(), Acknowledged: c.acked.Load()}
	acked, ends := c.ackedEnds()
	seen := make([]bitset, len(acked))
	latency, back, receipt := newLatency(), newLatency(), newLatency()
	for _, l := range c.fleet.loops {
		l.do(func() {
			j := l.journal
			r.Refused += j.refused
			r.Unknown += j.unknown
			r.Delivered += j.delivered
			r.Repeated += j.repeated
			r.Reordered += j.reordered
			r.Recovered += j.recovered
			r.Unrecovered += j.unrecovered
			r.Unfounded += j.unfounded
			r.Outside += j.outside
			latency.Merge(j.latency) // ignored: all have the same bounds, nothing is dropped
			back.Merge(j.back)       // ignored: as above
			receipt.Merge(j.receipt) // ignored: as above
			if j.lastErr != nil {
				r.Failure = j.lastErr
			}
			for s, b := range j.seen {
				seen[s] = union(seen[s], b)
			}
			for _, m := range c.members {
				if m.loop == l {
					m.count(&r, acked, ends)
				}
			}
		})
	}
	for s, b := range acked {
		for n := range ends[s] {
			if b.has(n) && !seen[s].has(n) {
				r.Lost++
			}
		}
	}
	r.Latency, r.Back, r.Receipt = timesOf(latency), timesOf(back), timesOf(receipt)
	return r
}

// count adds what a member has not got of what was acknowledged.
func (m *member) count(r *CrowdReport, acked []bitset, ends []uint32) {
	for _, s := range m.seats {
		add := func(g missed) {
			for n := g.from; n < g.to; n++ {
				switch {
				case !acked[s.stream].has(n):
				case g.told:
					r.Told++
				default:
					r.Missing++
				}
			}
		}
		for _, g := range s.missed {
			add(g)
		}
		if end := ends[s.stream]; s.next < end {
			add(missed{span{s.next, end}, s.told})
		}
	}
}

func union(a, b bitset) bitset {
	for len(a) < len(b) {
		a = append(a, 0)
	}
	for i, w := range b {
		a[i] |= w
	}
	return a
}

// ResetTimes forgets the durations so far.
func (c *Crowd) ResetTimes() {
	for _, l := range c.fleet.loops {
		l.do(func() {
			l.journal.latency, l.journal.back, l.journal.receipt = newLatency(), newLatency(), newLatency()
		})
	}
}
