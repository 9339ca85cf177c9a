package loop

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"sync/atomic"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/frame"
	"sluice/gateway/wire/deflate"
	"sluice/poller"
)

// A loop is one goroutine that owns connections and their subscriptions. It has no
// code of its own that runs: the poller calls Conn.Ready for each ready
// descriptor, and turn after a wake. Everything that is put off (what other
// goroutines posted, the rest of a sweep, the closing of descriptors, time) is
// done in turn, a bounded piece at a time, so that no work of one kind keeps the
// others waiting.

const (
	// scratchBytes is the size of a read: one for each readable event.
	scratchBytes = 64 << 10
	// corkBytes bounds one write.
	corkBytes = 64 << 10
	// turnWrites is how many writes a turn makes before it looks at events
	// again: about 3 ms.
	turnWrites = 512
	// turnDue is how many connections that are due a turn looks at.
	turnDue = 128
	// noDue stands in loop.due for a connection without a deadline.
	noDue = math.MaxUint32
	// timeBegun is the loop time at which a loop begins. What connections have behind them that another process
	// has handed over lies before it.
	timeBegun = 1 << 31
)

// groupKey finds a group in its loop.
type groupKey struct {
	channel string
	format  channel.Format
}

// Loop is an event loop. Its methods are called on its goroutine, except where they say otherwise.
type Loop struct {
	// Set at construction.
	set        *Set
	index      int
	cfg        *Config // the set's
	log        *slog.Logger
	debug      bool // the log takes debug records
	rates      ClientRates
	began      time.Time // of clock, see slow.go
	engine     engine.Engine
	space      *channel.Space
	variants   []*Variant // what connections speak
	limits     frame.Limits
	compressed frame.Limits // of clients that have negotiated compression
	poller     *poller.Poller
	observed   observation

	turnWrites int // the constant; tests that look into a paused sweep lower it

	inbox inbox
	stats Stats // written here, read by the collector

	// Atomic: when the tick that is under way was posted, Unix nanoseconds.
	ticked atomic.Int64
	// Atomic: the number of the loop's goroutine, once it has ticked.
	goroutine atomic.Uint64

	// Owned by the loop.
	time      time.Time // that was read for the present batch of events, by a tick, or for a grace
	now       uint32    // seconds that the loop has lived through: see Tick
	lastTick  time.Time
	conns     []*Conn
	reviews   []*review // under way, the first one first
	due       []uint32  // due[i] is when conns[i] has to be looked at, in loop time
	groups    map[groupKey]*Group
	users     map[string]*Conn   // the first connection of each user, by identity.next the others
	indexes   map[*Conn]refIndex // of connections with more than manyRefs subscriptions
	swept     *Group             // whose sweep runs; nil for none
	sweeps    []*Group           // with a sweep to begin or to continue, first come first
	delayed   []*Group           // with a sweep to begin that is put off
	retries   []*Publishing      // that were called or answered
	away      []*Publishing      // that wait because the engine is away
	awayTimer *time.Timer        // until they are tried again
	silent    bool               // nothing is published: the loop is frozen
	silenced  []Message          // to be delivered at the end of that
	spare     *Publishing        // for the next one
	catching  []*Conn            // whose next piece of what they missed is due
	fenced    []*Conn            // that have reached a fence, see lost.go
	lost      connQueue          // that wait for their turn to be notified
	pacer     pacer              // of those turns
	lostTurn  alarm              // for the next of them
	timer     *time.Timer
	timerAt   time.Time
	dead      []*Conn // descriptors to close at the end of the turn
	held      int     // bytes of connections' buffers
	heldMax   int
	worst     []ranked // those that held most at the last look, most first: they are closed where there is need
	worstAt   uint32   // loop time of that look
	checked   int      // connections before it were looked at since the last tick
	turning   bool     // turn runs: it sees to what is put into sweeps meanwhile
	passing   *passing // connections are handed over, see give.go; nil if not
	frozen    func()   // to be called at the end of the turn; nil for nothing
	drain     *drain   // all connections are being closed; nil if not
	done      bool     // the server was told that nobody is left
	asked     bool     // a ping was out to the connection whose bytes are parsed
	inFilter  bool     // the hook runs: a panic is not the client's doing
	panicking int      // panics that are being dealt with: that of a step, and those of what ends its connection
	outboxes  []*outbox
	inputs    []*input
	frames    []*frame.State
	scratch   []byte
	cork      []byte
	sealed    []byte // where records are encrypted; nil while a connection uses it
	segments  []segment
	encode    channel.Scratch
	recalled  []byte              // a piece of a history, on its way to an outbox
	inflater  deflate.Inflater    // of one message at a time
	sending   channel.Publication // on its way to the engine; here, because there it would be allocated
}

func newLoop(s *Set, index int) (*Loop, error) {
	l := bareLoop(s, index)
	l.scratch, l.cork = make([]byte, scratchBytes), make([]byte, 0, corkBytes)
	p, err := poller.New(l.readClock, l.turn, func(err error) { s.cfg.Failed(fmt.Errorf("loop %d: wait: %w", index, err)) })
	if err != nil {
		return nil, err
	}
	l.poller = p
	l.inbox.wake = p.Wake
	return l, nil
}

// bareLoop returns a loop without a poller, which nothing runs, and without buffers.
func bareLoop(s *Set, index int) *Loop {
	now := s.cfg.Clock()
	limits := frame.Limits{MessageBytesMax: s.cfg.MaxMessage, FragmentsMax: s.cfg.MaxFragments}
	compressed := limits
	compressed.Deflate = true
	return &Loop{
		rates: s.cfg.Rates,
		set:   s, index: index, cfg: &s.cfg, log: s.cfg.Logger,
		debug:  s.cfg.Logger.Enabled(context.Background(), slog.LevelDebug),
		engine: s.cfg.Engine, space: s.cfg.Space, variants: s.cfg.Variants, turnWrites: turnWrites,
		limits: limits, compressed: compressed,
		groups:   make(map[groupKey]*Group),
		users:    make(map[string]*Conn),
		began:    now,
		now:      timeBegun,
		time:     now,
		lastTick: now,
		heldMax:  s.cfg.HeldMax,
		encode:   channel.Scratch{Limit: encodeMax},
		pacer:    pacer{over: s.cfg.DrainDuration, burst: paceLeast},
		stats:    Stats{ByClass: newClassStats(s.cfg.Space.Classes())},
		observed: observation{to: s.cfg.Observer},
	}
}

// Time returns the time of the present batch of events, which is read once for all of them, and
// again where a socket refuses bytes: what other goroutines have posted may be a little younger.
func (l *Loop) Time() time.Time { return l.time }

// readClock is called by the poller before each batch of events.
func (l *Loop) readClock() { l.time = l.cfg.Clock() }

// Now returns the loop's time: timeBegun, and the seconds that it has lived through.
func (l *Loop) Now() uint32 { return l.now }

// Index returns the loop's number among the server's, from 0.
func (l *Loop) Index() int { return l.index }

// MaxMessage returns how many bytes a client's message may have.
func (l *Loop) MaxMessage() int { return l.cfg.MaxMessage }

// Draining reports whether all connections are being closed.
func (l *Loop) Draining() bool { return l.drain != nil }

// Stats returns the loop's statistics.
func (l *Loop) Stats() *Stats { return &l.stats }

// Engine returns what takes the loop's publications.
func (l *Loop) Engine() engine.Engine { return l.engine }

// Space returns what the loop's channels lie in.
func (l *Loop) Space() *channel.Space { return l.space }

// Scratch returns the buffers in which the loop encodes publications.
func (l *Loop) Scratch() *channel.Scratch { return &l.encode }

// Post hands m to the loop; false when the loop has ended. Any goroutine.
func (l *Loop) Post(m Message) bool { return l.inbox.put(m) }

// turn is the poller's wake function.
func (l *Loop) turn() {
	l.turning = true
	for _, m := range l.inbox.take() {
		m.Deliver(l)
	}
	l.retrySome()
	l.checkDue()
	l.catchUpSome()
	if len(l.reviews) > 0 {
		l.reviewSome()
	}
	if l.frozen == nil { // else others wait for this loop
		l.sweep()
	}
	l.lostSome()
	if l.drain != nil {
		l.drainSome()
	}
	l.bury()
	if l.passing != nil {
		l.passSome()
	}
	if frozen := l.frozen; frozen != nil {
		l.frozen = nil
		frozen()
	}
	l.turning = false
	if len(l.sweeps) > 0 {
		l.poller.Wake()
	}
}

// Idle reports whether the loop has done everything that it knows of, and waits for events.
func (l *Loop) Idle() bool {
	return l.inbox.empty() && len(l.retries)+len(l.sweeps)+len(l.delayed)+len(l.catching)+len(l.fenced)+len(l.dead)+len(l.reviews) == 0 && l.checked >= len(l.due)
}

// sweep spends the turn's writes on the groups that wait for them, in order.
func (l *Loop) sweep() {
	i := 0
	most := l.turnWrites
	if l.passing != nil {
		most = min(most, passWrites)
	}
	for writes := 0; i < len(l.sweeps) && writes < most; i++ {
		g := l.sweeps[i]
		l.sweeps[i] = nil
		writes += g.sweep(most - writes)
		if g.sweeping {
			l.sweeps = append(l.sweeps, g) // the rest, behind the others
			continue
		}
		g.queued = false
		if g.dirty {
			g.again()
		}
	}
	rest := copy(l.sweeps, l.sweeps[i:])
	clear(l.sweeps[rest:])
	l.sweeps = l.sweeps[:rest]
}

// bury closes the descriptors of connections that ended since the last turn.
// Nothing of this turn can meet them any more: they are out of every list.
func (l *Loop) bury() {
	for i, c := range l.dead {
		c.closeFD()
		l.dead[i] = nil
	}
	l.dead = l.dead[:0]
	if l.drain != nil && len(l.conns) == 0 && !l.done {
		l.done = true
		l.set.Running.Done()
	}
}

// Tick is posted once a second.
type Tick struct{}

// Deliver advances the loop's time and lets it look at the connections that are
// due.
//
// Loop time counts the seconds in which the loop was there to read and write: a
// tick that comes late counts as two at most. So a process that was stopped or
// starved for a minute does not find that all its clients were silent
// meanwhile.
func (Tick) Deliver(l *Loop) {
	if l.goroutine.Load() == 0 {
		l.goroutine.Store(goroutineID())
	}
	l.readClock() // what is measured includes the events of this batch
	passed := l.time.Sub(l.lastTick).Round(time.Second)
	l.lastTick = l.lastTick.Add(passed)
	l.now += uint32(min(max(passed/time.Second, 0), 2))
	if posted := l.ticked.Swap(0); posted != 0 {
		l.stats.observeLag(time.Since(time.Unix(0, posted))) // a real delay, whatever clock the loop has
	}
	l.checked = 0
}

// checkDue goes on looking at the connections that are due, a bounded number of
// them in a turn: ten thousand pings at once would keep everything else waiting.
func (l *Loop) checkDue() {
	for n := 0; l.checked < len(l.due); l.checked++ {
		if l.due[l.checked] > l.now {
			continue
		}
		if n++; n > turnDue {
			l.poller.Wake()
			return
		}
		c := l.conns[l.checked]
		c.step((*Conn).expire)
		if c.Phase == phaseDead {
			l.checked-- // another connection stands here now
		}
	}
}

// add makes a place for c in the loop's lists.
func (l *Loop) add(c *Conn) {
	c.slot = int32(len(l.conns))
	l.conns = append(l.conns, c)
	l.due = append(l.due, noDue)
	l.stats.Connections.Store(int64(len(l.conns)))
}

// remove takes c out of the lists; the last one takes its place.
func (l *Loop) remove(c *Conn) {
	c.Plant("remove")
	last := len(l.conns) - 1
	moved := l.conns[last]
	l.conns[c.slot], l.due[c.slot] = moved, l.due[last]
	moved.slot = c.slot
	if l.passing != nil {
		l.passing.moved(c.slot)
	}
	c.slot = -1
	l.conns[last] = nil
	l.conns, l.due = l.conns[:last], l.due[:last]
	l.stats.Connections.Store(int64(len(l.conns)))
}

// shrink is posted when a storm of connections is over.
type shrink struct{}

// Deliver makes the tables fit those that are left.
func (shrink) Deliver(l *Loop) {
	l.worst = nil
	if n := len(l.conns); cap(l.conns) <= 1024 || n > cap(l.conns)/4 {
		return
	}
	l.conns, l.due = fitted(l.conns), fitted(l.due)
	users, groups := make(map[string]*Conn, len(l.users)), make(map[groupKey]*Group, len(l.groups))
	maps.Copy(users, l.users)
	maps.Copy(groups, l.groups)
	l.users, l.groups = users, groups
}

// fitted returns a copy with room for a few more.
func fitted[T any](s []T) []T { return append(make([]T, 0, len(s)+len(s)/4), s...) }

// WakeAt makes sure that c is looked at no later than at that loop time. A dead
// connection has no place in the lists any more, and is left alone.
func (l *Loop) WakeAt(c *Conn, at uint32) {
	if c.Phase == phaseDead {
		return
	}
	l.due[c.slot] = min(l.due[c.slot], at)
}

// shedMost is how many connections that hold much one look at all of them finds.
const shedMost = 64

// shedWorst closes the connections that hold most while the loop is above its
// part of the process's budget. One look serves for up to a second, as long as
// those that it found hold as much as then.
func (l *Loop) shedWorst() {
	for l.held > l.heldMax {
		if len(l.worst) == 0 || l.worstAt != l.now {
			l.worst, l.worstAt = l.findWorst(), l.now
			if len(l.worst) == 0 {
				return
			}
		}
		worst := l.worst[0]
		if l.worst = l.worst[1:]; worst.c.Phase == phaseOpen && uint64(worst.c.Counted) >= worst.key {
			worst.c.step((*Conn).shed)
		}
	}
	if len(l.worst) == 0 {
		l.worst = nil
	}
}

// findWorst returns the connections that hold most, and at least half as much as the
// first of them: one that holds little is spared while others hold much.
func (l *Loop) findWorst() []ranked {
	found := l.highest(shedMost, func(c *Conn) uint64 {
		if c.Phase != phaseOpen {
			return 0
		}
		return uint64(c.Counted)
	}, false)
	for i := range found {
		if 2*found[i].key < found[0].key {
			return found[:i]
		}
	}
	return found
}

// shed closes a connection for the memory that it holds.
func (c *Conn) shed() {
	c.Close(ReasonBudget) // lets its input go
	if c.adjust(); c.Out != nil && c.Out.size() > outboxKeep {
		c.kill(ReasonBudget) // its output stands in the way of a Close frame
	}
}

// seconds converts a duration to loop time, at least one tick; 0 stays off.
func seconds(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	return uint32(max((d+time.Second-1)/time.Second, 1))
}
