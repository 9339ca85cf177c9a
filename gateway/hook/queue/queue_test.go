package queue

import (
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

func exit() { runtime.Goexit() }

func TestAddressesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{InFlight: 1})
		for range 5 {
			r.submit(1) // 0 runs
		}
		r.submit(2)
		r.submit(3)
		r.submit(3)
		r.endAll()
		if diff := cmp.Diff([]int{0, 1, 5, 6, 2, 7, 3, 4}, r.order); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOneAddressHasItsShareAndAllHaveTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := NewBudget(4, 0)
		r, other := newRig(t, Config{InFlight: 1, Budget: shared}), newRig(t, Config{InFlight: 1, Budget: shared})
		r.submit(1)
		other.submit(1)
		for range 3 {
			r.submit(1)
		}
		if x := r.all[3]; x.refusals() != 1 || x.why() != Overload {
			t.Errorf("beyond its share: %d refusals, %v", x.refusals(), x.why())
		}
		if x := other.submit(1); x.refusals() != 1 {
			t.Error("the share is not that of all queues together")
		}
		other.submit(2)
		other.submit(3)
		if x := r.submit(4); x.refusals() != 1 || shared.Used() != 4 {
			t.Errorf("beyond the bound: %d refusals, %d places taken", x.refusals(), shared.Used())
		}
		if !r.Cancel(&r.all[1].Entry) || r.Cancel(&r.all[1].Entry) {
			t.Error("a task is canceled twice")
		}
		r.all[1].canceled = true
		if x := other.submit(4); x.refusals() != 0 {
			t.Error("a canceled task keeps its place")
		}
		r.endAll()
		other.endAll()
		r.exactlyOnce()
		other.exactlyOnce()
	})
}

func TestWhatWaitsTooLongIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{InFlight: 1, Wait: time.Second})
		r.submit(1)
		first := r.submit(1)
		time.Sleep(600 * time.Millisecond)
		second := r.submit(1)
		time.Sleep(400*time.Millisecond - 1)
		r.rest()
		if first.refusals() != 0 {
			t.Error("refused too early")
		}
		time.Sleep(time.Nanosecond)
		r.rest()
		if first.refusals() != 1 || first.why() != Overload || second.refusals() != 0 {
			t.Errorf("after its time: %d refusals, %v; of the next: %d", first.refusals(), first.why(), second.refusals())
		}
		time.Sleep(600 * time.Millisecond)
		r.rest()
		if second.refusals() != 1 {
			t.Error("the second is not refused")
		}
		if s := r.Stats(); s.Queued != 0 || s.Outcomes[Overload] != 2 {
			t.Errorf("%+v", s)
		}
		r.endAll()
	})
}

func TestTheBreakerOpensProbesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{InFlight: 4, Breaker: BreakerConfig{Calls: 10, Probes: 2}})
		do := func(e ending) *task {
			x := r.submit(1)
			if x.runs() > 0 {
				r.end(x, e)
			}
			return x
		}
		away := ending{o: Timeout, away: true}
		for range 5 {
			do(ending{})
		}
		for range 20 {
			do(ending{o: Canceled, away: true}) // says nothing
			do(ending{o: Request, away: true})  // nor does this
		}
		for range 4 {
			do(away)
		}
		time.Sleep(9 * time.Second)
		for range 4 {
			r.submit(1)
		}
		queued := r.submit(2)
		running := slices.Clone(r.running)
		r.end(running[0], away)
		if s := r.Stats(); !s.Open || s.Opened != 1 || s.Queued != 0 {
			t.Errorf("with half of ten failed: %+v", s)
		}
		if queued.why() != Breaker || queued.refusals() != 1 {
			t.Errorf("what waits is not refused: %v", queued.why())
		}
		if x := do(away); x.why() != Breaker {
			t.Error("what comes is not refused")
		}
		time.Sleep(1500 * time.Millisecond)
		probe := r.submit(1)
		if probe.runs() != 1 {
			t.Fatal("no probe after one and a half times the delay")
		}
		if x := r.submit(1); x.why() != Breaker {
			t.Errorf("all places are taken, and it is not refused: %v", x.why())
		}
		r.end(running[1], away) // from before: counts for nothing
		second := r.submit(1)
		if x := r.submit(1); second.runs() != 1 || x.why() != Breaker {
			t.Errorf("a second probe, and a third one: %d, %v", second.runs(), x.why())
		}
		r.end(second, ending{o: Canceled})
		second = r.submit(1)
		r.end(probe, ending{})
		if x := r.submit(1); x.why() != Breaker || !r.Stats().Open {
			t.Error("closed although only one of two probes has succeeded")
		}
		r.end(second, away)
		time.Sleep(1000 * time.Millisecond) // less than half of twice the delay
		if x := do(away); x.why() != Breaker {
			t.Error("it did not open for longer")
		}
		time.Sleep(2 * time.Second)
		for range 2 {
			if !r.Stats().Open {
				t.Error("it has closed too early")
			}
			do(ending{})
		}
		if r.Stats().Open {
			t.Error("it did not close")
		}
		for range 9 {
			do(away) // the window has begun anew
		}
		if s := r.Stats(); s.Open || s.Opened != 2 {
			t.Errorf("%+v", s)
		}
		r.endAll()
		r.exactlyOnce()
	})
}

func TestFailuresOfLongAgoDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{Breaker: BreakerConfig{Calls: 10}})
		for range 9 {
			r.end(r.submit(1), ending{o: Refused, away: true})
		}
		for range 3 {
			time.Sleep(11 * time.Second)
			for range 9 {
				r.end(r.submit(1), ending{o: Refused, away: true})
			}
		}
		if r.Stats().Open {
			t.Error("ten within a window were asked for")
		}
		time.Sleep(24 * time.Hour)
		r.end(r.submit(1), ending{o: Refused, away: true})
		if r.Stats().Open {
			t.Error("failures of yesterday count")
		}
	})
}

func TestReopeningIsRandom(t *testing.T) {
	delays := map[time.Duration]bool{}
	for range 100 {
		b := breaker{BreakerConfig: BreakerConfig{}.orDefault()}
		b.opens(0)
		if b.until < b.Open/2 || b.until > b.Open+b.Open/2 {
			t.Fatalf("open for %v", b.until)
		}
		delays[b.until] = true
		for range 10 {
			b.until = 0
			b.opens(0)
		}
		if b.until < b.OpenMax/2 || b.until > b.OpenMax+b.OpenMax/2 {
			t.Fatalf("after many failures open for %v", b.until)
		}
	}
	if len(delays) < 50 {
		t.Errorf("%d different delays", len(delays))
	}
}

func TestAClosedQueueRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{InFlight: 1})
		r.submit(1)
		waits := r.submit(1)
		r.Close()
		r.rest()
		if waits.why() != Overload || waits.refusals() != 1 || r.budget.Used() != 0 {
			t.Error("what waits is not refused")
		}
		if x := r.submit(1); x.refusals() != 1 {
			t.Error("what comes is not refused")
		}
		r.endAll()
		r.Close()
	})
}

func TestDurationsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{InFlight: 1})
		first, second := r.submit(1), r.submit(1)
		time.Sleep(20 * time.Millisecond)
		r.end(first, ending{o: ErrorReply})
		time.Sleep(3 * time.Second)
		r.end(second, ending{o: Disconnect})
		s := r.Stats()
		if s.Durations.Count() != 2 || s.Durations.Counts[4] != 1 || s.Durations.Counts[11] != 1 || s.Durations.Sum != 3020*time.Millisecond {
			t.Errorf("durations: %+v", s.Durations)
		}
		if s.Waits.Counts[0] != 1 || s.Waits.Counts[4] != 1 || s.Waits.Sum != 20*time.Millisecond {
			t.Errorf("waits: %+v", s.Waits)
		}
		if s.Outcomes[ErrorReply] != 1 || s.Outcomes[Disconnect] != 1 {
			t.Errorf("outcomes: %v", s.Outcomes)
		}
	})
}

func TestKeysAreThoseOfNetworks(t *testing.T) {
	key := func(s string) Key { return KeyOf(netip.MustParseAddr(s)) }
	if key("192.0.2.1") != key("::ffff:192.0.2.1") || key("2001:db8:1:2::1") != key("2001:db8:1:2:ffff::2") {
		t.Error("one network has two keys")
	}
	if key("192.0.2.1") == key("192.0.2.2") || key("2001:db8:1:2::1") == key("2001:db8:1:3::1") || KeyOf(netip.Addr{}) != 0 {
		t.Error("two networks have one key")
	}
}

// Under the race detector: tasks that run, wait, are canceled and expire at the same time.
func TestManyGoroutinesAtATime(t *testing.T) {
	q := New(Config{InFlight: 3, Wait: time.Millisecond, Budget: NewBudget(50, 0), Breaker: BreakerConfig{Open: time.Microsecond}})
	var all, done sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 500 {
				x := &racer{done: &done, ends: ending{o: Outcome(i % int(Canceled)), away: i%3 == 0}}
				done.Add(1)
				q.Submit(&x.Entry, Key(g%3), x)
				if i%3 == 0 && q.Cancel(&x.Entry) {
					done.Done()
				}
				q.Stats()
			}
		})
	}
	all.Wait()
	done.Wait() // panics if one is done twice, and never ends if one is forgotten
	q.Close()
	if q.budget.Used() != 0 {
		t.Errorf("%d places are left over", q.budget.Used())
	}
}

type racer struct {
	Entry
	done *sync.WaitGroup
	ends ending
}

func (x *racer) Run() (Outcome, bool) {
	runtime.Gosched()
	x.done.Done()
	return x.ends.o, x.ends.away
}

func (x *racer) Refuse(Outcome) { x.done.Done() }

// What waits costs its Entry and its share of an address, and no goroutine.
func TestWhatWaitsIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Entry{}); size > 72 {
		t.Errorf("an Entry has %d bytes", size)
	}
	q, hold := New(Config{InFlight: 1, Wait: time.Hour}), &blocked{make(chan struct{})}
	q.Submit(new(Entry), 0, hold)
	before := runtime.NumGoroutine()
	const n = 4000
	entries := make([]Entry, n)
	for i := range entries {
		q.Submit(&entries[i], Key(i+1), hold)
	}
	if s := q.Stats(); s.Queued != n {
		t.Errorf("%d wait", s.Queued)
	}
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines more", now-before)
	}
	for i := range entries {
		if !q.Cancel(&entries[i]) {
			t.Fatal("not canceled")
		}
	}
	close(hold.until)
	q.Close()
}

type blocked struct{ until chan struct{} }

func (b *blocked) Run() (Outcome, bool) {
	<-b.until
	return OK, false
}

func (*blocked) Refuse(Outcome) {}
