package main

import (
	"fmt"
	"time"
)

// largeCase is one gateway with one channel.
type largeCase struct {
	name         string
	readers      int
	publications int
	size         int
	stalled      time.Duration // for how long nobody reads, from before the first publication
	flags        []string
}

// buffersMost is the default of --max-buffered.
const buffersMost = 512 << 20

func largeMessages(r *Run) error {
	megabyte := []string{"--max-message", "1MiB", "--channel-buffer", "4MiB", "--max-pending", "2MiB"}
	quarter := []string{"--max-message", "256KiB", "--channel-buffer", "1MiB", "--max-pending", "1MiB"}
	for _, c := range []largeCase{
		{name: "1 MiB", readers: Param(r, "readers_of_1MiB", 50, 1000), publications: Param(r, "publications_of_1MiB", 4, 20), size: 1 << 20, flags: megabyte},
		{name: "256 KiB", readers: Param(r, "readers_of_256KiB", 100, 4000), publications: Param(r, "publications_of_256KiB", 4, 20), size: 256 << 10, flags: quarter},
		{name: "60 KiB", readers: Param(r, "readers_of_60KiB", 200, 6000), publications: 3, size: 60 << 10, stalled: 500 * time.Millisecond},
	} {
		r.Phase(c.name)
		r.large(c)
	}
	return nil
}

func (r *Run) large(c largeCase) {
	g := must(r.Start(c.flags...))
	defer g.Kill()
	clients := must(r.Join(g, c.readers, ClientOptions{Name: "reader", Channel: "row", Whole: true}))
	for _, reader := range clients {
		if c.stalled > 0 {
			reader.Stall()
		}
	}
	begin, done := time.Now(), make(chan error, 1)
	go func() {
		err := r.PublishSome(g, "row", c.publications, c.size)
		r.Settle(2 * time.Minute)
		done <- err
	}()
	noError(r.Pause(c.stalled))
	held := g.held()
	for _, reader := range clients {
		reader.Pace(0)
	}
	held = max(held, r.watchHeld(g, done))
	took := time.Since(begin)
	r.Count(c.name+"_seconds", took.Seconds())
	r.Count(c.name+"_held_bytes_most", held)
	counters := must(g.Counters())
	r.Check("closed", counters["connections_closed_total"] == 0, "%v of %d were closed, %d messages in %.1f s", counters["connections_closed_total"], c.readers, c.publications, took.Seconds())
	r.Check("buffers", held <= buffersMost, "at most %.0f MiB held, --max-buffered is %d MiB", held/(1<<20), buffersMost>>20)
	noError(r.Judge(g))
}

// watchHeld waits until done says that everybody has everything, and returns the most that
// the gateway held meanwhile.
func (r *Run) watchHeld(g *Gateway, done <-chan error) (most float64) {
	for {
		select {
		case err := <-done:
			noError(err)
			return most
		case <-time.After(50 * time.Millisecond):
			most = max(most, g.held())
		}
	}
}

// held returns the bytes of the gateway's logs, histories and buffers.
func (g *Gateway) held() float64 {
	c, err := g.Counters()
	if err != nil {
		noError(fmt.Errorf("read the size of the buffers: %w", err))
	}
	return c["held_bytes"]
}
