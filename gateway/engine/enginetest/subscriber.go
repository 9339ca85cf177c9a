package enginetest

import (
	"encoding/json"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
)

// form is a wire format in which every publication is a line of JSON, gaps and resets included.
type form struct{}

func (form) Append(dst []byte, p *channel.Publication) []byte {
	line, err := json.Marshal(entry{Kind: p.Kind, At: channel.Position{Epoch: p.Epoch, Offset: p.Offset}, Prev: p.Prev, Payload: string(p.Payload), Extra: string(p.Extra)})
	if err != nil {
		panic(err)
	}
	return append(append(dst, line...), '\n')
}

// entry is a publication as a subscriber has received it.
type entry struct {
	Kind    channel.Kind
	At      channel.Position
	Prev    uint64
	Payload string `json:",omitempty"`
	Extra   string `json:",omitempty"`
}

// subscriber reads a channel of a node, as a loop does for its connections.
type subscriber struct {
	channel.Reader
	t        testing.TB
	space    *channel.Space
	name     string
	prepared chan error
	notified chan struct{}
	cursor   uint64
	bytes    []byte

	from channel.Position // where it has begun
	gap  bool             // what it asked for was not there
	seen []entry          // that next has not returned
}

// Prepared implements channel.Holder.
func (s *subscriber) Prepared(err error) { s.prepared <- err }

// Notify implements channel.Subscriber.
func (s *subscriber) Notify() {
	select {
	case s.notified <- struct{}{}:
	default:
	}
}

// try subscribes to a channel from a position on.
func (n *Node) try(t testing.TB, name string, ask channel.Ask) (*subscriber, error) {
	t.Helper()
	s := &subscriber{t: t, space: n.Space, name: name, prepared: make(chan error, 1), notified: make(chan struct{}, 1)}
	ready, err := n.Space.Prepare(name, &ask, s)
	if err == nil && !ready {
		err = clienttest.Receive(t, "the channel", s.prepared)
	}
	if err != nil {
		return nil, err
	}
	err = n.Space.Join(name, form{}, s, &s.Reader)
	n.Space.Release(name, s)
	if err != nil {
		return nil, err
	}
	got, live := s.Recall(nil, form{}, ask, 1<<20, time.Now().UnixMilli(), new(channel.Scratch))
	if got.More {
		t.Fatalf("%s: its history is too large for the test", name)
	}
	s.from, s.gap, s.cursor = got.From, got.Gap, live
	s.take(got.Frames)
	return s, nil
}

// take notes the lines of a log.
func (s *subscriber) take(lines []byte) {
	s.bytes = append(s.bytes, lines...)
	for {
		var one entry
		end := 0
		for end < len(s.bytes) && s.bytes[end] != '\n' {
			end++
		}
		if end == len(s.bytes) {
			return
		}
		if err := json.Unmarshal(s.bytes[:end], &one); err != nil {
			s.t.Fatal(err)
		}
		s.seen, s.bytes = append(s.seen, one), s.bytes[end+1:]
	}
}

// read reads what there is.
func (s *subscriber) read() {
	s.Clear()
	head := s.Log().Head()
	for s.cursor < head {
		v, ok := s.View(s.cursor)
		if !ok {
			s.t.Fatalf("%s: what it has not read is gone", s.name)
		}
		to := v.Fit(s.cursor, head, 64<<10)
		a, b := v.Bytes(s.cursor, to)
		s.take(a)
		s.take(b)
		s.cursor = to
	}
	s.Served(s.cursor)
}

// next returns the next publication.
func (s *subscriber) next() (one entry) {
	s.t.Helper()
	for s.read(); len(s.seen) == 0; s.read() {
		clienttest.Receive(s.t, "a publication in "+s.name, s.notified)
	}
	one, s.seen = s.seen[0], s.seen[1:]
	return one
}

// Idle reports whether nothing has come that next has not returned.
func (s *subscriber) idle() bool {
	s.read()
	return len(s.seen) == 0
}

// leave ends the subscription.
func (s *subscriber) leave() {
	s.Served(s.Log().Head())
	s.space.Leave(&s.Reader)
}
