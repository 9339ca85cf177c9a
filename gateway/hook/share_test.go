package hook

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"sluice/gateway/hook/queue"
)

// held is a hook whose calls a test answers.
type held struct {
	mu      sync.Mutex
	answers []func(*PublishResult, error)
	cancels int
	atOnce  bool
}

func (h *held) Ask(_ *PublishRequest, answer func(*PublishResult, error)) func() {
	if h.atOnce {
		answer(nil, nil)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers = append(h.answers, answer)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.cancels++
	}
}

func byData(q *PublishRequest) (string, bool) { return string(q.Data), len(q.Data) > 0 }

func TestRequestsWithOneKeyShareACall(t *testing.T) {
	inner, budget := &held{}, queue.NewBudget(3, 2)
	h := Share(inner, budget, byData)
	var got [7]answers[PublishResult]
	for i := range 3 {
		h.Ask(publish("192.0.2.1", "a"), got[i].take)
	}
	h.Ask(publish("192.0.2.1", "a"), got[3].take) // the third that waits beside the first
	h.Ask(publish("192.0.2.1", "b"), got[4].take)
	h.Ask(publish("192.0.2.1", ""), got[5].take)
	h.Ask(publish("192.0.2.1", ""), got[6].take)
	if len(inner.answers) != 4 || budget.Used() != 2 {
		t.Fatalf("%d calls, %d places", len(inner.answers), budget.Used())
	}
	if got[3].n.Load() != 1 || !errors.Is(got[3].err, ErrOverload) {
		t.Errorf("beyond the budget: %d answers, %v", got[3].n.Load(), got[3].err)
	}
	result := &PublishResult{}
	inner.answers[0](result, nil)
	for i := range 3 {
		if got[i].n.Load() != 1 || got[i].a != result {
			t.Errorf("request %d: %d answers", i, got[i].n.Load())
		}
	}
	if got[4].n.Load() != 0 || budget.Used() != 0 {
		t.Errorf("another key: %d answers; %d places", got[4].n.Load(), budget.Used())
	}
	var next answers[PublishResult]
	h.Ask(publish("192.0.2.1", "a"), next.take)
	if len(inner.answers) != 5 || next.n.Load() != 0 {
		t.Error("an answer is used after it has come")
	}
}

func TestASharedCallIsCanceledWithTheLast(t *testing.T) {
	inner, budget := &held{}, queue.NewBudget(0, 0)
	h := Share(inner, budget, byData)
	var got [3]answers[PublishResult]
	var cancels [3]func()
	for i := range got {
		cancels[i] = h.Ask(publish("192.0.2.1", "a"), got[i].take)
	}
	cancels[0]()
	cancels[0]()
	cancels[2]()
	if inner.cancels != 0 || budget.Used() != 1 {
		t.Errorf("canceled although one waits: %d; %d places", inner.cancels, budget.Used())
	}
	inner.answers[0](nil, ErrTimeout)
	cancels[1]()
	if got[0].n.Load() != 0 || got[2].n.Load() != 0 || got[1].err != ErrTimeout || inner.cancels != 0 {
		t.Error("not the one that waits is answered")
	}
	first := h.Ask(publish("192.0.2.1", "a"), got[0].take)
	second := h.Ask(publish("192.0.2.1", "a"), got[0].take)
	first()
	second()
	if inner.cancels != 1 || budget.Used() != 0 {
		t.Errorf("%d cancels; %d places", inner.cancels, budget.Used())
	}
	h.Ask(publish("192.0.2.1", "a"), got[0].take)
	if len(inner.answers) != 3 {
		t.Error("a request waits for a call that is canceled")
	}
}

func TestAnAnswerThatComesAtOnce(t *testing.T) {
	inner := &held{atOnce: true}
	h := Share(inner, queue.NewBudget(0, 0), byData)
	var got answers[PublishResult]
	h.Ask(publish("192.0.2.1", "a"), got.take)()
	h.Ask(publish("192.0.2.1", "a"), got.take)()
	if got.n.Load() != 2 || len(inner.answers) != 2 {
		t.Errorf("%d answers to %d calls", got.n.Load(), len(inner.answers))
	}
}

// Under the race detector.
func TestSharingByManyGoroutines(t *testing.T) {
	var running sync.WaitGroup
	budget := queue.NewBudget(0, 0)
	inner := askFunc(func(_ *PublishRequest, answer func(*PublishResult, error)) func() {
		running.Go(func() { answer(nil, nil) })
		return func() {}
	})
	h := Share(inner, budget, byData)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 1000 {
				cancel := h.Ask(publish("192.0.2.1", fmt.Sprint(i%3)), func(*PublishResult, error) {})
				if rand.IntN(2) == 0 {
					cancel()
				}
			}
		})
	}
	all.Wait()
	running.Wait()
	if budget.Used() != 0 || len(h.(*shared[*PublishRequest, PublishResult]).flights) != 0 {
		t.Errorf("%d places are left over", budget.Used())
	}
}

type askFunc func(*PublishRequest, func(*PublishResult, error)) func()

func (f askFunc) Ask(q *PublishRequest, answer func(*PublishResult, error)) func() {
	return f(q, answer)
}
