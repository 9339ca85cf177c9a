package nats

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/engine/nats/natstest"

	natsgo "github.com/nats-io/nats.go"
)

// burstOf publishes "a", which is sent alone, and then all others, which are sent together. It returns those
// who publish them.
func burstOf(t *testing.T, n *enginetest.Node, name string, payloads ...string) (senders []*sender) {
	t.Helper()
	e := n.Engine.(*Engine)
	e.sending.Lock()
	for i, payload := range append([]string{"a"}, payloads...) {
		s := newSender(t, n)
		if err := s.sends(name, payload); err != engine.ErrPending {
			e.sending.Unlock()
			t.Fatalf("%s is not pending: %v", payload, err)
		}
		senders = append(senders, s)
		if i == 0 {
			clienttest.WaitFor(t, "the batch of a", func() bool {
				l := e.lane(name)
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.queue.len() == 0
			})
		}
	}
	e.sending.Unlock()
	return senders
}

// Of messages that are sent together only the first and the last are answered by the stream, and each
// publisher gets the offset of its own, or learns that it is not known whether it is stored.
func TestBurst(t *testing.T) {
	t.Parallel()
	const limit = 100
	big := strings.Repeat("big", limit)
	var answers atomic.Int64
	withhold := make(chan int64, 1) // the number of an answer that does not come
	n := newNode(t, func(c *Config) {
		c.DataDir, c.test.patience = natstest.Dir(t), time.Hour
		c.test.withhold = func(m *natsgo.Msg) bool {
			if len(m.Data) == 0 {
				return false
			}
			number := answers.Add(1)
			select {
			case w := <-withhold:
				if number == w {
					return true
				}
				withhold <- w
			default:
			}
			return false
		}
	})
	ready(t, n)
	e := n.Engine.(*Engine)
	newSender(t, n).publishes("x", "0")
	st := e.stream("x")
	in, err := e.link.info(t.Context(), st.name)
	if err != nil {
		t.Fatal(err)
	}
	in.Config["max_msg_size"] = limit
	if err := e.link.api(context.Background(), "STREAM.UPDATE."+st.name, in.Config, nil); err != nil {
		t.Fatal(err)
	}
	unknown := engine.ErrUnavailable
	for _, tt := range []struct {
		name     string
		payloads []string
		withhold int64
		want     map[string]error // of those that are not acknowledged
		lost     string           // what the channel does not get
		answers  int64            // how many the stream is asked for, with that of "a"
	}{
		{name: "all are stored", payloads: []string{"b", "c", "d", "e", "f"}, answers: 3},
		{name: "two", payloads: []string{"b", "c"}, answers: 3},
		{name: "one between them is refused", payloads: []string{"b", "c", big, "e", "f"}, answers: 3,
			want: map[string]error{"c": unknown, big: unknown, "e": unknown}, lost: big},
		{name: "the first is refused", payloads: []string{big, "c", "d", "e"}, answers: 3,
			want: map[string]error{big: channel.ErrTooBig, "c": unknown, "d": unknown}, lost: big},
		{name: "the last is refused", payloads: []string{"b", "c", "d", big}, answers: 3,
			want: map[string]error{"c": unknown, "d": unknown, big: channel.ErrTooBig}, lost: big},
		{name: "the first answer is missing", payloads: []string{"b", "c", "d", "e"}, answers: 3, withhold: 2,
			want: map[string]error{"b": nil, "c": unknown, "d": unknown}},
	} {
		name := strings.ReplaceAll(tt.name, " ", "-")
		r := watch(t, n, name)
		answers.Store(0)
		missing := 0
		if tt.withhold > 0 {
			withhold <- tt.withhold
			missing = 1
		}
		senders, last := burstOf(t, n, name, tt.payloads...), uint64(0)
		var delivered []string
		for i, payload := range append([]string{"a"}, tt.payloads...) {
			if payload != tt.lost {
				delivered = append(delivered, payload)
			}
			err, not := tt.want[payload]
			if not && err == nil {
				continue // its answer is missing
			}
			got := clienttest.Receive(t, tt.name+": the answer to "+payload, senders[i].answers)
			if got.err != err {
				t.Errorf("%s: the answer to %s is %v, want %v", tt.name, payload, got.err, err)
			}
			if err == nil && (got.Offset <= last || len(tt.want) == 0 && i > 0 && got.Offset != last+1) {
				t.Errorf("%s: %s has offset %d, and the one before it %d", tt.name, payload, got.Offset, last)
			}
			last = max(last, got.Offset)
		}
		r.wants(tt.name, delivered...)
		if got := answers.Load(); got != tt.answers {
			t.Errorf("%s: the stream has answered %d times, want %d", tt.name, got, tt.answers)
		}
		r.leave()
		clienttest.WaitFor(t, tt.name+": nothing is on its way", func() bool {
			l := e.lane(name)
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.outstanding == missing
		})
	}
}
