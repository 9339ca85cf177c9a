package api

import (
	"fmt"
	"testing"
	"time"
)

// What a client repeats after an upgrade is not published again. Results arrive in two pieces, of which the second has what
// has come between them.
func TestResultsGoOnInTheProcessThatTakesOver(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	old, taken := New(nil, Options{IdempotencyKeys: 50}), New(nil, Options{IdempotencyKeys: 50})
	add := func(from, to int) {
		for i := from; i < to; i++ {
			d := digestOf("channel", fmt.Sprint(i))
			old.window.begin(d, now)
			old.window.finish(d, now, PublishResult{Offset: uint64(i), Epoch: "e", Subscribers: 3}, true)
			now = now.Add(time.Second)
		}
	}
	add(0, 60)
	old.Copy(nil) // of an attempt that has failed
	add(60, 70)
	copied := old.Copy(nil)
	add(70, 75)
	rest := old.Save(nil)
	if len(rest) > len(copied)/5 {
		t.Errorf("%d bytes in the freeze, and %d before", len(rest), len(copied))
	}
	for _, b := range [][]byte{copied, rest} {
		if err := taken.Load(b); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 75 {
		got, _, known := taken.window.begin(digestOf("channel", fmt.Sprint(i)), now)
		if want := i >= 25; known != want || known && got != (PublishResult{Offset: uint64(i), Epoch: "e", Subscribers: 3}) {
			t.Errorf("%d: %v, %v; want it known: %v", i, got, known, want)
		}
	}
	now = now.Add(taken.opt.IdempotencyWindow - 20*time.Second) // the last 20 are younger
	for i := 25; i < 75; i++ {
		if _, _, known := taken.window.begin(digestOf("channel", fmt.Sprint(i)), now); known != (i > 55) {
			t.Errorf("%d after its time: %v", i, known)
		}
	}
	if err := New(nil, Options{IdempotencyWindow: -1}).Load(copied); err != nil {
		t.Errorf("where nothing is remembered: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	h := New(nil, Options{})
	d := digestOf("channel", "key")
	h.window.begin(d, time.Now())
	h.window.finish(d, time.Now(), PublishResult{Offset: 1, Epoch: "e"}, true)
	f.Add(h.Copy(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := New(nil, Options{IdempotencyKeys: 3})
		h.Load(b) // ignored: it must not panic
		if n := len(h.window.results); n > 3 {
			t.Errorf("%d are remembered", n)
		}
	})
}
