package event

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Notifier is made with. Zero means the default.
type Config struct {
	Node string // the name of this node
	// NodeScope means that other nodes are not counted: Occupied and Vacated are about this one.
	NodeScope bool
	// Shared means that this node has to be given partitions (Own). Otherwise it has all of them.
	Shared bool
	// VacatedDelay is for how long a channel has no subscribers before it is Vacated; 5 s. Negative:
	// not at all.
	VacatedDelay time.Duration
	// Changes is called with the channels of a partition that now have subscribers here, or now have
	// none, in order, on the notifier's goroutine: for other nodes. nil for nobody.
	Changes   func(p int, changes []Change)
	FeedBytes int // of the memory of what Feed keeps; 4 MiB
	Log       *slog.Logger
}

// Change is a channel that has its first subscriber on a node, or has none any more.
type Change struct {
	Channel string
	On      bool
}

// Notifier brings events to receivers. Its methods are safe for concurrent use.
type Notifier struct {
	// Set at construction.
	cfg    Config
	began  time.Time
	now    func() time.Duration // since then; it never goes back
	cancel context.CancelFunc
	wake   chan struct{} // of capacity 1
	over   chan struct{} // closed when run has returned

	in     intake
	wanted atomic.Uint32 // the Types that a receiver has selected

	mu sync.Mutex
	// Guarded by mu. The notifier's goroutine runs them in order.
	tasks  []func()
	closed bool

	// Owned by the notifier's goroutine.
	levels  *levels
	queues  []*queue
	feed    *Feed
	loaded  map[string][]byte // what another process had in its queues, by name, until they are added
	at      time.Duration     // of the turn
	buffer  []byte
	record  []byte
	changes []Change // of the partition whose records are read
}

// queue is a Queue as the notifier has it.
type queue struct {
	*Queue
	digested int           // how many digests of partitions there were
	next     time.Duration // when the next one is due
}

// turnPause is the time between two turns: under load, a turn is for many events.
const turnPause = 2 * time.Millisecond

// New returns a Notifier without receivers, and starts its goroutine, which Close ends.
func New(cfg Config) *Notifier {
	began := time.Now()
	n := newNotifier(cfg, began, func() time.Duration { return time.Since(began) })
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go n.run(ctx)
	return n
}

// newNotifier returns a Notifier without its goroutine.
func newNotifier(cfg Config, began time.Time, now func() time.Duration) *Notifier {
	set(&cfg.VacatedDelay, 5*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := &Notifier{cfg: cfg, began: began, now: now, wake: make(chan struct{}, 1), over: make(chan struct{})}
	n.in.init()
	n.feed = newFeed(n, cfg.FeedBytes)
	n.levels = newLevels(max(cfg.VacatedDelay, 0), n.announce)
	if !cfg.Shared {
		for p := range Partitions {
			n.levels.own(p)
		}
	}
	return n
}

// clock returns the time for events. It never goes back.
func (n *Notifier) clock() int64 { return n.began.Add(n.now()).UnixMilli() }

// Wants reports whether a receiver has selected a type: events of other types need not be made.
func (n *Notifier) Wants(t Type) bool { return Types(n.wanted.Load()).Has(t) }

// Join counts one more subscriber of a channel on this node. It does not wait.
func (n *Notifier) Join(channel string) { n.kick(n.in.join(channel, n.clock())) }

// Leave takes off what Join has counted.
func (n *Notifier) Leave(channel string) { n.kick(n.in.leave(channel, n.clock())) }

// Emit notifies of an event other than Occupied and Vacated. The fields that say what it is about
// are set; the data of a publication is in Bytes. What it refers to is copied. It does not wait.
func (n *Notifier) Emit(e Event) { n.EmitOf(nil, e) }

// EmitOf is Emit for an event of a client whose ID is in bytes, and is copied.
func (n *Notifier) EmitOf(client []byte, e Event) {
	if !n.Wants(e.Type) || e.Type.level() || !All.Has(e.Type) {
		return
	}
	e.Time = n.clock()
	n.kick(n.in.emit(&e, client))
}

// kick wakes the goroutine if there is something new.
func (n *Notifier) kick(first bool) {
	if first {
		n.signal()
	}
}

func (n *Notifier) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// do has the goroutine call f, unless the notifier is closed.
func (n *Notifier) do(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	n.tasks = append(n.tasks, f)
	n.signal()
}

// Add adds a receiver. It gets a Reset of each partition first, with the channels that are occupied,
// unless it goes on as the one with its name that was loaded. Names are different.
func (n *Notifier) Add(o Options, to Receiver) *Queue {
	q := n.newQueue(o, to)
	ctx, cancel := context.WithCancel(context.Background())
	q.cancel = cancel
	go q.run(ctx)
	n.do(func() { n.add(q) })
	return q
}

// newQueue returns a Queue without its goroutine.
func (n *Notifier) newQueue(o Options, to Receiver) *Queue {
	q := &Queue{
		o: o.orDefault(), to: to, node: n.cfg.Node, nodeScope: n.cfg.NodeScope, now: n.now, kick: n.signal, log: n.cfg.Log,
		wake: make(chan struct{}, 1), over: make(chan struct{}),
	}
	q.attempts, q.stop = context.WithCancel(context.Background())
	q.landed.L = &q.mu
	q.segment = min(max(q.o.Bytes/Partitions/8, segmentFirst), segmentMost)
	epoch := newEpoch(time.UnixMilli(n.clock()))
	for p := range q.lines {
		q.lines[p].epoch = epoch
	}
	return q
}

// add is Add on the notifier's goroutine.
func (n *Notifier) add(q *Queue) {
	n.queues = append(n.queues, &queue{Queue: q, next: n.at + q.o.Digest/Partitions})
	n.want()
	if b, ok := n.loaded[q.o.Name]; ok {
		delete(n.loaded, q.o.Name)
		if q.read(b) {
			return
		}
	}
	for p := range Partitions {
		if n.levels.parts[p].owned {
			n.reset(q, p, "")
		}
	}
}

// Remove ends a receiver's queue, with what waits in it. It waits for attempts to send something,
// which are canceled.
func (n *Notifier) Remove(q *Queue) {
	n.do(func() {
		n.queues = slices.DeleteFunc(n.queues, func(x *queue) bool { return x.Queue == q })
		n.want()
	})
	q.cancel()
	<-q.over
}

// want computes which types are wanted.
func (n *Notifier) want() {
	var all Types
	for _, q := range n.queues {
		all |= q.o.Types
	}
	all |= n.feed.types
	n.wanted.Store(uint32(all))
}

// Close sends what waits, until ctx ends, and ends the notifier. Its error says how many events were not sent.
func (n *Notifier) Close(ctx context.Context) error {
	var queues []*queue
	done := make(chan struct{})
	n.do(func() {
		queues = slices.Clone(n.queues)
		close(done)
	})
	select {
	case <-done:
	case <-n.over:
		return nil
	}
	tick := time.NewTicker(closeTick)
	defer tick.Stop()
	for ctx.Err() == nil && slices.ContainsFunc(queues, func(q *queue) bool { return !q.idle() }) {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	<-n.over
	var errs []error
	for _, q := range queues {
		q.cancel()
		<-q.over
		if left := q.Stats().Events; left > 0 {
			errs = append(errs, &Unsent{q.o.Name, left})
		}
	}
	return errors.Join(errs...)
}

const closeTick = 5 * time.Millisecond

// Unsent is the error of a Close that has not sent everything.
type Unsent struct {
	Receiver string
	Events   int
}
