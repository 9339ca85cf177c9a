package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
)

// bareOptions are what a bare publisher does: the least that a program must do for durable
// publications, without clients, channels and protocols.
type bareOptions struct {
	Dir         string        `json:"dir"`
	Always      bool          `json:"always"` // sync each
	Size        int           `json:"size"`
	Outstanding int           `json:"outstanding"`
	Channels    int           `json:"channels"`
	Warmup      time.Duration `json:"warmup"`
	For         time.Duration `json:"for"`
}

// Bare runs a bare JetStream publisher in a process of its own, and returns its acknowledged
// publications per second.
func (r *Run) Bare(o bareOptions) (perSecond float64) {
	words := must(json.Marshal(o))
	cmd := exec.CommandContext(r.ctx, must(os.Executable()), "bare-publisher", string(words))
	cmd.Stderr = os.Stderr
	out := must(cmd.Output())
	noError(json.Unmarshal(out, &perSecond))
	return perSecond
}

// newBareCommand returns the command of that process.
func newBareCommand() *cobra.Command {
	return &cobra.Command{
		Use: "bare-publisher", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return barePublisher(cmd.Context(), args[0]) },
	}
}

func barePublisher(ctx context.Context, words string) error {
	var o bareOptions
	if err := json.Unmarshal([]byte(words), &o); err != nil {
		return err
	}
	perSecond, err := o.publish(ctx)
	if err != nil {
		return err
	}
	fmt.Println(perSecond)
	return nil
}

// publish publishes for a while through an embedded server with JetStream on disk, whose stream has
// the limits of a gateway's.
func (o bareOptions) publish(ctx context.Context) (perSecond float64, err error) {
	s, err := server.NewServer(&server.Options{
		DontListen: true, NoSigs: true, JetStream: true, StoreDir: o.Dir, JetStreamMaxStore: 10 << 30, JetStreamMaxMemory: 1 << 30,
		SyncAlways: o.Always,
	})
	if err != nil {
		return 0, err
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(time.Minute) {
		return 0, fmt.Errorf("the embedded server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(2*o.Outstanding)) // the bound is that of outstanding
	if err != nil {
		return 0, err
	}
	if _, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "bare", Subjects: []string{"bare.>"}, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		AllowDirect: true, MaxMsgsPerSubject: 101, MaxAge: 24 * time.Hour, MaxBytes: 8 << 30, Duplicates: 15 * time.Second,
	}); err != nil {
		return 0, err
	}
	subjects := make([]string, o.Channels)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("bare.ch%d", i)
	}
	payload := make([]byte, o.Size)
	if _, err = o.outstanding(ctx, js, subjects, payload, o.Warmup); err != nil {
		return 0, err
	}
	begin := time.Now()
	n, err := o.outstanding(ctx, js, subjects, payload, o.For)
	return float64(n) / time.Since(begin).Seconds(), err
}

// outstanding publishes for a while, with no more than Outstanding unacknowledged, and returns how
// many were acknowledged.
func (o bareOptions) outstanding(ctx context.Context, js jetstream.JetStream, subjects []string, payload []byte, d time.Duration) (n int, err error) {
	waiting := make(chan jetstream.PubAckFuture, o.Outstanding)
	collected := make(chan error, 1)
	go func() {
		var first error
		for f := range waiting {
			select {
			case <-f.Ok():
				n++
			case err := <-f.Err():
				first = err
			case <-ctx.Done():
				first = ctx.Err()
			}
		}
		collected <- first
	}()
	sent := 0
	for end := time.Now().Add(d); time.Now().Before(end) && err == nil; {
		for range 64 {
			var f jetstream.PubAckFuture
			if f, err = js.PublishAsync(subjects[sent%len(subjects)], payload); err != nil {
				break
			}
			sent++
			waiting <- f
		}
	}
	close(waiting)
	if first := <-collected; err == nil {
		err = first
	}
	return n, err
}
