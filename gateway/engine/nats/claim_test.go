package nats

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"
)

// Of nodes on three servers that find streams missing at the same moment one creates them, and a node that comes
// meanwhile waits for that one.
func TestOneNodeCreatesStreams(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{})
	openings := make([]*opening, 4)
	for i := range openings {
		l, err := dial(t.Context(), Servers{URLs: []string{servers.Servers[i%3].URL()}}, nil, 1, linkEvents{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.close)
		openings[i] = &opening{l: l, c: streamsConfig{prefix: "sluice"}}
	}
	var claiming sync.WaitGroup
	var winner atomic.Pointer[claim]
	for _, o := range openings[:3] {
		claiming.Go(func() {
			switch c, err := o.claim(t.Context(), 5*time.Second); {
			case err == nil:
				if winner.Swap(c) != nil {
					t.Error("two nodes create")
				}
			case !errors.Is(err, errClaimed) || !errors.Is(err, engine.ErrUnavailable):
				t.Error(err)
			}
		})
	}
	claiming.Wait()
	c := winner.Load()
	if c == nil {
		t.Fatal("no node creates")
	}
	if late, err := openings[3].claim(t.Context(), clienttest.Patience); !errors.Is(err, errClaimed) {
		t.Errorf("one that comes later: %v, %v", late, err)
	}
	c.end()
	clienttest.WaitFor(t, "a claim when nobody creates any more", func() bool {
		last, err := openings[3].claim(t.Context(), claimTime)
		if err == nil {
			last.end()
		} else if !errors.Is(err, errClaimed) { // which what was said before may still say
			t.Fatal(err)
		}
		return err == nil
	})
}
