package nats

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/gateway/engine/nats/natstest"
)

var (
	storedMessages = flag.Int("stored", 10_000, "messages of BenchmarkEmbeddedStart")
	storedIn       = flag.String("stored-in", "", "directory of BenchmarkEmbedded... (default: a temporary one)")
)

func benchDir(b *testing.B) string {
	if *storedIn == "" {
		return b.TempDir()
	}
	dir, err := os.MkdirTemp(*storedIn, "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func startBench(b *testing.B, cfg embeddedConfig) (*embedded, *natsgo.Conn, jetstream.JetStream) {
	b.Helper()
	cfg.dataMax, cfg.maxMessage = 10<<30, 64<<10
	e, err := startEmbedded(cfg)
	if err != nil {
		b.Fatal(err)
	}
	nc, err := natsgo.Connect("", natsgo.InProcessServer(e))
	if err != nil {
		b.Fatal(err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		b.Fatal(err)
	}
	_, err = js.CreateOrUpdateStream(b.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, MaxBytes: 9 << 30, AllowDirect: true, MaxMsgsPerSubject: 1000})
	if err != nil {
		b.Fatal(err)
	}
	return e, nc, js
}

func endBench(b *testing.B, e *embedded, nc *natsgo.Conn) {
	natstest.Close(nc)
	if err := e.close(b.Context()); err != nil {
		b.Error(err)
	}
}

// publishAll publishes n messages of 200 bytes on 1,000 subjects and waits for their acknowledgements.
func publishAll(b *testing.B, e *embedded, js jetstream.JetStream, n int) {
	b.Helper()
	body := bytes.Repeat([]byte("x"), 200)
	futures := make(chan jetstream.PubAckFuture, 8192)
	done := make(chan bool)
	go func() {
		defer close(done)
		for f := range futures {
			select {
			case ack := <-f.Ok():
				e.acknowledged("S", ack.Sequence)
			case err := <-f.Err():
				b.Error(err)
				return
			}
		}
	}()
	for i := range n {
		f, err := js.PublishAsync("s."+strconv.Itoa(i%1000), body, jetstream.WithStallWait(30*time.Second))
		if err != nil {
			b.Fatal(err)
		}
		futures <- f
	}
	close(futures)
	<-done
}

// BenchmarkEmbeddedPublish stores messages of 200 bytes, with the mark kept.
func BenchmarkEmbeddedPublish(b *testing.B) {
	for _, sync := range []string{"interval", "always"} {
		b.Run(sync, func(b *testing.B) {
			e, nc, js := startBench(b, embeddedConfig{dir: benchDir(b) + "/data", syncAlways: sync == "always"})
			defer endBench(b, e, nc)
			b.ResetTimer()
			publishAll(b, e, js, b.N)
		})
	}
}

// BenchmarkEmbeddedStart opens a directory with -stored messages after a clean end, and after one that was
// not.
func BenchmarkEmbeddedStart(b *testing.B) {
	dir := benchDir(b) + "/data"
	e, nc, js := startBench(b, embeddedConfig{dir: dir})
	publishAll(b, e, js, *storedMessages)
	endBench(b, e, nc)
	for _, end := range []string{"clean", "unclean"} {
		b.Run(end, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if end == "unclean" {
					(&diskRig{t: b, dir: dir}).editMark(set("clean", false))
				}
				b.StartTimer()
				e, err := startEmbedded(embeddedConfig{dir: dir, dataMax: 10 << 30, maxMessage: 64 << 10})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if g := e.generation(); g != 1 {
					b.Errorf("generation %d", g)
				}
				if err := e.close(b.Context()); err != nil {
					b.Error(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkEmbeddedIdle reports what a server that has nothing to do costs: memory that is resident, and the
// heap's share of it.
func BenchmarkEmbeddedIdle(b *testing.B) {
	for b.Loop() {
		before, heapBefore := resident(b)
		e, nc, _ := startBench(b, embeddedConfig{dir: benchDir(b) + "/data"})
		time.Sleep(100 * time.Millisecond) // a benchmark, which waits for nothing in particular
		after, heapAfter := resident(b)
		b.ReportMetric(float64(after-before)/(1<<20), "MiB")
		b.ReportMetric(float64(heapAfter-heapBefore)/(1<<20), "MiB-heap")
		b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
		endBench(b, e, nc)
	}
}

func resident(b *testing.B) (rss, heap int64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	text, err := os.ReadFile(filepath.Join("/proc", "self", "statm"))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize()), int64(m.HeapAlloc)
}
