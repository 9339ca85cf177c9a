package event

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// bare is a notifier whose goroutine the test is, with a receiver that nothing is sent to.
func bare(o Options) (*Notifier, *Queue) {
	now := time.Duration(0)
	n := newNotifier(Config{Node: "node-1"}, time.Now(), func() time.Duration { now += time.Microsecond; return now })
	o.Linger = -1
	q := n.newQueue(o, nil)
	n.add(q)
	return n, q
}

// drainAll takes what waits in a queue, as an endpoint that accepts everything does.
func (q *Queue) drainAll() (events int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		b, _ := q.next(q.now())
		if b == nil {
			return events
		}
		events += len(b.Events)
		q.done(b, nil, q.now())
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// eventMemory is what an event may take that waits.
const eventMemory = 300

func TestMemoryOfAnEventThatWaits(t *testing.T) {
	for _, x := range []struct {
		name string
		do   func(n *Notifier, i int)
	}{
		{"levels", func(n *Notifier, i int) {
			n.Join(fmt.Sprintf("chat:%d", i%1000))
			n.Leave(fmt.Sprintf("chat:%d", i%1000))
		}},
		{"clients", func(n *Notifier, i int) {
			n.Emit(Event{Type: Subscribed, Channel: fmt.Sprintf("room:%d", i%1000), Client: "6f0c2c7e-5f5e-4d2c-9a61-0c1f3d1b2a3c", User: "user-12345", Transport: "websocket"})
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			n, q := bare(Options{Filter: Filter{Types: All}})
			n.levels.delay = 0
			q.drainAll()
			for i := range 1000 { // levels and buffers are not the events'
				n.Join(fmt.Sprintf("room:%d", i))
			}
			n.turn(n.now())
			q.drainAll()
			before := heap()
			const rounds = 30_000
			for i := range rounds {
				x.do(n, i)
				if i%1000 == 0 {
					n.turn(n.now())
				}
			}
			n.turn(n.now())
			per := float64(heap()-before) / float64(q.Stats().Events)
			t.Logf("%.0f B for each of %d events; %d counted", per, q.Stats().Events, q.Stats().Bytes/max(q.Stats().Events, 1))
			if q.Stats().Events < rounds || per > eventMemory {
				t.Errorf("%.0f B for each of %d events, more than %d", per, q.Stats().Events, eventMemory)
			}
			runtime.KeepAlive(n)
		})
	}
}

// A queue whose receiver is dead stays within its bound, whatever comes.
func TestMemoryOfAQueueWithoutItsReceiver(t *testing.T) {
	const most = 1 << 20
	n, q := bare(Options{Filter: Filter{Types: All}, Bytes: most})
	q.drainAll()
	for i := range 60_000 {
		n.Emit(Event{Type: Subscribed, Channel: fmt.Sprintf("room:%d", i%1000), Client: "6f0c2c7e-5f5e-4d2c-9a61-0c1f3d1b2a3c", User: fmt.Sprint("user-", i)})
		n.Join(fmt.Sprintf("room:%d", i%5000))
		if i%100 == 0 {
			n.turn(n.now())
			if s := q.Stats(); s.Bytes > most {
				t.Fatalf("%d bytes", s.Bytes)
			}
		}
	}
	s := q.Stats()
	t.Logf("%+v", s)
	if s.Dropped < 20_000 || uint64(s.Events)+s.Dropped+s.Collapsed < 60_000 {
		t.Errorf("%+v", s)
	}
}

// Nothing is dropped in silence: for each event there is a Resync that counts it.
func TestDroppedEventsAreCounted(t *testing.T) {
	n, q := bare(Options{Filter: Filter{Types: 1 << Publication}, Bytes: 256 << 10})
	q.drainAll()
	const rounds = 20_000
	for i := range rounds {
		n.Emit(Event{Type: Publication, Channel: fmt.Sprintf("room:%d", i%100), Bytes: []byte(`{"text":"hello"}`), Offset: uint64(i + 1), HistoryEpoch: "abcd"})
		if i%100 == 0 {
			n.turn(n.now())
		}
	}
	n.turn(n.now())
	var came, dropped uint64
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		b, _ := q.next(q.now())
		if b == nil {
			break
		}
		for _, e := range b.Events {
			if dropped += e.Dropped; e.Type == Publication {
				came++
			}
		}
		q.done(b, nil, q.now())
		q.mu.Unlock()
		n.turn(n.now())
		q.mu.Lock()
	}
	if came+dropped != rounds || dropped == 0 || q.stats.Dropped != dropped {
		t.Errorf("%d events came, %d were dropped, of %d; %+v", came, dropped, rounds, q.stats)
	}
}

// What a Reset would have counted that is not sent, the next one counts.
func TestResetsThatAreNotSentAreCounted(t *testing.T) {
	n, q := bare(Options{})
	q.drainAll()
	l := &q.lines[3]
	l.lost, l.dropped = true, 5
	n.reset(q, 3, "")
	l.forget()
	n.reset(q, 3, "")
	n.reset(q, 3, "")
	if s := l.segments[0].snap; s.dropped != 5 || len(l.segments) != 1 {
		t.Errorf("%+v", s)
	}
}

func TestWhatLoopsCallAllocatesNothing(t *testing.T) {
	n, _ := bare(Options{Filter: Filter{Types: All}})
	n.Join("news")
	e := Event{Type: Publication, Channel: "news", Bytes: []byte("42"), Client: "6f0c2c7e"}
	for p := range n.in.shards {
		n.in.shards[p].records = make([]byte, 0, intakeMax+1000)
	}
	for name, f := range map[string]func(){
		"a join":               func() { n.Join("news"); n.Leave("news") },
		"an event":             func() { n.Emit(e) },
		"one of another type":  func() { n.Emit(Event{Type: Digest}) },
		"a first join, a last": func() { n.Join("chat"); n.Leave("chat") },
	} {
		if allocs := testing.AllocsPerRun(1000, f); allocs > 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

// A digest of many channels holds up no loop: what loops call takes no lock for as long.
func TestADigestHoldsNoLoopUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{})
		r := new(inbox)
		n.Add(Options{Digest: time.Minute}, r)
		for i := range 2000 {
			n.Join(fmt.Sprintf("room:%d", i))
		}
		r.want(t, 500*time.Millisecond, occupiedRooms(2000)...)
		time.Sleep(time.Minute)
		synctest.Wait()
		channels, digests := 0, 0
		for _, e := range r.take() {
			if e.Type == Digest {
				digests++
				channels += len(e.Channels)
			}
		}
		if channels < 1900 || digests < 60 {
			t.Errorf("%d channels in %d digests", channels, digests)
		}
		n.Close(t.Context()) // ignored: everything was sent
	})
}

func occupiedRooms(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("occupied room:%d", i))
	}
	return list
}

func BenchmarkJoin(b *testing.B) {
	n, _ := bare(Options{})
	n.Join("news")
	b.ReportAllocs()
	for b.Loop() {
		n.Join("news")
	}
}

// An event from a loop to a receiver that accepts it.
func BenchmarkEvent(b *testing.B) {
	n, q := bare(Options{})
	n.levels.delay = 0
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i++; (i-1)%200 < 100 {
			n.Join(rooms[(i-1)%100])
		} else {
			n.Leave(rooms[(i-1)%100])
		}
		if i%100 == 0 {
			n.turn(n.now())
			q.drainAll()
		}
	}
}

// An event whose receiver is dead.
func BenchmarkEventThatFindsNoRoom(b *testing.B) {
	n, _ := bare(Options{Filter: Filter{Types: All}, Bytes: 1 << 20})
	n.levels.delay = 0
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		n.Emit(Event{Type: Publication, Channel: rooms[i%100], Bytes: []byte(`{"text":"hello"}`)})
		if i%100 == 0 {
			n.turn(n.now())
		}
	}
}

var rooms = func() (list [100]string) {
	for i := range list {
		list[i] = fmt.Sprintf("room:%d", i)
	}
	return list
}()

// A digest of 100,000 channels: a partition's part of it.
func BenchmarkDigest(b *testing.B) {
	n, q := bare(Options{})
	for i := range 100_000 {
		n.Join(fmt.Sprintf("room:%d", i))
	}
	n.turn(n.now())
	q.drainAll()
	b.ReportAllocs()
	for b.Loop() {
		q.digest(3, n.clock(), n.levels.occupied(3, &q.o.Filter))
		q.drainAll()
	}
}

// A batch of 100 events as JSON.
func BenchmarkBody(b *testing.B) {
	n, q := bare(Options{})
	q.drainAll()
	for range 100 {
		n.push(0, Occupied, "room:1", appendRecord(nil, &Event{Type: Occupied, Channel: "room:1", Time: n.clock()}))
	}
	q.mu.Lock()
	batch, _ := q.next(q.now())
	q.mu.Unlock()
	b.ReportAllocs()
	for b.Loop() {
		batch.body = nil
		batch.Body()
	}
}
