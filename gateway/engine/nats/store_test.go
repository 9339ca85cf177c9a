package nats

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"

	natsgo "github.com/nats-io/nats.go"
)

// rig is the store under test.
type rig struct {
	t *testing.T
	*link
	*streams
	js natsgo.JetStreamContext
}

var testLog = slog.New(slog.DiscardHandler)

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), clienttest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func testLink(t testing.TB, urls ...string) *link {
	t.Helper()
	l, err := dial(testContext(t), Servers{URLs: urls}, nil, 64<<10, linkEvents{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// histories of so many publications in each namespace.
func histories(size int, namespaces ...string) (all []HistoryOf) {
	for _, name := range namespaces {
		all = append(all, HistoryOf{Namespace: name, Size: size, TTL: time.Hour, Durable: true})
	}
	return all
}

func testConfig(hs []HistoryOf) streamsConfig {
	return streamsConfig{histories: hs, namespaceOf: func(string) string { return "" }, dataMax: 1 << 30, maxMessage: 64 << 10, log: slog.New(slog.DiscardHandler)}
}

func testStore(t *testing.T, c streamsConfig, urls ...string) *rig {
	t.Helper()
	l := testLink(t, urls...)
	l.claims = 50 * time.Millisecond // nobody else does
	s, err := openStreams(testContext(t), l, c)
	if err != nil {
		t.Fatal(err)
	}
	js, err := l.main.JetStream(natsgo.MaxWait(clienttest.Patience))
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t, l, s, js}
}

// store stores a text in a channel, and returns its sequence.
func (r *rig) store(name, text string) uint64 {
	r.t.Helper()
	ack, err := r.js.Publish(r.of(name).subject(name), []byte(text))
	if err != nil {
		r.t.Fatal(err)
	}
	return ack.Sequence
}

// texts returns what a reading has.
func (r reading) texts() string {
	var all []string
	for _, m := range r.msgs {
		all = append(all, fmt.Sprintf("%d:%s", m.seq, m.data))
	}
	return fmt.Sprint(all)
}

// read reads what the stream keeps of a channel above a sequence.
func (st *stream) read(ctx context.Context, name string, above uint64) (reading, error) {
	return st.attempt(name, above).read(ctx)
}

func (r *rig) read(name string, above uint64) reading {
	r.t.Helper()
	got, err := r.of(name).read(testContext(r.t), name, above)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func TestReadings(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) string{
		"in process": func(t *testing.T) string { return natstest.Start(t, natstest.Options{JetStream: true}).URL() },
		"cluster":    func(t *testing.T) string { return natstest.StartCluster(t, 3, natstest.Options{JetStream: true}).URL() },
		"Debian's":   func(t *testing.T) string { return natstest.StartChild(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			r := testStore(t, testConfig(histories(3, "")), start(t))
			if got := r.read("a", 0); !got.none || got.head != 0 || got.floor != 0 {
				t.Errorf("of a new stream: %+v", got)
			}
			var seqs []uint64
			for i := range 6 {
				seqs = append(seqs, r.store("a", fmt.Sprint(i)))
			}
			got := r.read("a", 0)
			if got.texts() != fmt.Sprintf("[%d:3 %d:4 %d:5]", seqs[3], seqs[4], seqs[5]) || got.floor != seqs[2] || got.head != seqs[5] || string(got.under.data) != "2" {
				t.Errorf("all: %s, floor %d, head %d", got.texts(), got.floor, got.head)
			}
			got = r.read("a", seqs[4])
			if got.texts() != fmt.Sprintf("[%d:5]", seqs[5]) || got.floor != seqs[4] {
				t.Errorf("the last: %s, floor %d", got.texts(), got.floor)
			}
			got = r.read("a", seqs[0])
			if got.texts() != fmt.Sprintf("[%d:3 %d:4 %d:5]", seqs[3], seqs[4], seqs[5]) || got.floor != seqs[2] {
				t.Errorf("since one that is gone: %s, floor %d", got.texts(), got.floor)
			}
			heads, err := r.of("a").heads(testContext(t), []string{"none", "a"})
			if err != nil || heads[0].found || heads[0].seq > seqs[5] || !heads[1].found || heads[1].seq != seqs[5] || string(heads[1].msg) != "5" {
				t.Errorf("heads: %+v, %v", heads, err)
			}
			if err := r.of("a").purge(testContext(t), "a", seqs[5]); err != nil {
				t.Error(err)
			}
			if got := r.read("a", 0); got.texts() != fmt.Sprintf("[%d:5]", seqs[5]) {
				t.Errorf("after a purge: %s, floor %d", got.texts(), got.floor)
			}
		})
	}
}
