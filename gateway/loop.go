package gateway

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
	"sluice/poller"
)

// A loop is one goroutine that owns connections and their subscriptions. It has no
// code of its own that runs: the poller calls conn.Ready for each ready
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
)

// groupKey finds a group in its loop.
type groupKey struct {
	channel string
	format  channel.Format
}

type loop struct {
	// Set at construction.
	server   *Server
	index    int
	cfg      *Config
	log      *slog.Logger
	debug    bool      // the log takes debug records
	began    time.Time // of its clock
	engine   engine.Engine
	space    *channel.Space
	variants []*variant // what connections speak
	limits   frame.Limits
	poller   *poller.Poller

	turnWrites int // the constant; tests that look into a paused sweep lower it

	inbox inbox
	stats loopStats // written here, read by the collector

	// Atomic: when the tick that is under way was posted, Unix nanoseconds.
	ticked atomic.Int64
	// Atomic: the number of the loop's goroutine, once it has ticked.
	goroutine atomic.Uint64

	// Owned by the loop.
	now       uint32 // seconds that the loop has lived through: see tick
	lastTick  time.Time
	conns     []*conn
	due       []uint32 // due[i] is when conns[i] has to be looked at, in loop time
	groups    map[groupKey]*group
	users     map[string]*conn // the first connection of each user, by identity.next the others
	sweeps    []*group         // with a sweep to begin or to continue, first come first
	delayed   []*group         // with a sweep to begin that is put off
	retries   []*pending       // publications that may be tried again
	spare     *pending         // for the next one
	catching  []*conn          // whose next piece of what they missed is due
	timer     *time.Timer
	timerAt   time.Time
	dead      []*conn // descriptors to close at the end of the turn
	held      int     // bytes of connections' buffers
	heldMax   int
	worst     []ranked // those that held most at the last look, most first: they are closed where there is need
	worstAt   uint32   // loop time of that look
	checked   int      // connections before it were looked at since the last tick
	turning   bool     // turn runs: it sees to what is put into sweeps meanwhile
	stopping  bool
	toStop    int  // connections before it are not told yet that the server stops
	done      bool // the server was told that nobody is left
	asked     bool // a ping was out to the connection whose bytes are parsed
	inHook    bool // the hook runs: a panic is not the client's doing
	panicking int  // panics that are being dealt with: that of a step, and those of what ends its connection
	outboxes  []*outbox
	inputs    []*input
	waiting   map[*channel.Channel]*announcements // joins and leaves that have no room yet
	scratch   []byte
	cork      []byte
	sealed    []byte // where records are encrypted; nil while a connection uses it
	segments  []segment
	encode    channel.Scratch
	recalled  []byte              // a piece of a history, on its way to an outbox
	sending   channel.Publication // on its way to the engine; here, because there it would be allocated
}

func newLoop(s *Server, index int) (*loop, error) {
	l := bareLoop(s, index)
	l.scratch, l.cork = make([]byte, scratchBytes), make([]byte, 0, corkBytes)
	p, err := poller.New(l.turn, func(err error) { s.fail(fmt.Errorf("loop %d: wait: %w", index, err)) })
	if err != nil {
		return nil, err
	}
	l.poller = p
	l.inbox.wake = p.Wake
	return l, nil
}

// bareLoop returns a loop without a poller, which nothing runs, and without buffers.
func bareLoop(s *Server, index int) *loop {
	return &loop{
		server: s, index: index, cfg: &s.cfg, log: s.cfg.Logger,
		debug:  s.cfg.Logger.Enabled(context.Background(), slog.LevelDebug),
		engine: s.engine, space: s.space, variants: s.spoken(), turnWrites: turnWrites,
		limits:   frame.Limits{MessageBytesMax: s.cfg.MaxMessage, FragmentsMax: s.cfg.MaxFragments},
		groups:   make(map[groupKey]*group),
		users:    make(map[string]*conn),
		waiting:  make(map[*channel.Channel]*announcements),
		began:    time.Now(),
		lastTick: time.Now(),
		heldMax:  max(s.cfg.MaxBuffered/2/s.cfg.Loops, s.cfg.MaxPending),
		encode:   channel.Scratch{Limit: encodeMax},
	}
}

// post hands m to the loop; false when the loop has ended. Any goroutine.
func (l *loop) post(m message) bool { return l.inbox.put(m) }

// turn is the poller's wake function.
func (l *loop) turn() {
	l.turning = true
	for _, m := range l.inbox.take() {
		m.deliver(l)
	}
	l.retrySome()
	l.checkDue()
	l.catchUpSome()
	l.sweep()
	if l.stopping {
		l.stopSome()
	}
	l.bury()
	l.turning = false
	if len(l.sweeps) > 0 {
		l.poller.Wake()
	}
}

// sweep spends the turn's writes on the groups that wait for them, in order.
func (l *loop) sweep() {
	i := 0
	for writes := 0; i < len(l.sweeps) && writes < l.turnWrites; i++ {
		g := l.sweeps[i]
		l.sweeps[i] = nil
		writes += g.sweep(l.turnWrites - writes)
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
func (l *loop) bury() {
	for i, c := range l.dead {
		c.closeFD()
		l.dead[i] = nil
	}
	l.dead = l.dead[:0]
	if l.stopping && len(l.conns) == 0 && !l.done {
		l.done = true
		l.server.loops.Done()
	}
}

// tick is posted once a second.
type tick struct{}

// deliver advances the loop's time and lets it look at the connections that are
// due.
//
// Loop time counts the seconds in which the loop was there to read and write: a
// tick that comes late counts as two at most. So a process that was stopped or
// starved for a minute does not find that all its clients were silent
// meanwhile.
func (tick) deliver(l *loop) {
	if l.goroutine.Load() == 0 {
		l.goroutine.Store(goroutineID())
	}
	now := time.Now()
	passed := now.Sub(l.lastTick).Round(time.Second)
	l.lastTick = l.lastTick.Add(passed)
	l.now += uint32(min(max(passed/time.Second, 0), 2))
	if posted := l.ticked.Swap(0); posted != 0 {
		l.stats.observeLag(now.Sub(time.Unix(0, posted)))
	}
	l.checked = 0
}

// checkDue goes on looking at the connections that are due, a bounded number of
// them in a turn: ten thousand pings at once would keep everything else waiting.
func (l *loop) checkDue() {
	for n := 0; l.checked < len(l.due); l.checked++ {
		if l.due[l.checked] > l.now {
			continue
		}
		if n++; n > turnDue {
			l.poller.Wake()
			return
		}
		c := l.conns[l.checked]
		c.step((*conn).expire)
		if c.phase == phaseDead {
			l.checked-- // another connection stands here now
		}
	}
}

// add makes a place for c in the loop's lists.
func (l *loop) add(c *conn) {
	c.slot = int32(len(l.conns))
	l.conns = append(l.conns, c)
	l.due = append(l.due, noDue)
	l.stats.connections.Store(int64(len(l.conns)))
}

// remove takes c out of the lists; the last one takes its place.
func (l *loop) remove(c *conn) {
	c.plant("remove")
	last := len(l.conns) - 1
	moved := l.conns[last]
	l.conns[c.slot], l.due[c.slot] = moved, l.due[last]
	moved.slot = c.slot
	c.slot = -1
	l.conns[last] = nil
	l.conns, l.due = l.conns[:last], l.due[:last]
	l.stats.connections.Store(int64(len(l.conns)))
}

// shrink is posted when a storm of connections is over.
type shrink struct{}

// deliver makes the tables fit those that are left.
func (shrink) deliver(l *loop) {
	l.worst = nil
	if n := len(l.conns); cap(l.conns) <= 1024 || n > cap(l.conns)/4 {
		return
	}
	l.conns, l.due = fitted(l.conns), fitted(l.due)
	users, groups := make(map[string]*conn, len(l.users)), make(map[groupKey]*group, len(l.groups))
	maps.Copy(users, l.users)
	maps.Copy(groups, l.groups)
	l.users, l.groups = users, groups
}

// fitted returns a copy with room for a few more.
func fitted[T any](s []T) []T { return append(make([]T, 0, len(s)+len(s)/4), s...) }

// wakeAt makes sure that c is looked at no later than at that loop time. A dead
// connection has no place in the lists any more, and is left alone.
func (l *loop) wakeAt(c *conn, at uint32) {
	if c.phase == phaseDead {
		return
	}
	l.due[c.slot] = min(l.due[c.slot], at)
}

// shedMost is how many connections that hold much one look at all of them finds.
const shedMost = 64

// shedWorst closes the connections that hold most while the loop is above its
// part of the process's budget. One look serves for up to a second, as long as
// those that it found hold as much as then.
func (l *loop) shedWorst() {
	for l.held > l.heldMax {
		if len(l.worst) == 0 || l.worstAt != l.now {
			l.worst, l.worstAt = l.findWorst(), l.now
			if len(l.worst) == 0 {
				return
			}
		}
		worst := l.worst[0]
		if l.worst = l.worst[1:]; worst.c.phase == phaseOpen && uint64(worst.c.counted) >= worst.key {
			worst.c.step((*conn).shed)
		}
	}
	if len(l.worst) == 0 {
		l.worst = nil
	}
}

// findWorst returns the connections that hold most, and at least half as much as the
// first of them: one that holds little is spared while others hold much.
func (l *loop) findWorst() []ranked {
	found := l.highest(shedMost, func(c *conn) uint64 {
		if c.phase != phaseOpen {
			return 0
		}
		return uint64(c.counted)
	}, false)
	for i := range found {
		if 2*found[i].key < found[0].key {
			return found[:i]
		}
	}
	return found
}

// shed closes a connection for the memory that it holds.
func (c *conn) shed() {
	c.close(reasonBudget) // lets its input go
	if c.adjust(); c.out != nil && c.out.size() > outboxKeep {
		c.kill(reasonBudget) // its output stands in the way of a Close frame
	}
}

// stop is posted at shutdown: every client is closed with the reason, after what was
// published before.
type stop struct{}

func (stop) deliver(l *loop) {
	l.stopping = true
	l.toStop = len(l.conns)
}

// stopSome closes some more. It goes down from the end: a connection that leaves has its
// place taken by the last one, which was closed already.
func (l *loop) stopSome() {
	for n := 0; n < l.turnWrites && l.toStop > 0; n++ {
		if l.toStop = min(l.toStop, len(l.conns)) - 1; l.toStop < 0 {
			break
		}
		c := l.conns[l.toStop]
		c.step((*conn).stop)
	}
	if l.toStop > 0 {
		l.poller.Wake()
	}
}

func (c *conn) stop() {
	c.close(reasonShutdown)
	c.settle()
}

// abort is posted when the time for shutting down is over.
type abort struct{}

func (abort) deliver(l *loop) {
	for len(l.conns) > 0 {
		l.conns[len(l.conns)-1].step(func(c *conn) { c.kill(reasonShutdown) })
	}
}

// seconds converts a duration to loop time, at least one tick; 0 stays off.
func seconds(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	return uint32(max((d+time.Second-1)/time.Second, 1))
}
