package proxy

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/hook"
)

// Under the race detector: calls that are canceled at any moment leave no body in use.
func TestCallsThatAreCanceledAtAnyMoment(t *testing.T) {
	b := newBackend(t, says(`{"result":{}}`))
	h := endpoint(t, Config{Endpoint: b.URL, InFlight: 8, Binary: true}).Publish()
	data := []byte(strings.Repeat("x", 20_000))
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 40 {
				done := make(chan struct{})
				cancel := h.Ask(&hook.PublishRequest{Client: someone(), Data: data}, func(*hook.PublishResult, error) { close(done) })
				ctx, stop := context.WithTimeout(context.Background(), time.Duration(g*i)*time.Microsecond)
				select {
				case <-done:
				case <-ctx.Done():
				}
				stop()
				cancel()
			}
		})
	}
	all.Wait()
	h.Close()
}
