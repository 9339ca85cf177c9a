package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/hook"
)

// A body's buffer is used again only when nothing reads it any more.
func TestABodyThatIsStillRead(t *testing.T) {
	b := newBody()
	b.bytes = append(b.bytes, "hello"...)
	first, second := b.open(), b.open()
	b.release()
	first.Close()
	first.Close()
	if b.refs.Load() != 1 {
		t.Fatalf("%d references", b.refs.Load())
	}
	got, err := io.ReadAll(second)
	if err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := first.Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose {
		t.Errorf("after Close: %v", err)
	}
	second.Close()
	if b.refs.Load() != 0 {
		t.Errorf("%d references", b.refs.Load())
	}
}

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
