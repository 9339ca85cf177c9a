package nats

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"

	natsgo "github.com/nats-io/nats.go"
)

// fake answers as a stream's servers would, so that a test decides what is missing in an answer.
type fake struct {
	t  *testing.T
	st *stream

	mu sync.Mutex
	// Guarded by mu.
	direct  []func(q directGet, reply string) // the next answers to direct gets; the last one stays
	heads   []uint64                          // the leader's head, likewise
	created []time.Time
	asked   int    // direct gets
	raised  uint64 // what the stream says of itself
	nc      *natsgo.Conn
}

func newFake(t *testing.T) *fake {
	url := natstest.Start(t, natstest.Options{}).URL()
	l := testLink(t, url)
	l.test.patience, l.test.late = clienttest.Patience, func(m *natsgo.Msg) bool { return m.Header.Get("Status") == "late" }
	f := &fake{t: t, nc: natstest.Connect(t, url), created: []time.Time{time.Unix(1, 0)}, heads: []uint64{0},
		st: &stream{link: l, name: "S", prefix: "in.", generation: func() uint64 { return 0 }, readBytes: 1 << 20}}
	f.answer("$JS.API.DIRECT.GET.S", func(m *natsgo.Msg) {
		var q directGet
		if err := json.Unmarshal(m.Data, &q); err != nil {
			t.Error(err)
		}
		f.asked++
		next(&f.direct)(q, m.Reply)
	})
	f.answer("$JS.API.STREAM.MSG.GET.S", func(m *natsgo.Msg) {
		text := `{"error":{"code":404,"err_code":10037,"description":"no message found"}}`
		if seq := next(&f.heads); seq > 0 {
			text = fmt.Sprintf(`{"message":{"subject":"in.a","seq":%d}}`, seq)
		}
		f.send(m.Reply, text)
	})
	f.answer("$JS.API.STREAM.INFO.S", func(m *natsgo.Msg) {
		f.send(m.Reply, fmt.Sprintf(`{"config":{"name":"S","description":"sluice: format=1 raised=%d","max_msgs_per_subject":4},"created":%q,"state":{"first_seq":1,"last_seq":9}}`,
			f.raised, next(&f.created).Format(time.RFC3339Nano)))
	})
	if err := f.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.st.state(testContext(t)); err != nil { // as openStreams does
		t.Fatal(err)
	}
	return f
}

func next[T any](list *[]T) T {
	one := (*list)[0]
	if len(*list) > 1 {
		*list = (*list)[1:]
	}
	return one
}

func (f *fake) answer(subject string, answer func(m *natsgo.Msg)) {
	if _, err := f.nc.Subscribe(subject, func(m *natsgo.Msg) {
		f.mu.Lock()
		defer f.mu.Unlock()
		answer(m)
	}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) send(reply, text string, header ...string) {
	m := &natsgo.Msg{Subject: reply, Data: []byte(text), Header: natsgo.Header{}}
	for i := 0; i+1 < len(header); i += 2 {
		m.Header[header[i]] = []string{header[i+1]}
	}
	if err := f.nc.PublishMsg(m); err != nil {
		f.t.Error(err)
	}
}

// late has the time be over for an answer that does not come to its end, behind what has come of it.
func (f *fake) late(reply string) { f.status(reply, "late", "") }

// lines answers with lines: "5 last=3 pending=1" is a message, "end last=5 pending=0" the end, "404" none,
// and "late" that the time is over.
func (f *fake) lines(lines ...string) func(q directGet, reply string) {
	return func(q directGet, reply string) {
		for _, line := range lines {
			var seq, last, pending uint64
			switch n, _ := fmt.Sscanf(line, "%d last=%d pending=%d", &seq, &last, &pending); {
			case n == 3:
				f.send(reply, fmt.Sprint("m", seq), "Nats-Subject", "in.a", "Nats-Sequence", fmt.Sprint(seq), "Nats-Num-Pending", fmt.Sprint(pending), "Nats-Last-Sequence", fmt.Sprint(last))
			case strings.HasPrefix(line, "end"):
				_, _ = fmt.Sscanf(line, "end last=%d pending=%d", &last, &pending) // ignored: lines are the test's
				f.status(reply, "204", "EOB", "Nats-Num-Pending", fmt.Sprint(pending), "Nats-Last-Sequence", fmt.Sprint(last))
			case strings.HasPrefix(line, "old"): // a server without batches
				_, _ = fmt.Sscanf(line, "old %d", &seq) // likewise
				f.send(reply, fmt.Sprint("m", seq), "Nats-Subject", "in.a", "Nats-Sequence", fmt.Sprint(seq))
			case line == "late":
				f.late(reply)
			default:
				f.status(reply, line, "No Results")
			}
		}
	}
}

func (f *fake) status(reply, status, text string, header ...string) {
	f.send(reply, "", append([]string{"Status", status, "Description", text}, header...)...)
}

const head9 = "9 last=7 pending=0"

// wantAsked checks how many direct gets there were. The last one may not have been answered, nor come yet.
func (f *fake) wantAsked(want int) {
	f.t.Helper()
	asked := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.asked
	}
	clienttest.WaitFor(f.t, "the questions", func() bool { return asked() >= want })
	if got := asked(); got != want {
		f.t.Errorf("asked %d times, want %d", got, want)
	}
}

// head2 is the only message of an answer.
func head2(seq uint64) string { return fmt.Sprintf("%d last=0 pending=0", seq) }
