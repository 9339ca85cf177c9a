package bench

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"github.com/gobwas/ws"

	"sluice/bench/sys"
)

// author is what a crowd's publisher knows. It publishes in its channels in turn, one publication
// at a time, and waits for the receipt of each. A publication that has none when the connection
// ends may have been published or not: its number is not used again.
type author struct {
	// Set at construction.
	streams  []int
	names    []string
	interval int64 // between two that are due, on the clock; 0: the next is due at once
	size     int
	offset   int64 // of its first one within the interval

	// Owned by the loop.
	next     []uint32 // by index of streams: the number that comes next
	acked    []bitset
	ackedEnd []uint32 // the number behind the last acknowledged one
	turn     int
	left     int // publications still to be made by PublishEach; -1: no end
	due      int64
	waiting  bool // for a receipt
	sentAt   int64
	at       int    // index of the stream of the one that waits ...
	seq      uint32 // ... and its number
	id       uint32 // of its command
	frame    []byte
	body     []byte
	ok       []byte // a receipt without an error
}

func newAuthor(c *Crowd, number int) *author {
	o := c.options
	a := &author{size: o.Size, id: 1 << 16}
	for s := number; s < len(c.run.target.audience.channels); s += o.Publishers {
		a.streams = append(a.streams, s)
		a.names = append(a.names, c.run.target.audience.channels[s].name)
	}
	a.next, a.acked, a.ackedEnd = make([]uint32, len(a.streams)), make([]bitset, len(a.streams)), make([]uint32, len(a.streams))
	if o.Rate > 0 {
		a.interval = int64(float64(o.Publishers) / o.Rate * float64(time.Second))
		a.offset = a.interval * int64(number) / int64(o.Publishers)
	}
	return a
}

// Publish makes the publishers begin.
func (c *Crowd) Publish() {
	now := c.fleet.clock.now()
	for _, m := range c.authors {
		m.loop.do(func() { m.author.due, m.author.left = now+m.author.offset, -1 })
	}
	c.pacing.Store(true)
}

// PublishEach makes the publishers publish n times in each channel, and waits for the receipts.
func (c *Crowd) PublishEach(ctx context.Context, n int) {
	now := c.fleet.clock.now()
	for _, m := range c.authors {
		m.loop.do(func() { m.author.due, m.author.left = now, n*len(m.author.streams) })
	}
	c.pacing.Store(true)
	for _, m := range c.authors {
		for left := true; left && ctx.Err() == nil; {
			m.loop.do(func() { left = m.author.left > 0 || m.author.waiting })
			if left {
				wait(ctx, 5*time.Millisecond)
			}
		}
	}
	c.pacing.Store(false)
}

// Pause makes the publishers stop, and waits until each has its receipt, or its connection is lost.
func (c *Crowd) Pause(ctx context.Context) {
	c.pacing.Store(false)
	for _, m := range c.authors {
		for waiting := true; waiting && ctx.Err() == nil; {
			m.loop.do(func() { waiting = m.author.waiting })
			if waiting {
				wait(ctx, 5*time.Millisecond)
			}
		}
	}
}

// Acknowledged returns the number of receipts so far.
func (c *Crowd) Acknowledged() int64 { return c.acked.Load() }

// How often pace looks, with a rate and without.
const (
	paceEvery = 200 * time.Microsecond
	paceIdle  = 5 * time.Millisecond
)

// pace has publishers send that are due and wait for nothing.
func (c *Crowd) pace(ctx context.Context) {
	byLoop := map[*loop][]*member{}
	for _, m := range c.authors {
		byLoop[m.loop] = append(byLoop[m.loop], m)
	}
	every := paceEvery
	if c.options.Rate == 0 {
		every = paceIdle // a receipt is what sends the next one
	}
	for ctx.Err() == nil {
		sys.Sleep(every)
		if !c.pacing.Load() {
			wait(ctx, time.Millisecond)
			continue
		}
		for l, members := range byLoop {
			l.do(func() {
				now := l.clock.now()
				for _, m := range members {
					if m.conn != nil && m.conn.entered && !m.author.waiting {
						m.publishDue(now)
					}
				}
			})
		}
	}
}

// publishDue sends a publication if one is due, on the loop.
func (m *member) publishDue(now int64) {
	if m.author.left != 0 && m.author.due <= now {
		m.author.left = max(m.author.left-1, -1)
		m.publish(now)
	}
}

// publish sends the publication that is due, on the loop.
func (m *member) publish(now int64) {
	a := m.author
	a.at = a.turn
	a.turn = (a.turn + 1) % len(a.streams)
	a.seq = a.next[a.at]
	a.next[a.at]++
	due := now
	if a.interval > 0 {
		due = a.due
		a.due += a.interval
	}
	a.id++
	a.body = append(a.body[:0], `{"id":`...)
	a.body = strconv.AppendUint(a.body, uint64(a.id), 10)
	a.ok = append(append(a.ok[:0], a.body...), `,"publish":{}}`...)
	a.body = append(append(append(a.body, `,"publish":{"channel":"`...), a.names[a.at]...), `","data":`...)
	payload, at := blank(a.size, true)
	stamp{uint16(a.streams[a.at]), a.seq, due}.put(payload[at:], m.crowd.mark)
	a.body = append(append(a.body, payload...), `}}`...)
	b := bytes.NewBuffer(a.frame[:0])
	ws.WriteHeader(b, ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Length: int64(len(a.body))}) // ignored: a buffer does not fail
	b.Write(a.body)                                                                                      // a mask of zeros changes nothing
	a.frame = b.Bytes()
	a.waiting, a.sentAt = true, now
	if err := m.conn.write(a.frame); err != nil {
		m.loop.end(m.conn, err)
	}
}

// receipt takes a line that may be the receipt, and reports whether it is.
func (m *member) receipt(line []byte, now int64) bool {
	a := m.author
	if a == nil || !a.waiting {
		return false
	}
	if !bytes.Equal(line, a.ok) {
		lead := len(a.ok) - len(`,"publish":{}}`)
		if !bytes.HasPrefix(line, a.ok[:lead]) || !bytes.HasPrefix(line[lead:], []byte(`,"error":`)) {
			return false
		}
		m.loop.journal.refused++
		a.waiting = false
		a.due = max(a.due, now+int64(100*time.Millisecond)) // as one that tries again later
		return true
	}
	a.acked[a.at].add(a.seq)
	a.ackedEnd[a.at] = a.seq + 1
	m.loop.journal.receipt.RecordValue(min(time.Duration(now-a.sentAt), latencyMax).Microseconds()) // ignored: within the bounds
	m.crowd.acked.Add(1)
	a.waiting = false
	if m.crowd.pacing.Load() {
		m.publishDue(now)
	}
	return true
}

// cut takes the end of the connection.
func (a *author) cut(m *member) {
	if a.waiting {
		m.loop.journal.unknown++
		a.waiting = false
	}
}

// returned begins again: what was due while it was away is not made up for.
func (a *author) returned(m *member) { a.due = max(a.due, m.loop.clock.now()) }
