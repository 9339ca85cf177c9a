package nats

import (
	"context"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestEmbeddedKeepsItsGenerationOverACleanEnd(t *testing.T) {
	dir := t.TempDir() + "/data"
	for round := range 2 {
		e, err := startEmbedded(embeddedConfig{dir: dir, dataMax: 1 << 30, maxMessage: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := natsgo.Connect("", natsgo.InProcessServer(e))
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			ack, err := js.Publish(ctx, "s.a", []byte("x"))
			if err != nil {
				t.Fatal(err)
			}
			e.acknowledged(ack.Stream, ack.Sequence)
		}
		if g := e.generation(); g != 1 {
			t.Errorf("round %d: generation %d, want 1", round, g)
		}
		nc.Close()
		if err := e.close(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
