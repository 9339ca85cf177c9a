package loop

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/rate"
	"sluice/gateway/wire/deflate"
)

// Config is what event loops need to know. Every field is filled in, except where its comment
// says what zero means.
type Config struct {
	Loops int
	// Node is what connections' IDs begin with: 24 bits that no other live node has. 0: random ones.
	Node         uint32
	BatchWindow  time.Duration // 0: a sweep begins at once
	PingInterval time.Duration // not positive: no pings
	PongTimeout  time.Duration
	WriteTimeout time.Duration // not positive: no limit
	CloseTimeout time.Duration
	// MessageTimeout bounds the time for one message, and for one TLS record.
	MessageTimeout time.Duration
	// DrainDuration is how long it takes to notify all connections of a loop that have lost something, at a pace. 0: no pace.
	DrainDuration time.Duration
	// LoopTimeout is how long a loop may be stuck before Failed is called. Negative: for ever.
	LoopTimeout time.Duration

	MaxMessage    int // bytes
	MaxFragments  int
	MaxPending    int         // bytes that wait for one connection
	HeldMax       int         // bytes of one loop's connections
	ChannelBuffer int         // bytes of one channel's log
	Rates         ClientRates // until Change

	// Skips reports whether slow subscribers of a channel skip to the newest publication.
	Skips func(channel string) bool
	// Compressors compress for the clients that have negotiated it (Arrival.Compressed); nil if none can.
	Compressors *deflate.Compressors
	// Filter is called with each message before it is published, and reports whether it may be;
	// nil for none.
	Filter func(channel string, payload []byte, binary bool, conn uint64) bool
	// Failed is called when a loop can serve its connections no longer.
	Failed    func(error)
	Admission Admission

	Engine   engine.Engine
	Space    *channel.Space
	Observer Observer   // nil for none; see Observe
	Variants []*Variant // what connections speak: all of every protocol
	// Sharing are the beginnings of names of functions of protocols in which a panic ends the
	// process, because it leaves half changed what connections share.
	Sharing []string
	Logger  *slog.Logger
	Seconds <-chan time.Time // a tick for each second
	Clock   func() time.Time // returns the time, which does not go back; nil for time.Now
}

// ClientRates are the limits for each connection: of messages, and of control frames.
type ClientRates struct{ Message, Control ClientRate }

// ClientRate is a limit for each connection: to a client of another machine, and to one of this.
type ClientRate struct{ Remote, Local rate.Limit }

// Seat is a connection's place among those of its address; 0 for none.
type Seat uint32

// Admission is where a connection's place was taken.
type Admission interface {
	// Left is called once for each connection that has ended. refused: it was accepted only to be
	// refused with a reason.
	Left(at Seat, refused bool)
	// Taken takes a place, and a seat, for a connection that another process has handed over.
	Taken(client netip.AddrPort, refused bool) Seat
	// Blame is called after a panic that was the connection's.
	Blame(at Seat)
}

// Set is the event loops of a process, with what they share.
type Set struct {
	// Set at construction.
	cfg     Config
	loops   []*Loop
	stopped chan struct{} // closed when the loops have ended

	watchdog *watchdog
	encoders encoders

	lastID   atomic.Uint64 // of a connection
	nextLoop atomic.Uint64
	held     atomic.Bool // the loops are frozen, or wait for what they take over

	Running    sync.WaitGroup // loops that still have connections, once stop has begun
	background sync.WaitGroup // the watchdog and encoders
}

// New returns loops that are running.
func New(cfg Config) (*Set, error) {
	s := bareSet(cfg)
	for i := range cfg.Loops {
		l, err := newLoop(s, i)
		if err != nil {
			s.end()
			return nil, err
		}
		s.loops = append(s.loops, l)
	}
	s.Running.Add(len(s.loops))
	s.watchdog = newWatchdog(s)
	s.background.Go(s.watchdog.run)
	return s, nil
}

// bareSet returns a set without loops, which nothing watches.
func bareSet(cfg Config) *Set {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	s := &Set{cfg: cfg, stopped: make(chan struct{})}
	s.encoders.background = &s.background
	for s.cfg.Node == 0 {
		var b [4]byte
		rand.Read(b[1:]) // never fails
		s.cfg.Node = binary.BigEndian.Uint32(b[:])
	}
	s.lastID.Store(uint64(s.cfg.Node) << idBits)
	return s
}

// Loops returns the loops.
func (s *Set) Loops() []*Loop { return s.loops }

// Stopped returns a channel that is closed when the loops have ended.
func (s *Set) Stopped() <-chan struct{} { return s.stopped }

// Held reports whether the loops are frozen, or wait for what they take over from another process: for a second or so.
func (s *Set) Held() bool { return s.held.Load() }

// Stalled returns for how many seconds the loop that is stuck longest has not ticked.
func (s *Set) Stalled() int64 { return s.watchdog.stalled.Load() }

// Ticked returns the number of seconds in which no loop was stuck.
func (s *Set) Ticked() uint64 { return s.watchdog.ticked.Load() }

// idBits is how much of a connection's ID counts a node's connections, below the node's own bits:
// enough for 10,000 a second, for three years.
const idBits = 40

// nextID returns an ID that no other live connection of any node has.
func (s *Set) nextID() uint64 { return s.lastID.Add(1) }

// Arrive hands an arrival to the loops in turn. It belongs to its loop from then on.
func (s *Set) Arrive(a *Arrival) {
	if !s.loops[s.nextLoop.Add(1)%uint64(len(s.loops))].Post(a) {
		a.refuse(s, ErrStopping)
		a.From.Leave()
	}
}

// Change replaces the rates of connections, those that are open included, and looks again at which level the log is.
func (s *Set) Change(rates ClientRates) { s.post(call(func(l *Loop) { l.change(rates) })) }

func (l *Loop) change(rates ClientRates) {
	l.rates, l.debug = rates, l.log.Enabled(context.Background(), slog.LevelDebug)
}

// Shrink lets memory go that only a storm of connections needed.
func (s *Set) Shrink() { s.post(shrink{}) }

// post posts a message without state to all loops.
func (s *Set) post(m Message) {
	for _, l := range s.loops {
		l.Post(m)
	}
}

// abortTimeout bounds how long cutting off all connections may take.
const abortTimeout = 2 * time.Second

// Stop sends each client what was published before, closes its connection with the reason, and
// waits until all have ended; then it stops the loops. It spreads the closes over a time, 0 for all at once, and
// closes what is left shortly before ctx ends. If ctx ends first, it cuts off the
// remaining connections and returns ctx's error. It reports whether the loops have ended: one that
// is stuck, in a hook or in the kernel, cannot be stopped, and the process should end.
func (s *Set) Stop(ctx context.Context, over time.Duration) (ended bool, err error) {
	var late <-chan time.Time
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		left -= min(left/5, hurryMost)
		over, late = min(over, left), time.After(left)
	}
	s.post(stop{over})
	gone := make(chan struct{})
	go func() {
		s.Running.Wait()
		close(gone)
	}()
	for waiting := true; waiting; {
		select {
		case <-gone:
			s.end()
			return true, nil
		case <-late:
			s.post(hurry{})
		case <-ctx.Done():
			waiting = false
		}
	}
	s.post(abort{})
	select {
	case <-gone:
		s.end()
		return true, ctx.Err()
	case <-time.After(abortTimeout):
		close(s.stopped)
		return false, ctx.Err()
	}
}

// end ends loops that have no connections.
func (s *Set) end() {
	close(s.stopped)
	for _, l := range s.loops {
		for _, m := range l.inbox.close() {
			if a, ok := m.(*Arrival); ok {
				a.refuse(s, ErrStopping)
				a.From.Leave()
			}
		}
		l.poller.Close() // ignored: the process lets go of the loop in any case
	}
	s.background.Wait()
}
