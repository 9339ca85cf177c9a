package nats

import (
	"context"
	"flag"
	"fmt"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"

	natsgo "github.com/nats-io/nats.go"
)

// The size of the streams that benchmarks read. In CI they are small; figures are measured with a million
// messages in 100,000 channels, and the heads of 200,000.
var (
	benchMessages = flag.Int("store.messages", 20_000, "messages in the stream that benchmarks read")
	benchChannels = flag.Int("store.channels", 1_000, "channels of the stream that benchmarks read; heads are asked of twice as many")
)

const benchPublications = 20 // of each channel that is read

// benchStream returns a stream with messages of 200 bytes, and how many of its channels, the first ones, have
// benchPublications. single is whether the server is an embedded one.
func benchStream(b *testing.B, url string, single bool) (st *stream, name func(i int) string, full int) {
	b.Helper()
	l := testLink(b, url)
	c := testConfig(histories(benchPublications, ""))
	c.embedded, c.dataMax = true, 8<<30
	if !single { // as in a cluster, but all in one stream
		c.replicas = 1
	}
	all, err := openStreams(testContext(b), l, c)
	if err != nil {
		b.Fatal(err)
	}
	st = all.all[0]
	st.single = single
	js, err := l.main.JetStream(natsgo.MaxWait(clienttest.Patience), natsgo.PublishAsyncMaxPending(4096))
	if err != nil {
		b.Fatal(err)
	}
	name = func(i int) string { return fmt.Sprint("chat:room-", i) }
	data := appendMessage(nil, &message{Publication: channel.Publication{Payload: make([]byte, 190)}})
	each := min(*benchMessages*9/10 / *benchChannels, benchPublications-1)
	full = max(*benchMessages/10/(benchPublications-each), 1)
	for round := range benchPublications {
		channels := *benchChannels
		if round >= each {
			channels = full
		}
		for i := range channels {
			if _, err := js.PublishAsync(st.subject(name(i)), data, natsgo.StallWait(clienttest.Patience)); err != nil {
				b.Fatal(err)
			}
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-testContext(b).Done():
		b.Fatal("the messages were not stored in time")
	}
	return st, name, full
}

// BenchmarkRead reads 20 publications of a channel, above one that is still there, as a node does that comes
// back, and all of a channel.
func BenchmarkRead(b *testing.B) {
	for _, server := range []struct {
		name   string
		single bool
		start  func(b *testing.B) string
	}{
		{"embedded", true, func(b *testing.B) string { return natstest.Start(b, natstest.Options{JetStream: true}).URL() }},
		{"servers", false, func(b *testing.B) string { return natstest.Start(b, natstest.Options{JetStream: true}).URL() }},
		{"2.9", false, func(b *testing.B) string { return natstest.StartChild(b).URL() }},
	} {
		b.Run(server.name, func(b *testing.B) {
			st, name, full := benchStream(b, server.start(b), server.single)
			ctx := context.Background()
			for _, above := range []struct {
				name string
				of   func(r reading) uint64
			}{
				{"all", func(reading) uint64 { return 0 }},
				{"above", func(r reading) uint64 { return r.msgs[0].seq }},
			} {
				b.Run(above.name, func(b *testing.B) {
					i := 0
					for b.Loop() {
						b.StopTimer()
						channel := name(i * 7919 % full)
						all, err := st.read(ctx, channel, 0)
						if err != nil {
							b.Fatal(err)
						}
						at := above.of(all)
						b.StartTimer()
						if got, err := st.read(ctx, channel, at); err != nil || len(got.msgs) < benchPublications-1 {
							b.Fatalf("%s: %d messages, %v", channel, len(got.msgs), err)
						}
						i++
					}
				})
			}
		})
	}
}

// BenchmarkHeads asks for the heads of many channels, half of which have none. One operation is all of them.
func BenchmarkHeads(b *testing.B) {
	for _, server := range []struct {
		name  string
		start func(b *testing.B) string
	}{
		{"batch", func(b *testing.B) string { return natstest.Start(b, natstest.Options{JetStream: true}).URL() }},
		{"2.9", func(b *testing.B) string { return natstest.StartChild(b).URL() }},
	} {
		b.Run(server.name, func(b *testing.B) {
			st, name, _ := benchStream(b, server.start(b), false)
			names := make([]string, 2**benchChannels)
			for i := range names {
				names[i] = name(i)
			}
			b.ResetTimer()
			for b.Loop() {
				heads, err := st.heads(context.Background(), names)
				if err != nil || !heads[0].found || heads[len(heads)-1].found {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(names))*float64(b.N)/b.Elapsed().Seconds(), "heads/s")
		})
	}
}
