package poller

import (
	"fmt"
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
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", p.waker))
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
	p, err := New(func() { runs.Add(1); ran <- struct{}{} }, func(err error) { t.Error(err) })
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
	if got := writes(t, p); got != 1 {
		t.Errorf("1000 wakes of a busy loop cost %d writes, want 1", got)
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

// Each goroutine posts, wakes, and goes on only when its post was seen: a lost
// wake stops all of them. Beside them a handler shares a counter with the wake
// function, without a lock: the race detector sees whether they share a goroutine.
func TestNoWakeIsLost(t *testing.T) {
	const goroutines, rounds = 16, 2000
	fds := newFDs(t)
	var posted, seen atomic.Int64
	onLoop := 0
	p, err := New(func() {
		seen.Store(posted.Load())
		onLoop++
	}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	a, b := fds.pair(t)
	var d Desc
	if err := p.Add(&d, a, Readable, handlerFunc(func(Events) { drain(a); onLoop++ })); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(6 * patience)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range rounds {
				mine := posted.Add(1)
				p.Wake()
				for seen.Load() < mine {
					if time.Now().After(deadline) {
						t.Errorf("a wake is lost in round %d: %d of %d seen", i, seen.Load(), mine)
						return
					}
					runtime.Gosched()
				}
				if i%16 == 0 {
					Write(b, []byte("x")) // more events beside the wakes; a full socket is no matter
				}
			}
		})
	}
	wg.Wait()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if onLoop == 0 || seen.Load() != goroutines*rounds {
		t.Errorf("%d of %d seen in %d calls", seen.Load(), goroutines*rounds, onLoop)
	}
}

func TestWakeFromTheWakeFunctionRunsItAgain(t *testing.T) {
	const want = 1000
	runs := 0
	done := make(chan struct{})
	var self atomic.Pointer[Poller]
	p, err := New(func() {
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
	if got := writes(t, p); got != want {
		t.Errorf("%d writes for %d runs", got, want)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if runs != want {
		t.Errorf("%d runs, want %d", runs, want)
	}
}

func TestWakeDoesNotAllocate(t *testing.T) {
	l := newLoop(t)
	if got := testing.AllocsPerRun(1000, l.Wake); got != 0 {
		t.Errorf("%g allocations", got)
	}
}

func BenchmarkWake(b *testing.B) {
	ran := make(chan struct{}, 1)
	p, err := New(func() { ran <- struct{}{} }, func(err error) { b.Error(err) })
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
