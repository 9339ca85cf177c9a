package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// CrowdOptions are the settings of a [Crowd]. Zero means the default; Protocol must be one of
// Centrifugo's. With more channels than clients, each client subscribes to several.
type CrowdOptions struct {
	Options
	Nodes      []string      // further nodes that share the channels of URL; none
	Clients    int           // subscribers; 1
	Publishers int           // clients that publish, each into channels of its own; none
	Rate       float64       // publications per second of all of them; 0: each sends when it has the receipt of the one before
	Size       int           // payload bytes; 64
	OnFirst    bool          // subscribers connect to URL at first, and publishers to the other nodes; otherwise all are spread
	Window     time.Duration // for which the channels' history lasts: who comes back later may find it gone; 0: forever
	Leave      bool          // clients that lose their connection stay away until Return
	NoteCuts   bool          // note when each subscriber loses its connection

	scenario string        // whose figures are reported; reconnect
	more     func(*Faults) // what else is checked; nil: nothing
}

func (o *CrowdOptions) check(f *Faults) {
	if o.Protocol.dialect() == nil {
		f.Add("--protocol is %s: use centrifugo or centrifugo-protobuf", o.Protocol)
	}
	if o.more != nil {
		o.more(f)
	}
	f.AtLeast("--clients", o.Clients, 1)
	f.Between("--size", o.Size, objectMin, sizeMax)
	if o.Publishers > 0 && (o.Protocol != Centrifugo || o.Publishers > o.Channels || o.Channels > streamsMost) {
		f.Add("--publishers is %d: use up to one for each of --channels (%d), at most %d, and --protocol centrifugo", o.Publishers, o.Channels, streamsMost)
	}
}

// Crowd is clients of the Centrifugo protocol, over one node or several, that come back by
// themselves when they have lost their connection, as the SDKs do, and recover from their
// position. Some of them publish and wait for receipts. It keeps a ledger of all of them, from
// which [Crowd.Report] finds every acknowledged publication that somebody has not got.
//
// Clients belong to loops, as in the scenarios; one goroutine decides when each comes back, and
// Dialing goroutines connect them. A client that comes back goes to one of the nodes at random, and
// at once to the next one if nobody listens there, as behind a balancer.
type Crowd struct {
	// Set at construction.
	options CrowdOptions
	fleet   *fleet
	run     *Run
	mark    mark
	members []*member
	authors []*member // who publish
	cancel  context.CancelFunc
	working sync.WaitGroup

	away    chan *member // who have lost their connection; room for all
	toDial  chan *member // ... and whose time has come; room for all
	pacing  atomic.Bool  // publishers publish
	leaving atomic.Bool  // nobody comes back

	connected atomic.Int64 // of the members
	acked     atomic.Int64
}

// member is one client of a crowd, over all of its connections.
type member struct {
	// Set at construction.
	crowd  *Crowd
	number int
	loop   *loop
	seats  []seat
	author *author // nil: it does not publish

	// Owned by the loop.
	conn   *conn // nil: away
	downAt int64 // on the clock: when it lost its connection; 0: it has never had one

	tries int // to come back that failed; belongs to the loop while it is connected, then to the goroutine that has it
}

// seat is a client's account of one channel.
type seat struct {
	stream int
	since  position // behind which it recovers
	next   uint32   // the number of the publication that comes next
	told   bool     // it has been told that it may have missed something, so that the next hole is no secret
	missed []missed // ascending, disjoint
}

// missed is numbers that have not come: [from, to).
type missed struct {
	span
	told bool
}

// journal is a loop's part of a crowd's ledger. The loop owns it.
type journal struct {
	delivered, repeated, reordered int64
	recovered, unrecovered         int64 // answers to subscriptions with a position
	outside                        int64 // ... of clients that came back after the window
	unfounded                      int64 // of the recovered: in another epoch, or short
	refused, unknown               int64 // publications without a receipt: with an error, and with neither
	seen                           []bitset
	ended                          int64          // connections of members that had entered
	cuts                           []int64        // on the clock: when subscribers lost their connections, if that is noted
	latency, back, receipt         *hdr.Histogram // microseconds
	lastErr                        error
}

// bitset is a set of small numbers.
type bitset []uint64

func (b *bitset) add(n uint32) {
	for int(n/64) >= len(*b) {
		*b = append(*b, 0)
	}
	(*b)[n/64] |= 1 << (n % 64)
}

func (b bitset) has(n uint32) bool { return int(n/64) < len(b) && b[n/64]&(1<<(n%64)) != 0 }

// Gather connects a crowd. The caller must call Close.
func Gather(ctx context.Context, o CrowdOptions) (*Crowd, error) {
	setDefault(&o.Protocol, Centrifugo)
	setDefault(&o.Clients, 1)
	setDefault(&o.Size, 64)
	o.unstamped = o.Publishers == 0
	var others []target
	setDefault(&o.scenario, "reconnect")
	run, err := o.Begin(o.scenario, o.Clients+o.Publishers, func(f *Faults) {
		o.check(f)
		others = (&FanoutOptions{Options: o.Options, Nodes: o.Nodes}).others(f)
	})
	if err != nil {
		return nil, err
	}
	c := &Crowd{options: o, run: run, mark: newMark().inPhase(1)}
	if c.fleet, err = newFleetOf(run.with(others), o.Loops); err != nil {
		return nil, err
	}
	for _, l := range c.fleet.loops {
		l.crowded(c)
	}
	c.enlist()
	err = c.all(ctx, 0, func(ctx context.Context, m *member) error {
		return c.enter(ctx, m, c.firstNode(m))
	})
	if err != nil {
		c.fleet.close() // ignored: the error that matters is err
		return nil, err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	c.working.Go(func() { c.callBack(life) })
	for range o.Dialing {
		c.working.Go(func() { c.dialBack(life) })
	}
	if o.Publishers > 0 {
		c.working.Go(func() { c.pace(life) })
	}
	return c, nil
}

// enlist makes the members: the subscribers, and behind them the publishers.
func (c *Crowd) enlist() {
	o, streams := c.options, len(c.run.target.audience.channels)
	for i := range o.Clients + o.Publishers {
		m := &member{crowd: c, number: i, loop: c.fleet.loops[i/len(c.fleet.nodes)%len(c.fleet.loops)]}
		if p := i - o.Clients; p >= 0 {
			m.author = newAuthor(c, p)
			c.authors = append(c.authors, m)
		} else {
			for s := i % streams; s < streams; s += o.Clients {
				m.seats = append(m.seats, seat{stream: s})
			}
		}
		c.members = append(c.members, m)
	}
	c.away, c.toDial = make(chan *member, len(c.members)), make(chan *member, len(c.members))
}

// firstNode returns where a member connects at first.
func (c *Crowd) firstNode(m *member) int {
	n := len(c.fleet.nodes)
	switch {
	case !c.options.OnFirst || n == 1:
		return m.number % n
	case m.author != nil:
		return 1 + m.number%(n-1)
	}
	return 0
}

// all calls f for all members from first on, as many at a time as may be connecting, and retries
// none of them.
func (c *Crowd) all(ctx context.Context, first int, f func(context.Context, *member) error) error {
	return parallel(ctx, c.options.Dialing, len(c.members)-first, func(ctx context.Context, i int) error {
		if err := f(ctx, c.members[first+i]); err != nil {
			return fmt.Errorf("client %d of %d: %w", first+i+1, len(c.members), err)
		}
		return nil
	})
}

// enter connects a member to a node and waits until it has its subscriptions.
func (c *Crowd) enter(ctx context.Context, m *member, node int) error {
	t := c.fleet.nodes[node]
	socket, early, err := t.open(ctx, m.number)
	for tries := 1; nobodyListens(err) && tries < len(c.fleet.nodes); tries++ {
		node = (node + 1) % len(c.fleet.nodes)
		t = c.fleet.nodes[node]
		socket, early, err = t.open(ctx, m.number)
	}
	if err != nil {
		return err
	}
	fd, secure, err := detach(socket)
	if err != nil {
		return err
	}
	token, err := t.audience.tokenOf(m.number)
	k := &conn{fd: fd, secure: secure, node: node, member: m, session: newClientSession(t.audience.dialect)}
	m.loop.do(func() {
		k.session.connect(token)
		if e := m.loop.add(k, early); err == nil {
			err = e
		}
		if err == nil && k.cut {
			err = errors.New("the server closed the connection at once")
		}
		if err == nil {
			m.conn = k
			m.rejoin(k)
			err = k.write(k.session.flush())
		}
	})
	if err == nil {
		err = k.session.wait(ctx, t.timeout)
	}
	m.loop.do(func() {
		if err == nil && m.conn != k {
			err = errors.New("the server closed the connection")
		}
		if err != nil {
			m.loop.refuse(k)
			return
		}
		c.connected.Add(1)
		k.entered, m.tries = true, 0
		if m.downAt > 0 && m.author == nil {
			m.loop.journal.back.RecordValue(min(time.Duration(m.loop.clock.now()-m.downAt), latencyMax).Microseconds()) // ignored: within the bounds
		}
		m.downAt = 0
		if m.author != nil {
			m.author.returned(m)
		}
	})
	return err
}

// nobodyListens reports whether a connection could not even be made.
func nobodyListens(err error) bool {
	f, ok := errors.AsType[failure](err)
	return ok && f.cause == causeConnect
}

// rejoin asks for the member's subscriptions, from where it stood.
func (m *member) rejoin(k *conn) {
	for i := range m.seats {
		s := &m.seats[i]
		var since *position
		if s.since.epoch != "" {
			since = &s.since
		}
		sub := k.session.join(m.crowd.run.target.audience.channels[s.stream], since)
		if since != nil {
			*k.standing(sub) = standing{true, since.offset}
		}
	}
}

// left takes a connection that has ended, on the loop.
func (m *member) left(k *conn) {
	l := m.loop
	last := l.conns[len(l.conns)-1]
	l.conns[k.index], last.index = last, k.index
	l.conns[len(l.conns)-1] = nil
	l.conns = l.conns[:len(l.conns)-1]
	if m.conn != k {
		return // it had not yet entered
	}
	m.conn = nil
	for i := range m.seats {
		sub := k.session.subs[i]
		if at := k.standing(sub); at.known && sub.live {
			m.seats[i].since = position{sub.epoch, at.offset}
		}
	}
	if m.author != nil {
		m.author.cut(m)
	}
	if !k.entered {
		return // who dials it sees that
	}
	m.crowd.connected.Add(-1)
	l.journal.ended++
	m.downAt = l.clock.now()
	if m.author == nil && m.crowd.options.NoteCuts {
		l.journal.cuts = append(l.journal.cuts, m.downAt)
	}
	if !m.crowd.leaving.Load() && !m.crowd.options.Leave {
		m.crowd.away <- m
	}
}

// The delays of the SDKs before a client connects again: the least, and up to which it doubles
// with each try (centrifuge-js: minReconnectDelay, maxReconnectDelay, full jitter).
const (
	backoffLeast = 500 * time.Millisecond
	backoffMost  = 20 * time.Second
)

// backoff returns the delay before a try, from 0.
func backoff(try int) time.Duration {
	most := min(backoffLeast<<min(try, 16), backoffMost)
	return min(backoffLeast+rand.N(most), backoffMost)
}

// callBack sends each member that has lost its connection to the dialers when its time has come.
func (c *Crowd) callBack(ctx context.Context) {
	type call struct {
		at time.Time
		m  *member
	}
	var calls []call // unsorted: a look every few milliseconds costs less than order
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case m := <-c.away:
			calls = append(calls, call{time.Now().Add(backoff(m.tries)), m})
		case now := <-tick.C:
			calls = slices.DeleteFunc(calls, func(k call) bool {
				due := !k.at.After(now)
				if due {
					c.toDial <- k.m // room for all
				}
				return due
			})
		case <-ctx.Done():
			return
		}
	}
}

// dialBack connects members that come back.
func (c *Crowd) dialBack(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-c.toDial:
			if err := c.enter(ctx, m, rand.IntN(len(c.fleet.nodes))); err != nil {
				m.loop.do(func() { m.loop.journal.lastErr = err })
				m.tries++
				if !c.leaving.Load() {
					c.away <- m
				}
			}
		}
	}
}

// Depart disconnects all subscribers, which keep their positions and stay away.
func (c *Crowd) Depart() {
	c.leaving.Store(true)
	for _, l := range c.fleet.loops {
		l.do(func() {
			for _, k := range slices.Clone(l.conns) {
				if k.member.author == nil {
					k.write(goodbye) // ignored: the connection is closed next
					l.end(k, nil)
				}
			}
		})
	}
}

// Return connects all members that are away, at most so many at a time, to a node, and returns how
// long that took: until each has the answers to its subscriptions.
func (c *Crowd) Return(ctx context.Context, node, outstanding int) (time.Duration, error) {
	var gone []*member
	for _, l := range c.fleet.loops {
		l.do(func() {
			for _, m := range c.members {
				if m.loop == l && m.conn == nil {
					gone = append(gone, m)
				}
			}
		})
	}
	begin := time.Now()
	err := parallel(ctx, outstanding, len(gone), func(ctx context.Context, i int) error { return c.enter(ctx, gone[i], node) })
	took := time.Since(begin)
	c.leaving.Store(false)
	return took, errors.Join(err, ctx.Err())
}

// Connected returns how many clients, publishers among them, have their connection and their
// subscriptions.
func (c *Crowd) Connected() int { return int(c.connected.Load()) }

// Await waits until all are connected and have every acknowledged publication, and reports whether
// that was within a time.
func (c *Crowd) Await(ctx context.Context, within time.Duration) bool {
	for end := time.Now().Add(within); ; wait(ctx, 20*time.Millisecond) {
		if c.Connected() == len(c.members) && c.current() {
			return true
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return false
		}
	}
}

// Close ends all connections and goroutines.
func (c *Crowd) Close() error {
	c.leaving.Store(true)
	c.cancel()
	c.working.Wait()
	c.run.progress.stop()
	return c.fleet.close()
}
