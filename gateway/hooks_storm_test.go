package gateway

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
	"sluice/gateway/hook/queue"
)

// Clients of every kind come, wait and go at any time, and hooks answer at any time with anything. Nothing is left of them.
func TestNothingIsLeftOfClientsThatWaitForHooks(t *testing.T) {
	t.Parallel()
	budget := queue.NewBudget(20, 20)
	options := hook.Options{Timeout: 20 * time.Millisecond, Queue: queue.Config{
		InFlight: 4, Wait: 30 * time.Millisecond, Budget: budget, Breaker: queue.BreakerConfig{Open: 5 * time.Millisecond, OpenMax: 10 * time.Millisecond},
	}}
	answer := func(ctx context.Context) error {
		select {
		case <-time.After(time.Duration(rand.IntN(4)) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		switch rand.IntN(8) {
		case 0:
			return &hook.Error{Code: 403, Message: "no"}
		case 1:
			return &hook.Disconnect{Code: 4500, Reason: "no"}
		case 2:
			return errBackend
		case 3:
			<-ctx.Done()
			return ctx.Err()
		case 4:
			panic("planted")
		}
		return nil
	}
	hooks := hook.Hooks{
		Connect: hook.Func(func(ctx context.Context, _ *hook.ConnectRequest) (*hook.ConnectResult, error) {
			return &hook.ConnectResult{User: "42"}, answer(ctx)
		}, options),
		Subscribe: hook.Func(func(ctx context.Context, _ *hook.SubscribeRequest) (*hook.SubscribeResult, error) {
			return &hook.SubscribeResult{}, answer(ctx)
		}, options),
		Publish: hook.Func(func(ctx context.Context, _ *hook.PublishRequest) (*hook.PublishResult, error) {
			return nil, answer(ctx)
		}, options),
		Disconnect: hook.Func(func(ctx context.Context, _ *hook.DisconnectRequest) (*hook.DisconnectResult, error) {
			return nil, answer(ctx)
		}, options),
	}
	set := hook.NewSet(hooks)
	s := start(t, Config{Hooks: set, PingInterval: -1, History: -1, Raw: RawPublish})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 40 {
				of := opens[rand.IntN(len(opens))]
				c := of.open(t, s)
				time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) // any time
				if of.name == "Centrifugo" {
					c.Does(`{"id":2,"subscribe":{"channel":"x"}}`, `{"id":3,"publish":{"channel":"x","data":1}}`)
				}
				if rand.IntN(2) == 0 {
					c.Fin()
				}
				c.Vanish()
			}
		})
	}
	all.Wait()
	s.wantConnections(0)
	clienttest.WaitFor(t, "all calls to be over", func() bool {
		for _, h := range set.Stats() {
			if h.Calls.InFlight+h.Calls.Queued > 0 {
				return false
			}
		}
		return budget.Used() == 0
	})
}
