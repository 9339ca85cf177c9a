package event

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// operations is how many joins and leaves the model does. A full run is 1,000,000.
var operations = flag.Int("operations", 20_000, "joins and leaves of the model of occupancy")

// mirror is a receiver that knows which channels are occupied, as the documentation says one can.
type mirror struct {
	t       *testing.T
	seen    map[sender]place
	parts   [Partitions]mirrorPart
	digests int // that were complete
	resets  int
	stale   int // events that were ignored
}

// sender is what has a Seq of its own.
type sender struct {
	node      string
	partition int
}

type place struct {
	epoch string
	seq   uint64
}

type mirrorPart struct {
	epoch    string // of the last Reset
	occupied map[string]bool
	page     map[string]bool // of a digest
}

func newMirror(t *testing.T) *mirror {
	m := &mirror{t: t, seen: make(map[sender]place)}
	for p := range m.parts {
		m.parts[p].occupied = make(map[string]bool)
	}
	return m
}

func (m *mirror) accept(body []byte) {
	m.t.Helper()
	var b struct{ Events []Event }
	if err := json.Unmarshal(body, &b); err != nil {
		m.t.Fatal(err)
	}
	for _, e := range b.Events {
		m.apply(&e)
	}
}

func (m *mirror) apply(e *Event) {
	m.t.Helper()
	from := sender{e.Node, e.Partition}
	last := m.seen[from]
	switch {
	case e.Epoch < last.epoch, e.Epoch == last.epoch && e.Seq <= last.seq:
		m.stale++ // was seen
		return
	case e.Epoch > last.epoch && e.Seq != 1, e.Epoch == last.epoch && e.Seq != last.seq+1:
		m.t.Fatalf("after %v comes %+v", last, e)
	}
	m.seen[from] = place{e.Epoch, e.Seq}
	p := &m.parts[e.Partition]
	if e.Type == Reset && e.Epoch > p.epoch {
		p.epoch = e.Epoch
	}
	if e.Epoch != p.epoch {
		m.stale++ // of a node that does not have the partition any more
		return
	}
	switch e.Type {
	case Reset:
		m.resets++
		p.occupied = make(map[string]bool)
	case Occupied:
		p.occupied[e.Channel] = true
	case Vacated:
		delete(p.occupied, e.Channel)
	case Resync:
		if e.Occupied != nil && e.Channel != "" {
			if delete(p.occupied, e.Channel); *e.Occupied {
				p.occupied[e.Channel] = true
			}
		}
	case Digest:
		if e.Page == 1 {
			p.page = make(map[string]bool)
		}
		for _, name := range e.Channels {
			p.page[name] = true
		}
		if e.Page == e.Pages {
			m.digests++
			if diff := cmp.Diff(p.page, p.occupied); diff != "" {
				m.t.Fatalf("partition %d at %d (-digest +events):\n%s", e.Partition, e.Seq, diff)
			}
		}
	}
}

// state returns the channels that are occupied, sorted.
func (m *mirror) state() []string {
	var all []string
	for p := range m.parts {
		all = slices.AppendSeq(all, maps.Keys(m.parts[p].occupied))
	}
	slices.Sort(all)
	return all
}

// world is nodes, what is under way between them, and a receiver.
type world struct {
	*testing.T
	*rand.Rand
	now     time.Duration
	began   time.Time
	o       Options
	nodes   []*member
	made    int
	owner   [Partitions]string // "" for none
	epochs  [Partitions]string // that was used last
	mirror  *mirror
	outage  bool
	calm    bool     // no answer is lost
	flying  [][]byte // batches that were sent by nodes that are dead, and may arrive late
	events  uint64   // what dead nodes have said
	dropped uint64
}

// member is a node.
type member struct {
	*Notifier
	q       *Queue
	id      string
	clients map[string]int // by channel
	inbox   []func()       // what other nodes have sent, in order
}

const lease = 10 * time.Second

func newWorld(t *testing.T, seed uint64, o Options) *world {
	return &world{T: t, Rand: rand.New(rand.NewPCG(seed, 18)), began: time.Unix(1_800_000_000, 0), o: o, mirror: newMirror(t)}
}

// start adds a node, and moves partitions to it.
func (w *world) start() {
	w.made++
	m := &member{id: fmt.Sprintf("n%d", w.made), clients: make(map[string]int)}
	m.Notifier = newNotifier(Config{Node: m.id, Shared: true, Changes: func(p int, changes []Change) {
		changes = slices.Clone(changes)
		for _, other := range w.nodes {
			if other != m && w.owner[p] == other.id {
				other.inbox = append(other.inbox, func() {
					for _, c := range changes {
						other.Set(m.id, c.Channel, c.On)
					}
				})
			}
		}
	}}, w.began, func() time.Duration { return w.now })
	m.q = m.newQueue(w.o, nil)
	m.do(func() { m.add(m.q) })
	w.nodes = append(w.nodes, m)
	w.assign()
}

// turn lets a node do what there is, and sends what it has.
func (w *world) turn(m *member) {
	for _, f := range m.inbox {
		f()
	}
	m.inbox = nil
	m.turn(w.now)
	for range 8 {
		m.q.mu.Lock()
		b, _ := m.q.next(w.now)
		m.q.mu.Unlock()
		if b == nil {
			break
		}
		var err error
		switch {
		case w.outage:
			err = errors.New("down")
		case !w.calm && w.IntN(20) == 0: // accepted, and the answer is lost
			w.mirror.accept(b.Body())
			err = errors.New("reset by peer")
		default:
			w.mirror.accept(b.Body())
		}
		m.q.mu.Lock()
		m.q.done(b, err, w.now)
		m.q.mu.Unlock()
	}
}

// settle lets all nodes take what is under way between them.
func (w *world) settle() {
	for range 3 {
		for _, m := range w.nodes {
			w.turn(m)
		}
	}
}

// assign gives each partition to the node that is chosen by a hash.
func (w *world) assign() {
	w.settle()
	for p := range Partitions {
		var best *member
		for _, m := range w.nodes {
			if best == nil || partitionHash(m.id, p) > partitionHash(best.id, p) {
				best = m
			}
		}
		if best == nil || w.owner[p] == best.id {
			continue
		}
		for _, m := range w.nodes {
			if m.id == w.owner[p] {
				m.Disown(p)
				w.turn(m)
			}
		}
		w.owner[p] = best.id
		for _, m := range w.nodes {
			if m != best {
				m.Here(p, func(names []string) { best.Sync(m.id, p, names) })
				m.turn(w.now)
			}
		}
		best.Own(p, w.epochs[p])
		best.turn(w.now)
		w.epochs[p] = best.q.lines[p].epoch
	}
}

func partitionHash(id string, p int) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range []byte(fmt.Sprint(id, ":", p)) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

func (w *world) remove(m *member) {
	w.nodes = slices.DeleteFunc(w.nodes, func(x *member) bool { return x == m })
	for p := range m.q.lines {
		if b := m.q.lines[p].batch; b != nil {
			w.flying = append(w.flying, b.Body())
		}
	}
	w.note(m)
}

func (w *world) note(m *member) {
	s := m.q.Stats()
	w.events += s.Delivered
	w.dropped += s.Dropped
}

// kill ends a node. The others notice when its lease has ended. Its clients come back, or not.
func (w *world) kill() {
	if len(w.nodes) < 2 {
		return
	}
	m := w.nodes[w.IntN(len(w.nodes))]
	w.remove(m)
	w.scatter(m)
	w.pass(lease)
	for _, other := range w.nodes {
		other.Gone(m.id, true)
	}
	w.assign()
}

// drain ends a node whose clients move.
func (w *world) drain() {
	if len(w.nodes) < 2 {
		return
	}
	m := w.nodes[w.IntN(len(w.nodes))]
	w.settle()
	m.Hold()
	for _, other := range w.nodes {
		if other != m {
			other.Drain(m.id, true)
		}
	}
	w.settle()
	for channel, n := range m.clients {
		for range n {
			m.Leave(channel)
		}
	}
	w.pass(time.Minute)
	w.remove(m)
	w.scatter(m)
	for _, other := range w.nodes {
		other.Gone(m.id, false)
	}
	w.assign()
}

// scatter lets most clients of a node appear at others.
func (w *world) scatter(m *member) {
	for channel, n := range m.clients {
		for range n {
			if w.IntN(10) > 0 {
				w.join(w.nodes[w.IntN(len(w.nodes))], channel)
			}
		}
	}
}

func (w *world) join(m *member, channel string) {
	m.clients[channel]++
	m.Join(channel)
}

// leave lets a client of a node go, if there is one.
func (w *world) leave(m *member, channel string) {
	if m.clients[channel] == 0 {
		return
	}
	if m.clients[channel]--; m.clients[channel] == 0 {
		delete(m.clients, channel)
	}
	m.Leave(channel)
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	for end := w.now + d; w.now < end; {
		w.now += min(200*time.Millisecond, end-w.now)
		for _, m := range w.nodes {
			w.turn(m)
		}
	}
}

// rest lets everything be sent, between two digests.
func (w *world) rest() {
	for range 100 {
		w.now += 20 * time.Millisecond
		w.settle()
		if !slices.ContainsFunc(w.nodes, func(m *member) bool { return !m.q.idle() }) {
			return
		}
	}
}

// truth returns the channels that have clients, sorted.
func (w *world) truth() []string {
	all := make(map[string]bool)
	for _, m := range w.nodes {
		for channel := range m.clients {
			all[channel] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Whatever happens to nodes, clients and the receiver, it knows in the end which channels are
// occupied, and each digest is what the events before it say.
func TestReceiversKnowWhatIsOccupied(t *testing.T) {
	for _, o := range []Options{
		{Digest: 20 * time.Second},
		{Digest: 20 * time.Second, Bytes: 24 << 10}, // overflows
		{Digest: 5 * time.Second, Bytes: 1, Filter: Filter{Types: All}},
		{Digest: 20 * time.Second, Bytes: 64 << 10, Filter: Filter{Types: All}},
	} {
		t.Run(fmt.Sprintf("bytes %d, types %d", o.Bytes, o.Types), func(t *testing.T) {
			w := newWorld(t, 1, o)
			for range 3 {
				w.start()
			}
			w.play(*operations / 4)
			w.outage, w.calm = false, true
			w.pass(2 * time.Minute)
			w.rest()
			for _, m := range w.nodes {
				w.note(m)
				if s := m.q.Stats(); s.Events > 0 || s.Bytes != 0 {
					t.Errorf("%s: %+v", m.id, s)
				}
			}
			for _, body := range w.flying { // later than everything
				w.mirror.accept(body)
			}
			if diff := cmp.Diff(w.truth(), w.mirror.state()); diff != "" {
				t.Errorf("the receiver's state (-want +got):\n%s", diff)
			}
			t.Logf("%d nodes, %d events, %d dropped, %d stale, %d resets, %d digests, %d channels", w.made, w.events, w.dropped, w.mirror.stale, w.mirror.resets, w.mirror.digests, len(w.truth()))
			if w.mirror.digests < 50 || w.mirror.stale == 0 {
				t.Error("the model has seen too little")
			}
		})
	}
}

// play does random things.
func (w *world) play(operations int) {
	for i := range operations {
		m := w.nodes[w.IntN(len(w.nodes))]
		channel := fmt.Sprintf("room:%d", w.IntN(1000))
		switch n := w.IntN(100_000); {
		case n < 20:
			w.kill()
		case n < 40:
			w.drain()
		case n < 90 && len(w.nodes) < 5:
			w.start()
		case n < 400:
			w.outage = !w.outage
		case n < 40_000+w.tide(i):
			w.join(m, channel)
		case n < 90_000:
			w.leave(m, channel)
		default:
			m.Emit(Event{Type: Publication, Channel: channel, Bytes: []byte("42")})
		}
		if i%20 == 0 {
			w.pass(200 * time.Millisecond)
		}
	}
}

// tide makes times in which clients come, and times in which they go.
func (w *world) tide(i int) int {
	if i/5000%2 == 0 {
		return 10_000
	}
	return -10_000
}
