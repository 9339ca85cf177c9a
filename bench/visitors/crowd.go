package visitors

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"sluice/bench/record"
	"sluice/bench/wsclient"
)

// pace are the times of a crowd.
type pace struct {
	stay     time.Duration // then all leave
	backOff  time.Duration // before coming back: once to twice this time, doubled after each failure
	lines    time.Duration // between what changes
	ledger   time.Duration // between ledgers
	settle   time.Duration // after which a loss is counted
	overdue  time.Duration // after which what others have received counts as lost on a connection
	grace    time.Duration // after a cut, for losses and repeats of what was caught up on
	patience time.Duration // those who are not back from a cut by then do not come back
}

// usual is the pace of visitors; the back-off is that of PROTOCOL.md.
var usual = pace{stay: 2 * time.Minute, backOff: 500 * time.Millisecond, lines: 50 * time.Millisecond, ledger: time.Second,
	settle: 500 * time.Millisecond, overdue: 5 * time.Second, grace: time.Second, patience: 15 * time.Second}

// crowd is all visitors, and what they have in common.
type crowd struct {
	// Set at construction.
	url      string // without a position
	visitors []*visitor
	clock    func() time.Time
	pace     pace
	end      context.CancelCauseFunc

	mu        sync.Mutex     // guards all below, and the visitors
	seen      publications   // that anybody has received
	connected int            // have been so at least once
	left      int            // will not come back
	open      dots           // are connected
	changed   bool           // open is, since it was written
	flash     dots           // have received something since it was written
	counts    counts         // of all; what is lost without losses
	losses    []loss         // that are not counted yet
	latency   *hdr.Histogram // microseconds, since the last ledger with any
	cuts      []*cut         // that are not reported yet
}

// counts are messages.
type counts struct{ received, lost, repeated, caughtUp uint64 }

// visitor is one client. All of it is guarded by crowd.mu.
type visitor struct {
	index  int
	conn   *wsclient.Conn // nil while it has none
	opened time.Time      // of conn; zero before the first
	known  bool           // it has a position:
	epoch  string
	last   uint64 // offset
	target uint64 // what it has missed ends here
	cut    *cut   // that it is part of, until that is reported
	back   bool   // it has caught up since cut
}

// loss is what a visitor has missed after an offset and up to another. It is counted a little
// later: others may not have read yet what they have received.
type loss struct {
	after, upTo uint64
	noticed     time.Time
	cut         *cut // that the visitor is part of; nil for none
}

// cut is connections that were cut off at one time.
type cut struct {
	at     time.Time
	size   int
	away   int       // have not caught up yet
	back   time.Time // when the last one had
	counts counts    // of those who were cut off, since then
}

func newCrowd(req *Request, clock func() time.Time, pace pace, end context.CancelCauseFunc) *crowd {
	c := &crowd{url: req.target(), clock: clock, pace: pace, end: end, open: newDots(req.Count), flash: newDots(req.Count), latency: newLatency()}
	for i := range req.Count {
		c.visitors = append(c.visitors, &visitor{index: i})
	}
	return c
}

// since returns the position from which a visitor resumes: "now" without one.
func (c *crowd) since(v *visitor) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !v.known {
		return "now"
	}
	return v.epoch + ":" + strconv.FormatUint(v.last, 10)
}

// opened notes that a visitor is connected. It has caught up once it has what others have by now.
func (c *crowd) opened(v *visitor, conn *wsclient.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.opened.IsZero() {
		c.connected++
	}
	v.conn, v.opened, v.target = conn, c.clock(), c.seen.head()
	c.open.set(v.index)
	c.changed = true
	c.arrived(v)
}

// closed notes that it is not any more.
func (c *crowd) closed(v *visitor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closedLocked(v)
}

func (c *crowd) closedLocked(v *visitor) {
	v.conn = nil
	c.open.clear(v.index)
	c.changed = true
}

// leave notes that a visitor will not come back.
func (c *crowd) leave(v *visitor, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left++; c.left == len(c.visitors) {
		c.end(ending(reason))
	}
}

// arrived notes that a visitor that was cut off has caught up, if it has.
func (c *crowd) arrived(v *visitor) {
	if v.cut == nil || v.back || v.conn == nil || v.last < v.target {
		return
	}
	v.back = true
	if v.cut.away--; v.cut.away == 0 {
		v.cut.back = c.clock()
	}
}

// received takes a record into a visitor's ledger.
func (c *crowd) received(v *visitor, rec *record.Record, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch rec.Kind {
	case record.Position, record.Gap:
		same := v.known && rec.Epoch == v.epoch
		// A visitor that has a position learns of another one only with a gap.
		if rec.Kind == record.Gap || v.known && (!same || rec.Offset > v.last) {
			c.lost(v, rec.Offset, now)
		}
		if !same || rec.Offset > v.last { // else what follows may be repeats
			v.known, v.epoch, v.last = true, rec.Epoch, rec.Offset
		}
		c.arrived(v)
	case record.Publication:
		c.flash.set(v.index)
		c.count(v, func(n *counts) { n.received++ })
		if rec.Epoch != "" { // else it has no position
			c.follow(v, rec, now)
		}
	}
}

// follow compares a publication with the one before it.
func (c *crowd) follow(v *visitor, rec *record.Record, now time.Time) {
	c.seen.add(rec.Offset, now)
	switch {
	case !v.known: // nothing to compare it with
	case rec.Epoch != v.epoch:
		c.lost(v, 0, now) // a new epoch begins with a gap, and there was none
	case rec.Offset <= v.last:
		c.count(v, func(n *counts) { n.repeated++ })
		return
	case rec.Prev > v.last:
		c.lost(v, rec.Prev, now)
	}
	v.known, v.epoch, v.last = true, rec.Epoch, rec.Offset
	if rec.Offset > v.target {
		c.latency.RecordValue(min(max(now.UnixMicro()-1000*int64(rec.At), 1), latencyMost.Microseconds())) // ignored: within the bounds
	} else {
		c.count(v, func(n *counts) { n.caughtUp++ })
	}
	c.arrived(v)
}

// lost notes that a visitor has missed what there was up to an offset.
func (c *crowd) lost(v *visitor, upTo uint64, now time.Time) {
	c.losses = append(c.losses, loss{v.last, upTo, now, v.cut})
}

// settle counts losses that were noticed before a time: what others have received of them, and
// at least one each.
func (c *crowd) settle(before time.Time) {
	c.losses = slices.DeleteFunc(c.losses, func(l loss) bool {
		due := l.noticed.Before(before)
		if due {
			n := max(c.seen.between(l.after, l.upTo), 1)
			c.counts.lost += n
			if l.cut != nil {
				l.cut.counts.lost += n
			}
		}
		return due
	})
}

func (c *crowd) count(v *visitor, add func(*counts)) {
	add(&c.counts)
	if v.cut != nil {
		add(&v.cut.counts)
	}
}

// overdue counts what visitors who are connected should have received long ago.
func (c *crowd) overdue(now time.Time) (n uint64) {
	old := c.seen.before(now.Add(-c.pace.overdue))
	for _, v := range c.visitors {
		if v.conn != nil && v.known && now.Sub(v.opened) > c.pace.overdue {
			n += c.seen.between(v.last, old)
		}
	}
	return n
}

// cut cuts off so many connections, but leaves one to see what the others miss.
func (c *crowd) cut(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var there []*visitor
	for _, v := range c.visitors {
		if v.conn != nil && v.known && v.cut == nil {
			there = append(there, v)
		}
	}
	n = max(min(n, len(there)-1), 0)
	now := c.clock()
	cut := &cut{at: now, size: n, away: n, back: now}
	rand.Shuffle(len(there), func(i, k int) { there[i], there[k] = there[k], there[i] })
	for _, v := range there[:n] {
		v.cut, v.back = cut, false
		v.conn.Net.Close() // ignored: it is gone either way
		c.closedLocked(v)
	}
	c.cuts = append(c.cuts, cut)
}

// publications are those that were received in the channel, in order. Offsets of another epoch
// follow a gap, and count as new.
type publications struct {
	offsets []uint64
	first   []time.Time // when somebody received it first
}

// publicationsMost bounds how many are remembered: those of two minutes at several hundred a second.
const publicationsMost = 1 << 16

func (p *publications) head() uint64 {
	if len(p.offsets) == 0 {
		return 0
	}
	return p.offsets[len(p.offsets)-1]
}

func (p *publications) add(offset uint64, now time.Time) {
	if offset == p.head() {
		return // mostly: others have it
	}
	i, found := slices.BinarySearch(p.offsets, offset)
	if found {
		return
	}
	p.offsets, p.first = slices.Insert(p.offsets, i, offset), slices.Insert(p.first, i, now)
	if len(p.offsets) > publicationsMost {
		half := publicationsMost / 2
		p.offsets, p.first = slices.Clone(p.offsets[half:]), slices.Clone(p.first[half:])
	}
}

// between counts the publications after an offset and up to another.
func (p *publications) between(after, upTo uint64) uint64 {
	if upTo <= after {
		return 0
	}
	from, _ := slices.BinarySearch(p.offsets, after+1)
	to, found := slices.BinarySearch(p.offsets, upTo)
	if found {
		to++
	}
	return uint64(max(to-from, 0))
}

// before returns the newest offset that was received by a time; 0 for none.
func (p *publications) before(t time.Time) uint64 {
	for i := len(p.offsets) - 1; i >= 0; i-- {
		if p.first[i].Before(t) {
			return p.offsets[i]
		}
	}
	return 0
}
