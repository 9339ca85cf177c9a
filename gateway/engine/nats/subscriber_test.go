package nats

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
)

// lines is a wire format in which a message is a line, and a gap or a reset the line "gap" or "reset".
type lines struct{}

func (lines) Append(dst []byte, p *channel.Publication) []byte {
	switch p.Kind {
	case channel.KindGap:
		return append(dst, "gap\n"...)
	case channel.KindReset:
		return append(dst, "reset\n"...)
	}
	return append(append(dst, p.Payload...), '\n')
}

// watcher is a subscriber.
type watcher struct {
	channel.Reader
	t        testing.TB
	n        *enginetest.Node
	prepared chan error
	notified chan struct{}
	cursor   uint64
	got      []byte
}

func (w *watcher) Prepared(err error) { w.prepared <- err }

func (w *watcher) Notify() {
	select {
	case w.notified <- struct{}{}:
	default:
	}
}

// watch subscribes to what comes from now on, until the test ends.
func watch(t testing.TB, n *enginetest.Node, name string) *watcher {
	t.Helper()
	w := &watcher{t: t, n: n, prepared: make(chan error, 1), notified: make(chan struct{}, 1)}
	ask := channel.Ask{Kind: channel.AskNow}
	ready, err := n.Space.Prepare(name, &ask, w)
	if err == nil && !ready {
		err = clienttest.Receive(t, "the channel", w.prepared)
	}
	if err == nil {
		err = n.Space.Join(name, lines{}, w, &w.Reader)
		n.Space.Release(name, w)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.cursor = w.Log().Head()
	return w
}

func (w *watcher) leave() {
	w.Served(w.Log().Head())
	w.n.Space.Leave(&w.Reader)
}

// lines returns what has come.
func (w *watcher) lines() []string {
	w.Clear()
	for head := w.Log().Head(); w.cursor < head; {
		v, ok := w.View(w.cursor)
		if !ok {
			w.t.Fatal("what it has not read is gone")
		}
		a, b := v.Bytes(w.cursor, v.Head())
		w.got = append(append(w.got, a...), b...)
		w.cursor = v.Head()
	}
	w.Served(w.cursor)
	return strings.Fields(string(w.got))
}

// wants waits until these lines have come.
func (w *watcher) wants(why string, want ...string) {
	w.t.Helper()
	clienttest.WaitFor(w.t, why, func() bool { return len(w.lines()) >= len(want) })
	if got := w.lines(); strings.Join(got, " ") != strings.Join(want, " ") {
		w.t.Errorf("%s: got %q, want %q", why, got, want)
	}
}

// sender is a publisher.
type sender struct {
	t        testing.TB
	n        *enginetest.Node
	released chan struct{}
	answers  chan sent
	at       time.Time // of what it publishes; zero for now
}

type sent struct {
	channel.Receipt
	err error
}

func newSender(t testing.TB, n *enginetest.Node) *sender {
	return &sender{t: t, n: n, released: make(chan struct{}, 1<<16), answers: make(chan sent, 1<<16)}
}

func (s *sender) Released()                              { s.released <- struct{}{} }
func (s *sender) Published(r channel.Receipt, err error) { s.answers <- sent{r, err} }

// sends hands over a message, whose answer comes later.
func (s *sender) sends(name, payload string) error {
	at := s.at
	if at.IsZero() {
		at = time.Now()
	}
	p := channel.Publication{Payload: []byte(payload), At: at.UnixMilli()}
	_, _, err := engine.Publish(s.n.Engine, s.n.Space, name, nil, &p, new(channel.Scratch), s)
	return err
}

// publishes publishes messages, one after the other.
func (s *sender) publishes(name string, payloads ...string) (last sent) {
	s.t.Helper()
	for _, payload := range payloads {
		if err := s.sends(name, payload); err != engine.ErrPending {
			s.t.Fatalf("%s is not pending: %v", payload, err)
		}
		if last = clienttest.Receive(s.t, "the answer", s.answers); last.err != nil {
			s.t.Fatal(last.err)
		}
	}
	return last
}

// has waits until a line has come.
func (w *watcher) has(line string) {
	w.t.Helper()
	defer func() {
		if w.t.Failed() {
			w.t.Logf("%s has %q", w.Log().Channel().Name(), w.lines())
		}
	}()
	clienttest.WaitFor(w.t, line, func() bool { return slices.Contains(w.lines(), line) })
}
