package poller

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// writes gives the number of times that a poller's eventfd was written to: nobody
// reads it.
func writes(t *testing.T, p *Poller) uint64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", p.gate.waker))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if count, ok := strings.CutPrefix(line, "eventfd-count:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(count), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Skip("this kernel does not show an eventfd's count")
	return 0
}

func TestWakesCoalesceWhileTheLoopIsBusy(t *testing.T) {
	fds := newFDs(t)
	var runs atomic.Int32
	ran := make(chan struct{}, 100)
	p, err := New(func() {}, func() { runs.Add(1); ran <- struct{}{} }, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, b := fds.pair(t)
	busy, free := make(chan struct{}), make(chan struct{})
	turns := make(chan struct{}, 100)
	var d Desc
	if err := p.Add(&d, a, Readable, handlerFunc(func(Events) {
		if runs.Load() == 0 {
			close(busy)
			<-free
		}
		drain(a)
		turns <- struct{}{}
	})); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, b, "x")
	receive(t, busy, "the handler")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 20 {
				p.Wake()
			}
		})
	}
	wg.Wait()
	if got := writes(t, p); got != 0 {
		t.Errorf("1000 wakes of a busy loop cost %d writes, want none", got)
	}
	close(free)
	receive(t, turns, "the handler's end")
	receive(t, ran, "the wake function")
	for range 3 { // more turns
		mustWrite(t, b, "x")
		receive(t, turns, "another turn")
	}
	if got := runs.Load(); got != 1 {
		t.Errorf("the wake function ran %d times, want once", got)
	}
}

// Goroutines post, wake, and now and then wait until their post was seen: a lost wake stops
// all of them, once the loop sleeps. Beside them sockets become ready at random, whose
// handlers share a counter with the wake function, without a lock: the race detector
// sees whether they share a goroutine.
func TestNoWakeIsLostAmongRandomEvents(t *testing.T) {
	const goroutines, sockets = 8, 4
	wakes := 1_000_000 / goroutines
	if testing.Short() || raceEnabled {
		wakes /= 20
	}
	fds := newFDs(t)
	var posted, seen atomic.Int64
	var gaveUp atomic.Bool
	var mu sync.Mutex
	progress := sync.NewCond(&mu)
	onLoop := 0
	p, err := New(func() {}, func() {
		onLoop++
		seen.Store(posted.Load())
		mu.Lock()
		defer mu.Unlock()
		progress.Broadcast()
	}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	var peers [sockets]int
	var d [sockets]Desc
	var arrived, sent atomic.Int64
	for i := range peers {
		a, b := fds.pair(t)
		peers[i] = b
		if err := p.Add(&d[i], a, Readable, handlerFunc(func(Events) {
			onLoop++
			if arrived.Add(int64(drain(a)))%16 == 0 {
				p.Wake() // from the loop itself
			}
		})); err != nil {
			t.Fatal(err)
		}
	}
	giveUp := time.AfterFunc(patience, func() {
		gaveUp.Store(true)
		mu.Lock()
		defer mu.Unlock()
		progress.Broadcast()
	})
	defer giveUp.Stop()
	await := func(done func() bool) {
		mu.Lock()
		defer mu.Unlock()
		for !done() && !gaveUp.Load() {
			progress.Wait()
		}
	}
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range wakes {
				if random.IntN(64) == 0 {
					n, _ := Write(peers[random.IntN(sockets)], []byte("x")) // a full socket is no matter
					sent.Add(int64(n))
				}
				mine := posted.Add(1)
				p.Wake()
				if random.IntN(4) == 0 {
					await(func() bool { return seen.Load() >= mine })
				}
			}
		})
	}
	wg.Wait()
	await(func() bool { return seen.Load() == posted.Load() })
	for arrived.Load() < sent.Load() && !gaveUp.Load() {
		runtime.Gosched()
	}
	asleep := writes(t, p)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d of the wakes found the loop asleep", asleep)
	if gaveUp.Load() || onLoop == 0 {
		t.Errorf("%d of %d wakes seen and %d of %d bytes arrived in %d calls", seen.Load(), goroutines*wakes, arrived.Load(), sent.Load(), onLoop)
	}
}

// The edge of a wake is gone with the batch that the gate is part of, and a wake while the
// batch is under way makes none. So the epoll descriptor says nothing about either: before
// the loop sleeps it has to ask for the flag.
func TestWakeWhileTheWakeFunctionRunsIsSeenBeforeTheLoopSleeps(t *testing.T) {
	started, wakened, again := make(chan struct{}), make(chan struct{}), make(chan struct{})
	runs := 0
	p, err := New(func() {}, func() {
		switch runs++; runs {
		case 1:
			close(started)
			<-wakened
		case 2:
			close(again)
		}
	}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Wake()
	receive(t, started, "the wake function")
	before := writes(t, p)
	p.Wake()
	if n := writes(t, p) - before; n != 0 {
		t.Errorf("the wake made %d writes, want none: the loop does not sleep", n)
	}
	close(wakened)
	receive(t, again, "the wake function's second run")
}

func TestWakeFromTheWakeFunctionRunsItAgain(t *testing.T) {
	const want = 1000
	runs := 0
	done := make(chan struct{})
	var self atomic.Pointer[Poller]
	p, err := New(func() {}, func() {
		if runs++; runs < want {
			self.Load().Wake()
			self.Load().Wake() // this one coalesces with the first
		} else if runs == want {
			close(done)
		}
	}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	self.Store(p)
	p.Wake()
	receive(t, done, "the wake function to run again and again")
	if got := writes(t, p); got > 1 { // one where the loop slept
		t.Errorf("%d writes for %d runs, want at most one", got, want)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if runs != want {
		t.Errorf("%d runs, want %d", runs, want)
	}
}

// Whatever ends a wait, the batch function runs first.
func TestBatchFunctionRunsAfterEachWait(t *testing.T) {
	fds := newFDs(t)
	batches := 0
	ran := make(chan int, 1)
	p, err := New(func() { batches++ }, func() { ran <- batches }, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, b := fds.pair(t)
	var d Desc
	if err := p.Add(&d, a, Readable, handlerFunc(func(Events) { drain(a); ran <- batches })); err != nil {
		t.Fatal(err)
	}
	asleep := func() {
		for end := time.Now().Add(patience); !p.gate.parked.Load(); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatal("the loop does not wait")
			}
		}
	}
	last := -1
	for i := range 10 {
		if asleep(); i%2 == 0 {
			p.Wake()
		} else {
			mustWrite(t, b, "x")
		}
		n := receive(t, ran, "the wake function or the handler")
		if n <= last {
			t.Errorf("run %d is in batch %d, the one before in %d", i, n, last)
		}
		last = n
	}
}

func TestWakeDoesNotAllocate(t *testing.T) {
	ran := make(chan struct{}, 1)
	p, err := New(func() {}, func() { ran <- struct{}{} }, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got := testing.AllocsPerRun(1000, func() { p.Wake(); <-ran }); got != 0 {
		t.Errorf("%g allocations for a wake and its turn", got)
	}
}

func BenchmarkWake(b *testing.B) {
	ran := make(chan struct{}, 1)
	p, err := New(func() {}, func() { ran <- struct{}{} }, func(err error) { b.Error(err) })
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	b.ReportAllocs()
	for b.Loop() {
		p.Wake()
		<-ran
	}
}
