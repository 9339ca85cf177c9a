package queue

import (
	"runtime"
	"testing"
	"time"
)

// quick is a task that is done at once.
type quick struct {
	Entry
	done chan<- struct{}
}

func (x *quick) Run() (Outcome, bool) {
	x.done <- struct{}{}
	return OK, false
}

func (*quick) Refuse(Outcome) {}

func BenchmarkRun(b *testing.B) {
	b.ReportAllocs()
	q, done := New(Config{}), make(chan struct{}, 1)
	for range b.N {
		x := &quick{done: done}
		q.Submit(&x.Entry, 1, x)
		<-done
	}
}

// BenchmarkWait reports the bytes of a task that waits, each from its own address, and of one
// that shares its address with all others.
func BenchmarkWait(b *testing.B) {
	for name, addresses := range map[string]int{"own": 10_000, "shared": 1} {
		b.Run(name, func(b *testing.B) {
			const n = 10_000
			for range b.N {
				hold := &blocked{make(chan struct{})}
				q := New(Config{InFlight: 1, Wait: time.Hour, Budget: NewBudget(n, n)})
				q.Submit(new(Entry), 0, hold)
				before := heap()
				entries := make([]*Entry, n)
				start := time.Now()
				for i := range entries {
					entries[i] = new(Entry)
					q.Submit(entries[i], Key(1+i%addresses), hold)
				}
				submitted := time.Since(start)
				b.ReportMetric(float64(heap()-before-8*n)/n, "B/waiting")
				start = time.Now()
				for _, e := range entries {
					q.Cancel(e)
				}
				b.ReportMetric(float64(submitted)/n, "ns/submit")
				b.ReportMetric(float64(time.Since(start))/n, "ns/cancel")
				close(hold.until)
				q.Close()
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
