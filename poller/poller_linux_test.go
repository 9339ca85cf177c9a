package poller

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPollerOwnsFiveDescriptorsAndAllAreCloseOnExec(t *testing.T) {
	before := descriptors()
	p, err := New(func() {}, func() {}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	own := opened(before, descriptors())
	if len(own) != 5 {
		t.Errorf("a poller opens %v, want an epoll twice and three eventfds", own)
	}
	for fd, what := range own {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d (%s) outlives exec: flags %#x, %v", fd, what, flags, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if left := opened(before, descriptors()); len(left) != 0 {
		t.Errorf("left open by Close: %v", left)
	}
}

// Two descriptors are ready in one batch; the handler that comes first deletes
// the other. easygo has looked both callbacks up by then and calls both.
func TestNoCallAfterDelWithinABatch(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	for range 20 {
		var sockets, calls [2]int
		for i := range sockets {
			var peer int
			sockets[i], peer = fds.pair(t)
			mustWrite(t, peer, "x")
		}
		var d [2]Desc
		l.do(func() { // both at once, so that the next wait reports both
			for me := range d {
				if err := l.Add(&d[me], sockets[me], Readable, handlerFunc(func(Events) {
					if calls[me]++; calls[0]+calls[1] == 1 {
						if err := l.Del(&d[1-me]); err != nil {
							t.Error(err)
						}
					}
				})); err != nil {
					t.Error(err)
				}
			}
		})
		l.settle()
		l.do(func() {
			if calls[0]+calls[1] == 0 || calls[0] != 0 && calls[1] != 0 {
				t.Errorf("the handlers were called %v times, want only one of them to be called", calls)
			}
			live, dead := &d[0], &d[1]
			if calls[1] != 0 {
				live, dead = dead, live
			}
			if err := l.Del(dead); !errors.Is(err, ErrDeleted) {
				t.Errorf("deleting again: %v, want %v", err, ErrDeleted)
			}
			if err := l.Mod(dead, Writable); !errors.Is(err, ErrDeleted) {
				t.Errorf("changing what was deleted: %v, want %v", err, ErrDeleted)
			}
			if dead.Interest() != 0 {
				t.Errorf("a deleted descriptor has interest in %v", dead.Interest())
			}
			if err := l.Del(live); err != nil {
				t.Error(err)
			}
			calls = [2]int{}
		})
		l.settle()
		l.do(func() {
			if calls != [2]int{} {
				t.Errorf("%v calls after Del", calls)
			}
		})
		for _, fd := range sockets {
			if n := drain(fd); n != 1 {
				t.Errorf("%d bytes left on a deleted descriptor, want 1", n)
			}
		}
	}
}

// The handler that comes first deletes the other descriptor, closes it, and a
// new one gets its number: the event in the batch must reach nobody.
func TestEventOfAClosedDescriptorIsNotTakenForANewOne(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	for range 20 {
		var d [2]Desc
		var fresh Desc
		var oldCalls, freshCalls [2]int // index 1: after the number was taken over
		var toFresh int
		var sockets [2]int
		taken := 0
		for i := range sockets {
			var peer int
			sockets[i], peer = fds.pair(t)
			mustWrite(t, peer, "x")
		}
		gotFresh := make(chan Events, 1)
		onFresh := handlerFunc(func(e Events) {
			freshCalls[taken]++
			if taken == 1 {
				gotFresh <- e
				if err := l.Del(&fresh); err != nil {
					t.Error(err)
				}
			}
		})
		h := func(me int) handlerFunc {
			return func(Events) {
				oldCalls[me]++
				other := 1 - me
				if err := errors.Join(l.Del(&d[me]), l.Del(&d[other])); err != nil {
					t.Error(err)
				}
				number := sockets[other]
				fds.close(number)
				a, b := fds.pair(t)
				if a != number && b != number {
					fds.moveTo(t, a, number)
				} else if b == number {
					a, b = b, a
				}
				toFresh = b
				if err := l.Add(&fresh, number, Readable, onFresh); err != nil {
					t.Error(err)
				}
			}
		}
		l.do(func() {
			for i := range d {
				if err := l.Add(&d[i], sockets[i], Readable, h(i)); err != nil {
					t.Error(err)
				}
			}
		})
		l.settle()
		l.do(func() {
			if oldCalls[0]+oldCalls[1] != 1 {
				t.Errorf("the two old handlers were called %v times, want one of them once", oldCalls)
			}
			if freshCalls[0] != 0 {
				t.Error("an event of the old descriptor reached the new one")
			}
			taken = 1
		})
		mustWrite(t, toFresh, "y")
		if e := receive(t, gotFresh, "an event of the new descriptor"); e != Readable {
			t.Errorf("the new descriptor is %v", e)
		}
		l.settle()
	}
}

func TestFailedAddLeavesNothing(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	file, err := os.CreateTemp(t.TempDir(), "") // epoll takes no files: EPERM
	if err != nil {
		t.Fatal(err)
	}
	number := int(file.Fd())
	var failed Desc
	var addErr, closedErr error
	l.do(func() {
		addErr = l.Add(&failed, number, Readable, handlerFunc(func(Events) { t.Error("the handler of a failed Add was called") }))
	})
	if !errors.Is(addErr, unix.EPERM) {
		t.Errorf("adding a file: %v, want EPERM", addErr)
	}
	if _, err := file.Stat(); err != nil {
		t.Errorf("the descriptor no longer belongs to the caller: %v", err)
	}
	file.Close()
	var second Desc
	l.do(func() {
		if err := l.Del(&failed); !errors.Is(err, ErrDeleted) {
			t.Errorf("deleting what was not added: %v, want %v", err, ErrDeleted)
		}
		closedErr = l.Add(&second, number, Readable, handlerFunc(func(Events) {}))
	})
	if !errors.Is(closedErr, unix.EBADF) {
		t.Errorf("adding a closed descriptor: %v, want EBADF", closedErr)
	}

	l.do(func() {
		if got := reflect.ValueOf(l.ep).Elem().FieldByName("callbacks").Len(); got != 2 {
			t.Errorf("easygo keeps %d callbacks, want those of the waker and the gate alone", got)
		}
	})

	// The number is as good as any other afterwards.
	a, b := fds.pair(t)
	if a != number {
		if b == number {
			a, b = b, a
		} else {
			fds.moveTo(t, a, number)
		}
	}
	ready := make(chan Events, 100)
	d := l.add(number, Readable, func(e Events) { ready <- e; drain(number) })
	mustWrite(t, b, "x")
	receive(t, ready, "an event of the number's next descriptor")
	l.del(d)
}

func TestDescriptorClosedWithoutDelDoesNotBarItsNumber(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	number, _ := fds.pair(t)
	l.add(number, Readable, func(e Events) { t.Errorf("the forgotten descriptor is %v", e) })
	fds.close(number) // the mistake

	a, b := fds.pair(t)
	if b == number {
		a, b = b, a
	} else if a != number {
		fds.moveTo(t, a, number)
	}
	ready := make(chan Events, 100)
	d := l.add(number, Readable, func(e Events) { ready <- e; drain(number) })
	mustWrite(t, b, "x")
	if e := receive(t, ready, "an event of the number's next descriptor"); e != Readable {
		t.Errorf("it is %v", e)
	}
	l.del(d)
}

// drain reads what is there.
func drain(fd int) (n int) {
	var buf [256]byte
	for {
		m, err := Read(fd, buf[:])
		if m == 0 || err != nil {
			return n
		}
		n += m
	}
}

func TestReadableComesAgainAsLongAsThereIsSomething(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	busy, toBusy := fds.pair(t)
	quiet, toQuiet := fds.pair(t)
	mustWrite(t, toBusy, "0123456789")
	mustWrite(t, toQuiet, "q")
	var order strings.Builder
	done := make(chan struct{})
	handler := func(fd int) handlerFunc {
		return func(Events) {
			var one [1]byte
			if n, err := Read(fd, one[:]); n != 1 || err != nil {
				t.Errorf("ready, but %d bytes and %v", n, err)
			}
			order.Write(one[:])
			if order.Len() == 11 {
				close(done)
			}
		}
	}
	var d [2]Desc
	l.do(func() {
		if err := errors.Join(l.Add(&d[0], busy, Readable, handler(busy)), l.Add(&d[1], quiet, Readable, handler(quiet))); err != nil {
			t.Error(err)
		}
	})
	receive(t, done, "all bytes, one for each event")
	l.del(&d[0])
	l.del(&d[1])
	if got := strings.Replace(order.String(), "q", "", 1); got != "0123456789" {
		t.Errorf("read %q", got)
	}
	if at := strings.Index(order.String(), "q"); at > 1 {
		t.Errorf("the quiet descriptor was served after %d bytes of the busy one", at)
	}
}

func TestInterestCanChange(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	a, b := fds.pair(t)
	var seen Events
	d := l.add(a, 0, func(e Events) { seen |= e })
	mustWrite(t, b, "x")
	for _, interest := range []Events{0, Readable, Writable, Readable | Writable, 0, 0} {
		l.do(func() {
			if err := l.Mod(d, interest); err != nil {
				t.Error(err)
			}
			if d.Interest() != interest || d.FD() != a {
				t.Errorf("descriptor %d has interest in %v, want %d, %v", d.FD(), d.Interest(), a, interest)
			}
			seen = 0
		})
		l.settle()
		l.do(func() {
			if seen != interest {
				t.Errorf("interest in %v, told %v", interest, seen)
			}
		})
	}
	l.del(d)
}

// What an earlier callback of a batch took out of a descriptor's interest is not told
// any more, although the kernel had reported it.
func TestEventOfTheSameBatchRespectsANewInterest(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	var ds [2]Desc
	told := 0
	first := make(chan struct{}, 2)
	l.do(func() { // while the loop is here, both become ready: one batch
		for i := range ds {
			a, b := fds.pair(t)
			mustWrite(t, b, "x")
			other := &ds[1-i]
			if err := l.Add(&ds[i], a, Readable, handlerFunc(func(Events) {
				told++
				if err := errors.Join(l.Mod(other, 0), l.Mod(&ds[i], 0)); err != nil {
					t.Error(err)
				}
				first <- struct{}{}
			})); err != nil {
				t.Error(err)
			}
		}
	})
	receive(t, first, "one of the two")
	l.settle()
	l.do(func() {
		if told != 1 {
			t.Errorf("%d were told, the second after its interest was gone", told)
		}
	})
	l.del(&ds[0])
	l.del(&ds[1])
}

// interestInKernel gives what the kernel reports of fd.
func interestInKernel(t *testing.T, p *Poller, fd int) (events uint32) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", reflect.ValueOf(p.ep).Elem().FieldByName("fd").Int()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var tfd int
		if n, _ := fmt.Sscanf(line, "tfd: %d events: %x", &tfd, &events); n == 2 && tfd == fd {
			return events
		}
	}
	t.Errorf("the kernel does not watch %d", fd)
	return 0
}

func TestHangupIsToldUnaskedAndUntilDel(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	a, b := fds.pair(t)
	events := make(chan Events, 1)
	var d Desc
	count := 0
	l.do(func() {
		if err := l.Add(&d, a, 0, handlerFunc(func(e Events) {
			if count++; count == 3 {
				events <- e
				if err := l.Del(&d); err != nil {
					t.Error(err)
				}
			}
		})); err != nil {
			t.Error(err)
		}
	})
	mustWrite(t, b, "last words")
	if err := ShutdownWrite(b); err != nil {
		t.Fatal(err)
	}
	l.settle()
	l.do(func() {
		if count != 0 {
			t.Error("a FIN alone counts as a hangup")
		}
		if asked := interestInKernel(t, l.Poller, a); asked&^(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			t.Errorf("interest in nothing asks the kernel for %#x: a FIN would make the loop spin", asked)
		}
	})
	fds.close(b)
	if e := receive(t, events, "the hangup to come a third time"); e&Hangup == 0 {
		t.Errorf("told %v, want hangup", e)
	}
	l.settle()
	l.do(func() {
		if count != 3 {
			t.Errorf("told %d times, and deleted at the third", count)
		}
	})
	var buf [64]byte
	if n, err := Read(a, buf[:]); string(buf[:n]) != "last words" || err != nil {
		t.Errorf("left to read after a hangup: %q, %v", buf[:n], err)
	}
}

func TestEventsHaveNames(t *testing.T) {
	for e, want := range map[Events]string{0: "none", Readable: "readable", Writable: "writable", Readable | Hangup: "readable|hangup"} {
		if got := e.String(); got != want {
			t.Errorf("%d is %q, want %q", e, got, want)
		}
	}
}

func TestDescServesOnce(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	a, _ := fds.pair(t)
	d := l.add(a, Readable, func(Events) {})
	l.del(d)
	l.do(func() {
		defer func() {
			if recover() == nil {
				t.Error("a Desc was used twice")
			}
		}()
		l.Add(d, a, Readable, handlerFunc(func(Events) {}))
	})
}
