package hook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/hook/queue"
)

// answers collects the answers to one request.
type answers[A any] struct {
	n   atomic.Int32
	a   *A
	err error
}

func (x *answers[A]) take(a *A, err error) {
	x.a, x.err = a, err
	x.n.Add(1)
}

func client(ip string) *Identity {
	return &Identity{ID: "c", Peer: netip.AddrPortFrom(netip.MustParseAddr(ip), 1)}
}

func publish(ip, data string) *PublishRequest {
	return &PublishRequest{Client: client(ip), Channel: "news", Data: []byte(data)}
}

type publisher = func(context.Context, *PublishRequest) (*PublishResult, error)

// What a function returns is the answer, and is counted as what it is.
func TestAnswersOfFunctions(t *testing.T) {
	result, failed := &PublishResult{}, errors.New("no database")
	reply, leave := &Error{Code: 400, Message: "no"}, &Disconnect{Code: 4500, Reason: "go"}
	for name, c := range map[string]struct {
		f       publisher
		a       *PublishResult
		err     error
		outcome queue.Outcome
	}{
		"result": {func(context.Context, *PublishRequest) (*PublishResult, error) { return result, nil }, result, nil, queue.OK},
		"none":   {func(context.Context, *PublishRequest) (*PublishResult, error) { return nil, nil }, nil, nil, queue.OK},
		"error": {func(context.Context, *PublishRequest) (*PublishResult, error) {
			return result, fmt.Errorf("wrapped: %w", reply)
		}, nil, reply, queue.ErrorReply},
		"disconnect":  {func(context.Context, *PublishRequest) (*PublishResult, error) { return nil, leave }, nil, leave, queue.Disconnect},
		"failure":     {func(context.Context, *PublishRequest) (*PublishResult, error) { return nil, failed }, nil, failed, queue.Failed},
		"no overload": {func(context.Context, *PublishRequest) (*PublishResult, error) { return nil, ErrOverload }, nil, ErrOverload, queue.Overload},
		"obeys its deadline": {func(ctx context.Context, _ *PublishRequest) (*PublishResult, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, nil, ErrTimeout, queue.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := Func(c.f, Options{Name: "publish hook of the app"})
				var got answers[PublishResult]
				h.Ask(publish("192.0.2.1", "x"), got.take)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if got.n.Load() != 1 || got.a != c.a || !errors.Is(got.err, c.err) {
					t.Errorf("%d answers: %v, %v", got.n.Load(), got.a, got.err)
				}
				if f, ok := errors.AsType[*Failure](got.err); ok && f.Hook != "publish hook of the app" {
					t.Errorf("the failure is of %q", f.Hook)
				}
				if s := h.Stats(); s.Outcomes[c.outcome] != 1 || s.Durations.Count() != 1 {
					t.Errorf("counted as %v", s.Outcomes)
				}
				h.Close()
			})
		})
	}
}

func TestAFunctionThatIgnoresItsDeadlineKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := Func(func(_ context.Context, q *PublishRequest) (*PublishResult, error) {
			time.Sleep(3 * time.Second)
			return &PublishResult{}, nil
		}, Options{Timeout: time.Second, Queue: queue.Config{InFlight: 1}})
		var first, second answers[PublishResult]
		h.Ask(publish("192.0.2.1", "x"), first.take)
		h.Ask(publish("192.0.2.1", "x"), second.take)
		time.Sleep(time.Second)
		synctest.Wait()
		if first.n.Load() != 1 || !errors.Is(first.err, ErrTimeout) {
			t.Errorf("at the deadline: %d answers, %v", first.n.Load(), first.err)
		}
		if s := h.Stats(); s.InFlight != 1 || s.Queued != 1 {
			t.Errorf("while it runs: %+v", s)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if first.n.Load() != 1 || second.n.Load() != 1 || h.Stats().Outcomes[queue.Timeout] != 2 {
			t.Errorf("%d and %d answers, %v", first.n.Load(), second.n.Load(), h.Stats().Outcomes)
		}
		h.Close()
	})
}

func TestTheTimeOfACallBeginsWhenItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := Func(func(ctx context.Context, q *PublishRequest) (*PublishResult, error) {
			if until, ok := ctx.Deadline(); !ok || time.Until(until) != time.Second {
				t.Errorf("the deadline is in %v", time.Until(until))
			}
			time.Sleep(700 * time.Millisecond)
			return nil, ctx.Err()
		}, Options{Queue: queue.Config{InFlight: 1}})
		var got [3]answers[PublishResult]
		for i := range got {
			h.Ask(publish("192.0.2.1", "x"), got[i].take)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for i := range got {
			if got[i].n.Load() != 1 || got[i].err != nil {
				t.Errorf("call %d: %d answers, %v", i, got[i].n.Load(), got[i].err)
			}
		}
		h.Close()
	})
}

func TestCancelEndsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var called atomic.Int32
		h := Func(func(ctx context.Context, q *PublishRequest) (*PublishResult, error) {
			called.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}, Options{Timeout: time.Minute, Queue: queue.Config{InFlight: 1}})
		var got [3]answers[PublishResult]
		var cancels [3]func()
		for i := range got {
			cancels[i] = h.Ask(publish("192.0.2.1", "x"), got[i].take)
			synctest.Wait()
		}
		cancels[1]() // it waits
		if s := h.Stats(); s.Queued != 1 {
			t.Errorf("a canceled call waits: %+v", s)
		}
		cancels[0]() // it runs
		synctest.Wait()
		if called.Load() != 2 || h.Stats().InFlight != 1 || h.Stats().Queued != 0 {
			t.Errorf("a canceled call keeps its place: %d calls, %+v", called.Load(), h.Stats())
		}
		for range 2 {
			for _, cancel := range cancels {
				cancel()
			}
		}
		synctest.Wait()
		for i := range got {
			if got[i].n.Load() != 0 {
				t.Errorf("call %d is answered after it was canceled", i)
			}
		}
		if s := h.Stats(); s.Outcomes[queue.Canceled] != 3 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
		h.Close()
	})
}

func TestCloseEndsAllCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := Func(func(ctx context.Context, q *PublishRequest) (*PublishResult, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, Options{Timeout: time.Minute, Queue: queue.Config{InFlight: 1}})
		var got [3]answers[PublishResult]
		for i := range 2 {
			h.Ask(publish("192.0.2.1", "x"), got[i].take)
		}
		synctest.Wait()
		h.Close()
		h.Ask(publish("192.0.2.1", "x"), got[2].take)
		synctest.Wait()
		for i := range got {
			if got[i].n.Load() != 1 || got[i].err == nil {
				t.Errorf("call %d: %d answers, %v", i, got[i].n.Load(), got[i].err)
			}
		}
		if s := h.Stats(); s.Opened != 0 || s.Outcomes[queue.Timeout] != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAPanicOfAFunctionIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, bad := range map[string]func(){
			"boom":      func() { panic("boom") },
			"goroutine": runtime.Goexit,
		} {
			h := Func(func(ctx context.Context, q *PublishRequest) (*PublishResult, error) {
				if string(q.Data) == "bad" {
					bad()
				}
				return nil, nil
			}, Options{Queue: queue.Config{InFlight: 1}})
			var first, second answers[PublishResult]
			h.Ask(publish("192.0.2.1", "bad"), first.take)
			h.Ask(publish("192.0.2.1", "good"), second.take)
			synctest.Wait()
			if first.n.Load() != 1 || first.err == nil || !strings.Contains(first.err.Error(), name) {
				t.Errorf("%s: %d answers, %v", name, first.n.Load(), first.err)
			}
			if second.n.Load() != 1 || second.err != nil || h.Stats().Outcomes[queue.Failed] != 1 {
				t.Errorf("%s: the next call: %d answers, %v, %v", name, second.n.Load(), second.err, h.Stats().Outcomes)
			}
			h.Close()
		}
	})
}

func TestOverloadAndAnOpenBreakerAreOverloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := Func(func(ctx context.Context, q *PublishRequest) (*PublishResult, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, Options{Name: "seats", Queue: queue.Config{InFlight: 1, Budget: queue.NewBudget(1, 0), Breaker: queue.BreakerConfig{Calls: 1}}})
		var got [4]answers[PublishResult]
		for i := range 3 {
			h.Ask(publish("192.0.2.1", "x"), got[i].take)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		h.Ask(publish("192.0.2.1", "x"), got[3].take)
		for i, want := range []string{"seats: no answer within 1s", "not called for now", "too many calls", "not called for now"} {
			if got[i].n.Load() != 1 || !strings.Contains(got[i].err.Error(), want) {
				t.Errorf("call %d: %v", i, got[i].err)
			}
			if is := errors.Is(got[i].err, ErrOverload); is != (i > 0) {
				t.Errorf("call %d is an overload: %t", i, is)
			}
		}
		h.Close()
	})
}

// Under the race detector: answers, cancels and deadlines at the same time.
func TestEachCallIsAnsweredOnce(t *testing.T) {
	h := Func(func(ctx context.Context, q *PublishRequest) (*PublishResult, error) {
		switch q.Data[0] % 4 {
		case 0:
			<-ctx.Done()
			return nil, ctx.Err()
		case 1:
			return nil, &Error{Code: 400}
		}
		return &PublishResult{}, nil
	}, Options{Timeout: time.Millisecond, Queue: queue.Config{InFlight: 4, Wait: 2 * time.Millisecond, Breaker: queue.BreakerConfig{Calls: -1}}})
	var all, answered sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 200 {
				answered.Add(1)
				var once atomic.Int32
				cancel := h.Ask(publish(fmt.Sprintf("192.0.2.%d", g), string(rune('a'+i%26))), func(*PublishResult, error) {
					if once.Add(1) == 1 {
						answered.Done()
					} else {
						t.Error("answered twice")
					}
				})
				if i%3 == 0 {
					runtime.Gosched()
					cancel()
					// The answer may have begun: then it is counted. If not, it never is.
					if once.CompareAndSwap(0, 10) {
						answered.Done()
					}
				}
			}
		})
	}
	all.Wait()
	answered.Wait()
	h.Close()
}

func BenchmarkFunc(b *testing.B) {
	b.ReportAllocs()
	h := Func(func(context.Context, *PublishRequest) (*PublishResult, error) { return nil, nil }, Options{})
	defer h.Close()
	q, done := publish("192.0.2.1", "x"), make(chan struct{}, 1)
	answer := func(*PublishResult, error) { done <- struct{}{} }
	for range b.N {
		h.Ask(q, answer)
		<-done
	}
}

// BenchmarkWait reports the bytes of a call that waits, beside its request: each from an address
// of its own, or all from one.
func BenchmarkWait(b *testing.B) {
	for name, own := range map[string]bool{"own": true, "shared": false} {
		b.Run(name, func(b *testing.B) {
			const n = 10_000
			for range b.N {
				h := Func(func(ctx context.Context, _ *PublishRequest) (*PublishResult, error) {
					<-ctx.Done()
					return nil, nil
				}, Options{Timeout: time.Hour, Queue: queue.Config{InFlight: 1, Wait: time.Hour, Budget: queue.NewBudget(n, n)}})
				requests := make([]*PublishRequest, n+1)
				for i := range requests {
					ip := netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
					if !own {
						ip = netip.AddrFrom4([4]byte{192, 0, 2, 1})
					}
					requests[i] = &PublishRequest{Client: &Identity{Peer: netip.AddrPortFrom(ip, 1)}}
				}
				cancels := make([]func(), n+1)
				answer := func(*PublishResult, error) {}
				before := heap()
				for i := range requests {
					cancels[i] = h.Ask(requests[i], answer)
				}
				b.ReportMetric(float64(heap()-before)/n, "B/waiting")
				runtime.KeepAlive(requests)
				runtime.KeepAlive(cancels)
				h.Close()
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
