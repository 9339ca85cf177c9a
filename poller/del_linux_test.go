package poller

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// watched counts the descriptors that the kernel watches for p.
func watched(t *testing.T, p *Poller) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", reflect.ValueOf(p.ep).Elem().FieldByName("fd").Int()))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "tfd:")
}

// A descriptor that the kernel goes on watching wakes the loop again and again, though
// its handler is not called any more.
func TestKernelDoesNotWatchWhatWasDeleted(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	a, _ := fds.pair(t)
	before := watched(t, l.Poller)
	var d Desc
	l.do(func() {
		if err := l.Add(&d, a, Readable, handlerFunc(func(Events) {})); err != nil {
			t.Error(err)
		}
		if n := watched(t, l.Poller); n != before+1 {
			t.Errorf("%d are watched after Add, want %d", n, before+1)
		}
	})
	l.del(&d)
	if n := watched(t, l.Poller); n != before {
		t.Errorf("%d are watched after Del, want %d", n, before)
	}
}

// The wake function runs in the gate's callback, which may stand anywhere in a batch. Here it
// deletes and closes two descriptors whose events come behind the gate in the same batch, and a new
// one takes a number.
func TestWakeFunctionMayDeleteAndCloseInMidBatch(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	var d [2]Desc
	var fresh Desc
	var sockets, peers [2]int
	for i := range sockets {
		sockets[i], peers[i] = fds.pair(t)
	}
	stale, early, late := 0, 0, 0
	a, b := fds.pair(t)
	mustWrite(t, b, "x")
	var trigger Desc
	done := make(chan struct{})
	end := func() { // in the next batch's gate callback
		defer close(done)
		early = stale
		for i := range d {
			if err := l.Del(&d[i]); err != nil {
				t.Error(err)
			}
			fds.close(sockets[i])
		}
		c, e := fds.pair(t)
		if c != sockets[0] && c != sockets[1] {
			t.Errorf("descriptor %d is no reused number", c)
		}
		if err := l.Add(&fresh, c, Readable, handlerFunc(func(Events) { late++; drain(c) })); err != nil {
			t.Error(err)
		}
		_ = e
	}
	l.do(func() {
		for i := range d {
			if err := l.Add(&d[i], sockets[i], Readable, handlerFunc(func(Events) { stale++ })); err != nil {
				t.Error(err)
			}
		}
		if err := l.Add(&trigger, a, Readable, handlerFunc(func(Events) {
			if err := l.Del(&trigger); err != nil {
				t.Error(err)
			}
			// The gate is armed before the sockets are ready: it comes first.
			if err := l.gate.arm(); err != nil {
				t.Error(err)
			}
			for _, peer := range peers {
				mustWrite(t, peer, "x")
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.todo = append(l.todo, func() { // at the end of this batch
				l.mu.Lock()
				defer l.mu.Unlock()
				l.todo = append(l.todo, end)
				l.Wake()
			})
			l.Wake()
		})); err != nil {
			t.Error(err)
		}
	})
	receive(t, done, "the batch")
	l.settle()
	l.do(func() {
		if early+stale+late != 0 {
			t.Errorf("%d calls of the handlers before the batch's gate, %d behind it, %d of the new descriptor's: want none", early, stale-early, late)
		}
		if err := l.Del(&fresh); err != nil {
			t.Error(err)
		}
	})
}
