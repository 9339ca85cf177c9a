package nats

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/engine/nats/natstest"
)

// benchCaller publishes the next one when the one before was answered, as a connection does.
type benchCaller struct {
	b        *testing.B
	n        *enginetest.Node
	name     string
	left     *atomic.Int64
	payload  []byte
	scratch  channel.Scratch
	released chan struct{}
	answers  chan error
}

func (c *benchCaller) Released()                              { c.released <- struct{}{} }
func (c *benchCaller) Published(_ channel.Receipt, err error) { c.answers <- err }

func (c *benchCaller) run() {
	for c.left.Add(-1) >= 0 {
		p := channel.Publication{Payload: c.payload, At: time.Now().UnixMilli()}
		_, _, err := engine.Publish(c.n.Engine, c.n.Space, c.name, nil, &p, &c.scratch, c)
		if err == engine.ErrPending {
			err = <-c.answers
		}
		if err != nil {
			c.b.Error(err)
			return
		}
	}
}

// publishFrom publishes b.N messages of so many bytes from so many publishers, each to a channel of its own.
func publishFrom(b *testing.B, n *enginetest.Node, publishers, size int, name string) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var running sync.WaitGroup
	for i := range publishers {
		c := &benchCaller{b: b, n: n, name: fmt.Sprint(name, i), left: &left, payload: bytes.Repeat([]byte("x"), size), released: make(chan struct{}, 1), answers: make(chan error, 1)}
		running.Go(c.run)
	}
	running.Wait()
}

// BenchmarkPublish has 200 publishers, each of which waits for its receipt.
func BenchmarkPublish(b *testing.B) {
	const publishers, size = 200, 200
	b.Run("jetstream", func(b *testing.B) { // as the engine's store, without the engine
		e, nc, js := startBench(b, embeddedConfig{dir: b.TempDir() + "/data"})
		defer endBench(b, e, nc)
		var left atomic.Int64
		left.Store(int64(b.N))
		body := bytes.Repeat([]byte("x"), size)
		b.ResetTimer()
		var running sync.WaitGroup
		for i := range publishers {
			running.Go(func() {
				for left.Add(-1) >= 0 {
					if _, err := js.Publish(b.Context(), fmt.Sprint("s.", i), body); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		running.Wait()
	})
	b.Run("single", func(b *testing.B) {
		n := newNode(b, func(c *Config) { c.DataDir, c.DataMax = natstest.Dir(b), 9<<30 })
		ready(b, n)
		b.ResetTimer()
		publishFrom(b, n, publishers, size, "x")
	})
	for _, kind := range []string{"x", "none"} {
		b.Run("cluster/"+map[string]string{"x": "stored", "none": "core"}[kind], func(b *testing.B) {
			s := natstest.Start(b, natstest.Options{JetStream: true})
			c := startCluster(b, 1, s.URL())
			b.ResetTimer()
			publishFrom(b, c.nodes[0], publishers, size, kind)
		})
	}
}

// benchFormat carries payloads.
type benchFormat struct{}

func (benchFormat) Append(dst []byte, p *channel.Publication) []byte {
	return append(dst, p.Payload...)
}

// benchReader reads a channel, as a loop does.
type benchReader struct {
	channel.Reader
	prepared func(error)
}

func (r *benchReader) Notify()            {}
func (r *benchReader) Prepared(err error) { r.prepared(err) }

// read has a reader join each of many channels.
func read(b *testing.B, space *channel.Space, names []string) []*benchReader {
	ask := channel.Ask{Kind: channel.AskNow}
	var due sync.WaitGroup
	readers := make([]*benchReader, len(names))
	for i, name := range names {
		r := new(benchReader)
		readers[i] = r
		due.Add(1)
		r.prepared = func(err error) {
			if err != nil {
				b.Error(name, err)
			}
			due.Done()
		}
		ready, err := space.Prepare(name, &ask, r)
		if err != nil {
			b.Fatal(err)
		}
		if ready {
			due.Done()
		}
	}
	due.Wait()
	for i, name := range names {
		if err := space.Join(name, benchFormat{}, readers[i], &readers[i].Reader); err != nil {
			b.Fatal(err)
		}
		space.Release(name, readers[i])
		readers[i].prepared = nil
	}
	return readers
}

// BenchmarkChannel reports what a channel costs that has one reader, of the local engine and of a
// cluster's whose server is another process.
func BenchmarkChannel(b *testing.B) {
	const count = 100_000
	measure := func(b *testing.B, name string, space *channel.Space) {
		names := make([]string, count)
		for i := range names {
			names[i] = fmt.Sprint(name, "-channel-", i)
		}
		for b.Loop() {
			_, before := resident(b)
			begun := time.Now()
			readers := read(b, space, names)
			b.ReportMetric(float64(time.Since(begun).Milliseconds()), "ms")
			_, after := resident(b)
			b.ReportMetric(float64(after-before)/count, "B/channel")
			for _, r := range readers {
				space.Leave(&r.Reader)
			}
		}
	}
	newSpace := func() *channel.Space {
		s := channel.NewSpace(64<<10, 2*count, channel.NewBudget(64<<20))
		s.KeepHistory(channel.History{Of: enginetest.Keep, Bytes: 1 << 20, Budget: channel.NewBudget(64 << 20)}, time.Now().UnixMilli())
		return s
	}
	for _, name := range []string{"x", "none"} {
		b.Run("local/"+name, func(b *testing.B) { measure(b, name, newSpace()) })
		b.Run("cluster/"+name, func(b *testing.B) {
			s := natstest.StartChild(b)
			n := newNode(b, func(c *Config) {
				c.Servers.URLs, c.NodeID, c.Space = []string{s.URL()}, 1, newSpace()
			})
			e := n.Engine.(*Engine)
			e.cfg.Space.Remote(e, e.Remote)
			ready(b, n)
			measure(b, name, e.cfg.Space)
		})
	}
}
