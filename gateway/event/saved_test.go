package event

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// sent keeps what it was sent, and accepts it or not.
type sent struct {
	inbox
	ids, bodies []string
}

func (s *sent) Deliver(ctx context.Context, b *Batch) error {
	s.mu.Lock()
	s.ids, s.bodies = append(s.ids, b.ID), append(s.bodies, string(b.Body()))
	s.mu.Unlock()
	return s.inbox.Deliver(ctx, b)
}

// Another process goes on with what waits: the same batches and numbers, and no event for clients
// that it has taken.
func TestAnotherProcessGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Name: "backend", Filter: Filter{Types: All}, BackoffMax: time.Second}
		a, ra := New(Config{Node: "n1"}), new(sent)
		a.Add(o, ra)
		m := newMirror(t)
		for _, channel := range []string{"news", "chat", "empty"} {
			a.Join(channel)
		}
		time.Sleep(time.Second)
		a.Leave("empty")
		time.Sleep(time.Second)
		ra.answer(errors.New("down"))
		a.Emit(Event{Type: Publication, Channel: "news", Bytes: []byte("1")})
		time.Sleep(time.Second)
		a.Emit(Event{Type: Publication, Channel: "news", Bytes: []byte("2")})
		time.Sleep(time.Second)
		a.Pause()
		b := a.Save(nil)
		last := ra.ids[len(ra.ids)-1]
		accepted := ra.list

		n, rb := New(Config{Node: "n1"}), new(sent)
		if err := n.Load(b); err != nil {
			t.Fatal(err)
		}
		n.Hold()
		n.Add(o, rb)
		n.Join("news") // chat's client is gone
		time.Sleep(time.Second)
		n.Settle()
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, e := range slices.Concat(accepted, rb.list) {
			m.apply(&e)
		}
		if rb.ids[0] != last || rb.bodies[0] != ra.bodies[len(ra.bodies)-1] {
			t.Errorf("%s %s, want %s", rb.ids[0], rb.bodies[0], last)
		}
		if m.resets != Partitions {
			t.Errorf("%d resets", m.resets)
		}
		rb.want(t, 0, "publication news", "publication news", "vacated empty", "vacated chat")
		// The old one could go on as well.
		ra.answer(nil)
		ra.take()
		a.Resume()
		ra.want(t, 10*time.Second, "publication news", "publication news", "vacated empty")
		for _, x := range []*Notifier{a, n} {
			if err := x.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// A receiver that selects something else begins anew, and data that is cut or changed does no harm.
func TestWhatCannotBeTakenOver(t *testing.T) {
	n, q := bare(Options{Name: "backend", Filter: Filter{Types: All}})
	n.Join("news")
	n.Emit(Event{Type: Publication, Channel: "news", Bytes: []byte("1"), Offset: 7, HistoryEpoch: "e"})
	n.turn(n.now())
	q.digest(1, n.clock(), []string{"a"})
	b := n.append(nil)
	other, to := bare(Options{Name: "other", Filter: q.o.Filter})
	for i := range b {
		if err := other.load(b[:i]); err == nil {
			t.Fatalf("%d bytes are loaded", i)
		}
		changed := slices.Clone(b)
		changed[i] ^= 0x55
		if other.load(changed) == nil && to.read(other.loaded["backend"]) { // must not panic
			to.drainAll()
		}
	}
	again, _ := bare(Options{Name: "other"})
	if err := again.load(b); err != nil {
		t.Fatal(err)
	}
	x := again.newQueue(Options{Name: "backend"}, nil)
	again.add(x)
	if s := x.Stats(); s.Resets != Partitions {
		t.Errorf("%+v", s)
	}
	if _, err := json.Marshal(x.lines[0].compose(x, 0).Events); err != nil {
		t.Error(err)
	}
}
