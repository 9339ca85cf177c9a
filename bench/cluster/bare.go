package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"sluice/bench/sys"
)

// bareOptions are what a bare publisher does: the least that a program must do for durable
// publications, without clients, channels and protocols.
type bareOptions struct {
	Dir         string        `json:"dir"`
	Always      bool          `json:"always"` // sync each
	Size        int           `json:"size"`
	Outstanding int           `json:"outstanding"`
	Waiting     bool          `json:"waiting"` // each by a goroutine that waits for its acknowledgement; else all by one
	Channels    int           `json:"channels"`
	Warmup      time.Duration `json:"warmup"`
	For         time.Duration `json:"for"`
}

// speed is what publications cost.
type speed struct {
	PerSecond float64 `json:"per_second"` // acknowledged
	CPU       float64 `json:"cpu"`        // microseconds of the process for each
}

// Bare runs a bare JetStream publisher in a process of its own.
func (r *Run) Bare(o bareOptions) (s speed) {
	words := must(json.Marshal(o))
	cmd := exec.CommandContext(r.Context, must(os.Executable()), "bare-publisher", string(words))
	cmd.Stderr = os.Stderr
	out := must(cmd.Output())
	noError(json.Unmarshal(out, &s))
	return s
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
	s, err := o.publish(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// publish publishes for a while through an embedded server with JetStream on disk, whose stream has
// the limits of a gateway's.
func (o bareOptions) publish(ctx context.Context) (_ speed, err error) {
	s, err := server.NewServer(&server.Options{
		DontListen: true, NoSigs: true, JetStream: true, StoreDir: o.Dir, JetStreamMaxStore: 10 << 30, JetStreamMaxMemory: 1 << 30,
		SyncAlways: o.Always,
	})
	if err != nil {
		return speed{}, err
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(time.Minute) {
		return speed{}, errors.New("the embedded server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return speed{}, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(2*o.Outstanding)) // the bound is that of outstanding
	if err != nil {
		return speed{}, err
	}
	if _, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "bare", Subjects: []string{"bare.>"}, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		AllowDirect: true, MaxMsgsPerSubject: 101, MaxAge: 24 * time.Hour, MaxBytes: 8 << 30, Duplicates: 15 * time.Second,
	}); err != nil {
		return speed{}, err
	}
	subjects := make([]string, o.Channels)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("bare.ch%d", i)
	}
	payload := make([]byte, o.Size)
	load := o.outstanding
	if o.Waiting {
		load = o.waiting
	}
	if _, err = load(ctx, js, subjects, payload, o.Warmup); err != nil {
		return speed{}, err
	}
	begin := time.Now()
	before, _ := sys.CPU(0) // ignored: a process may always ask for its own time
	n, err := load(ctx, js, subjects, payload, o.For)
	after, _ := sys.CPU(0) // ignored: as above
	return speed{float64(n) / time.Since(begin).Seconds(), float64((after - before).Microseconds()) / float64(max(n, 1))}, err
}

// waiting publishes for a while from as many goroutines as may be outstanding.
func (o bareOptions) waiting(ctx context.Context, js jetstream.JetStream, subjects []string, payload []byte, d time.Duration) (int, error) {
	var all atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for i := range o.Outstanding {
		wg.Go(func() {
			for n := i; time.Now().Before(end); n++ {
				if _, err := js.Publish(ctx, subjects[n%len(subjects)], payload); err != nil {
					failed.Store(&err)
					return
				}
				all.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return int(all.Load()), nil
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
