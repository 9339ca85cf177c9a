package poller

import (
	"errors"
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCloseEndsTheLoopAndLeavesDescriptorsOpen(t *testing.T) {
	fds := newFDs(t)
	a, b := fds.pair(t)
	calls := 0 // not atomic: Close is what orders the reads below behind the loop
	started := make(chan struct{})
	p, err := New(func() {}, func() {}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	var d Desc
	mustWrite(t, b, "x")
	// Before the first Wake nothing runs on the loop but what is added here.
	if err := p.Add(&d, a, Readable, handlerFunc(func(Events) {
		if calls++; calls == 1 {
			close(started)
		}
	})); err != nil {
		t.Fatal(err)
	}
	receive(t, started, "the handler")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if calls == 0 {
		t.Error("the handler was not called")
	}
	var buf [8]byte
	if n, err := Read(a, buf[:]); n != 1 || err != nil {
		t.Errorf("after Close the descriptor gives %d bytes, %v", n, err)
	}
	if err := p.Add(new(Desc), b, Readable, handlerFunc(func(Events) {})); err == nil {
		t.Error("Add after Close succeeded")
	}
}

// The epoll descriptor is replaced by something that cannot be waited on.
func TestFailedWaitIsReportedOnceAndEndsTheLoop(t *testing.T) {
	before := descriptors()
	failed := make(chan error, 8)
	ran := make(chan struct{}, 2)
	p, err := New(func() {}, func() { ran <- struct{}{} }, func(err error) { failed <- err })
	if err != nil {
		t.Fatal(err)
	}
	p.Wake()
	receive(t, ran, "the wake function") // from here on a wake leads to another wait
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	epoll := int(reflect.ValueOf(p.ep).Elem().FieldByName("fd").Int())
	if err := unix.Dup3(int(null.Fd()), epoll, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	null.Close()
	p.Wake()
	if err := receive(t, failed, "the failure"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("reported: %v, want EINVAL", err)
	}
	if err := p.Close(); err != nil { // waits for the goroutine
		t.Error(err)
	}
	if len(failed) != 0 {
		t.Errorf("reported again: %v", <-failed)
	}
	if left := opened(before, descriptors()); len(left) != 0 {
		t.Errorf("left open: %v", left)
	}
}
